"""One simulated run: a recipe, its number of workers and its service times in, what came of it out."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rollout.render import Renderer
from rollout.requests import GroupFactory
from rollout.rows import LoadedPrompts
from services.buffer_plan import buffer_config
from services.collector import collected_rarely
from services.orchestrator import Orchestrator
from services.recipe import Recipe
from services.reports import StepReport
from services.roles.prompts import make_factory
from services.session import orchestrator_config
from services.simulation.roles import (
    ShapedMetrics,
    SimulatedControl,
    SimulatedLearner,
    SimulatedRollout,
    SimulatedShaping,
    SimulatedStore,
)
from services.simulation.service_times import Distribution, Draws, ResponseLengths, ServiceTimes
from services.virtual_time import run_virtual, virtual_clock
from services.weight_sync import WeightSync
from shaping.errors import RunFailed
from shaping.example_group import example_group
from shaping.groups import DropReason
from shaping.metrics_group import outcome_metrics
from shaping.pipeline import ShapingPipeline
from shaping.records import Message, Prompt

NUM_PROMPTS = 4096
MIN_EFFICIENCY = 0.9
ADVICE = {
    "rollout": "raise rollout.num_workers",
    "shaping": "raise cluster.num_shaping_workers",
    "learner": "raise learner.num_ranks",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRun:
    """What came of a simulated run. Seconds are those of the virtual clock, but for CPU time.

    Means and shares are over the steps after those in which the pipeline fills: as many as groups may be versions old,
    and one.

    Args:
        failure: why the run ended early; "" where it did not. Then the rest is of the steps before.
        num_slots: groups that all engines together decode at a time.
        num_groups: that ended, over the whole run.
        max_groups: that may be in the system at a time.
        step_s: mean time of a step, of which `train_s` and `sync_s` are the learner's.
        generation_s: time that all slots need for the groups of a step; `shaping_s` that of all shaping workers.
        learner_idle_share: of a step in which the learner has no batch.
        rollout_idle_share: of all slots.
        staleness: trained groups by staleness.
        cpu_us_per_group: CPU time of the whole process, the simulated roles included, per group that ended.
    """

    num_workers: int
    num_slots: int
    num_steps: int
    num_groups: int
    failure: str
    step_s: float
    train_s: float
    sync_s: float
    generation_s: float
    shaping_s: float
    max_groups: int
    learner_idle_share: float
    rollout_idle_share: float
    staleness: tuple[int, ...]
    keep_share: float
    groups_per_s: float
    tokens_per_s: float
    cpu_us_per_group: float

    @property
    def bound_s(self) -> float:
        """Least time of a step: the slower of both sides, and the weight sync."""
        return max(self.generation_s, self.shaping_s, self.train_s) + self.sync_s

    @property
    def efficiency(self) -> float:
        """Bound over what a step took; above 1 where decoding is the slower side and goes on during the weight sync."""
        return self.bound_s / self.step_s if self.step_s else 0.0

    @property
    def bottleneck(self) -> str:
        """The side that sets the pace; "waiting" where no side is busy for most of a step."""
        sides = {"rollout": self.generation_s, "shaping": self.shaping_s, "learner": self.train_s}
        slowest = max(sides, key=lambda each: sides[each])
        return slowest if self.efficiency >= MIN_EFFICIENCY else "waiting"

    @property
    def advice(self) -> str:
        """What to enlarge."""
        if self.bottleneck == "waiting":
            return "raise run.max_staleness or rollout.groups_per_step"
        if self.bottleneck == "rollout" and self.num_slots > self.max_groups:
            return "raise rollout.groups_per_step or run.max_staleness: engines have no groups to decode"
        return ADVICE[self.bottleneck]

    @property
    def staleness_mean(self) -> float:
        total = sum(self.staleness)
        return sum(age * count for age, count in enumerate(self.staleness)) / total if total else 0.0

    @property
    def staleness_max(self) -> int:
        return len(self.staleness) - 1 if self.staleness else 0


def simulate(recipe: Recipe, times: ServiceTimes, *, num_workers: int) -> SimulatedRun:
    """Run a recipe's orchestrator over simulated roles, without evaluation and checkpoints.

    Args:
        num_workers: rollout workers, in place of the recipe's.
    """
    simulation = _Simulation(recipe, times, num_workers)
    with collected_rarely():
        began = time.process_time()
        failure = run_virtual(simulation.run())
        return simulation.result(failure, time.process_time() - began)


class _Simulation:
    """The parts of a simulated run."""

    def __init__(self, recipe: Recipe, times: ServiceTimes, num_workers: int) -> None:
        self._recipe = recipe
        lengths = ResponseLengths(times.response_tokens, recipe.rollout.sampling.max_response_tokens)
        num_slots = max(1, recipe.rollout.engine.max_num_seqs // recipe.rollout.group_size)
        commit_s = Draws(times.commit_s, "commit")
        self._rollout = [
            SimulatedRollout(
                f"rollout-{index}",
                num_slots=num_slots,
                decode_token_s=times.decode_token_s,
                lengths=lengths,
                commit_s=commit_s,
            )
            for index in range(num_workers)
        ]
        metrics, chances = _shaped_metrics(recipe), Draws(Distribution(kind="uniform", mean=0.5), "kept")
        self._shaping = [
            SimulatedShaping(f"shaping-{index}", times, metrics, chances)
            for index in range(recipe.cluster.num_shaping_workers)
        ]
        self._learner = SimulatedLearner(times)
        self._control = SimulatedControl()
        self._store = SimulatedStore()
        self._factory = _synthetic_factory(recipe, times.prompt_tokens)

    async def run(self) -> str:
        """Returns why the run failed, or ""."""
        sync = WeightSync(
            learner=self._learner,
            workers_per_engine=1,
            deadline_seconds=self._recipe.run.deadlines.weights_seconds,
            clock=virtual_clock,
        )
        orchestrator = Orchestrator(
            replace(orchestrator_config(self._recipe), checkpoint_every=0, tell_seconds=0),
            factory=self._factory,
            rollout=self._rollout,
            shaping=self._shaping,
            learner=self._learner,
            sync=sync,
            evaluation=None,
            control=self._control,
            store=self._store,
            clock=virtual_clock,
        )
        try:
            await orchestrator.run()
        except RunFailed as failure:
            return str(failure)
        return ""

    def result(self, failure: str, cpu_s: float) -> SimulatedRun:
        steps, num_groups = self._control.steps, len(self._store.ended)
        buffer = buffer_config(self._recipe)
        measured = steps[buffer.max_age_versions + 1 :] or steps
        num_slots = sum(each.num_slots for each in self._rollout)
        shaping_s = sum(each.busy_s for each in self._shaping) / max(1, num_groups) / len(self._shaping)
        slot_s = sum(each.busy_slot_s for each in self._rollout) / max(1, num_groups)
        seconds = sum(each.step_seconds for each in measured) or math.inf
        num_measured = max(1, len(measured))
        ended = sum(sum(each.groups.values()) for each in measured)
        ages = Counter(self._learner.staleness)
        return SimulatedRun(
            num_workers=len(self._rollout),
            num_slots=num_slots,
            num_steps=len(steps),
            num_groups=num_groups,
            failure=failure,
            step_s=seconds / num_measured if measured else 0.0,
            train_s=_phase(measured, "train") / num_measured,
            sync_s=_phase(measured, "weight_sync") / num_measured,
            generation_s=slot_s * ended / num_measured / min(num_slots, buffer.max_groups),
            shaping_s=shaping_s * ended / num_measured,
            max_groups=buffer.max_groups,
            learner_idle_share=_phase(measured, "wait_batch") / seconds,
            rollout_idle_share=max(0.0, 1 - slot_s * ended / seconds / num_slots),
            staleness=tuple(ages[age] for age in range(max(ages, default=-1) + 1)),
            keep_share=sum(each.groups["trained"] for each in measured) / max(1, ended),
            groups_per_s=ended / seconds,
            tokens_per_s=sum(each.num_response_tokens for each in measured) / seconds,
            cpu_us_per_group=1e6 * cpu_s / max(1, num_groups),
        )


def _phase(steps: Sequence[StepReport], phase: str) -> float:
    return sum(each.phase_seconds.get(phase, 0.0) for each in steps)


def _shaped_metrics(recipe: Recipe) -> ShapedMetrics:
    """What the recipe's own shaping measures, so that merging it costs what it costs in a run."""
    example = example_group()
    kept = dict(ShapingPipeline(recipe.shaping).shape_scored(example.group, example).metrics)
    return ShapedMetrics(kept=kept, dropped={**kept, **outcome_metrics(DropReason.NO_SIGNAL)})


def _synthetic_factory(recipe: Recipe, num_tokens: int) -> GroupFactory:
    """The recipe's selector, rollout plan and memory over prompts that nobody wrote."""
    prompts = tuple(
        Prompt(
            prompt_id=f"p{index:06d}",
            messages=(Message(role="user", content=f"{index}"),),
            reference_answer=f"{index}",
            position=index,
            solution_steps=("a step", "another"),
        )
        for index in range(NUM_PROMPTS)
    )
    ids = {"input_ids": np.zeros(num_tokens, np.int32)}
    # Hints are of as many tokens as prompts here, and both must fit.
    renderer = Renderer(lambda *_, **__: ids, template="plain", max_prompt_tokens=2 * num_tokens)
    source = LoadedPrompts(prompts=prompts, has_solution_steps=True, skipped_rows=())
    return make_factory(recipe, renderer, source)
