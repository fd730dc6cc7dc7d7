"""The rollout half: the groups of a step sampled and shaped once more, compared with the saved ones.

Same prompts, seeds, sampling and plan rounds; the recipe's engine, in this process. An engine that is deterministic,
under the policy that sampled, gives the same tokens.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from learner.checkpoint_export import export_checkpoint
from rollout.plans.base import FinishedRound
from rollout.requests import GroupFactory, OpenGroup
from rollout.sources.base import PromptSource
from rollout.worker import RolloutWorker
from services.group_files import SavedGroup
from services.ports import ShapedSummary
from services.replay.saved_step import ReplayPolicy, SavedStep
from services.roles.prompts import build_renderer, make_factory
from services.roles.rollout import build_rollout_worker
from services.roles.shaping import ShapingRole, build_shaping_role
from services.run_store import LEARNER_DIR, STATE_FILE
from services.snapshot import RunSnapshot
from shaping.checks import FloatArray
from shaping.components import load
from shaping.errors import DataError
from shaping.records import Prompt, RolloutGroup, TokenSource
from shaping.training import TrainingSample


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupComparison:
    """A group as it was saved, and as it was sampled now. Differences are over tokens up to the first other one.

    Args:
        policy_version: that sampled its first token in the run.
        drop: why it is dropped now; "" where it is not.
        num_rollouts: that were trained.
        num_equal: rollouts of which every token is the same.
        num_correct, num_correct_saved: rollouts that reward called correct.
        max_logprob_difference, max_entropy_difference: nats.
        max_advantage_difference: of rollouts with equal tokens.
    """

    group_id: str
    prompt_id: str
    policy_version: int
    drop: str
    num_rollouts: int
    num_equal: int
    num_correct: int
    num_correct_saved: int
    max_logprob_difference: float
    max_entropy_difference: float
    max_advantage_difference: float

    @property
    def is_same(self) -> bool:
        return not self.drop and self.num_equal == self.num_rollouts and self.num_correct == self.num_correct_saved


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutReplay:
    """All groups of the step, in its order."""

    engine: str
    groups: tuple[GroupComparison, ...]

    @property
    def is_well(self) -> bool:
        return all(each.is_same for each in self.groups)

    def as_dict(self) -> dict[str, Any]:
        return {
            "is_same": self.is_well,
            "engine": self.engine,
            "groups": [{**asdict(each), "is_same": each.is_same} for each in self.groups],
        }

    def print(self, console: Console) -> None:
        """A row per group, then the verdict."""
        console.print(Text(f"engine: {self.engine}"), soft_wrap=True)
        table = Table(box=None, pad_edge=False)
        table.add_column("\ngroup", no_wrap=True)
        headings = ("\nversion", "same\ntokens", "correct\n(saved)", "log-prob\ndiffers", "entropy\ndiffers")
        for heading in (*headings, "advantage\ndiffers"):
            table.add_column(heading, justify="right", no_wrap=True)
        for each in self.groups:
            differences = (each.max_logprob_difference, each.max_entropy_difference, each.max_advantage_difference)
            table.add_row(
                each.group_id,
                str(each.policy_version),
                f"{each.num_equal} of {each.num_rollouts}",
                f"{each.num_correct} ({each.num_correct_saved})",
                *(f"{number:.1e}" for number in differences),
            )
        console.print(table)
        for each in self.groups:
            if each.drop:
                console.print(Text(f"{each.group_id} is dropped now: {each.drop}"), soft_wrap=True)
        same = sum(each.is_same for each in self.groups)
        console.print(Text(f"{same} of {len(self.groups)} groups are the same, token by token"), soft_wrap=True)


def replay_rollout(step: SavedStep, policy: ReplayPolicy) -> RolloutReplay:
    """Sample the step's groups again.

    Raises:
        DataError: the run's data have another prompt in the place of one of these.
        CheckpointError: the policy's checkpoint does not fit the run's starting policy.
        EngineRefused: the engine failed its proof under this policy.
        RunFailed: the engine failed.
    """
    recipe = step.recipe
    renderer = build_renderer(recipe)
    source: PromptSource = load("rollout.sources", recipe.data.train, "data.train").build()
    factory = make_factory(recipe, renderer, source)
    if policy.checkpoint:
        factory.restore(RunSnapshot.from_json(policy.checkpoint.read_json(STATE_FILE)).factory)
    prompts = _prompts(step, source)
    opened = [
        OpenGroup(
            ordinal=line.ordinal,
            prompt=prompts[line.prompt_id],
            visit=line.visit,
            prompt_ids=renderer.prompt_ids(prompts[line.prompt_id]),
            recalled=factory.recalled(line.prompt_id),
        )
        for line in step.skipped.lines
    ]
    for group, (_, samples) in zip(opened, step.groups, strict=True):
        _check_prompt(group, samples[0])
    with TemporaryDirectory(prefix="lessrl-replay-") as folder:
        if policy.checkpoint:
            export_checkpoint(policy.checkpoint.path / LEARNER_DIR, recipe.model.path, Path(folder))
            recipe = recipe.model_copy(update={"model": replace(recipe.model, path=folder)})
        worker = build_rollout_worker(recipe, 0, policy_version=policy.version)
        return asyncio.run(_Sampler(worker, build_shaping_role(recipe), factory).compare(opened, step.groups))


class _Sampler:
    def __init__(self, worker: RolloutWorker, shaping: ShapingRole, factory: GroupFactory) -> None:
        self._worker = worker
        self._shaping = shaping
        self._factory = factory

    async def compare(self, opened: Sequence[OpenGroup], saved: Sequence[SavedGroup]) -> RolloutReplay:
        try:
            info = await self._worker.start()
            self._shaping.warm_up()
            pairs = zip(opened, saved, strict=True)
            groups = await asyncio.gather(*(self._compare(group, each) for group, each in pairs))
        finally:
            self._shaping.close()
            await self._worker.close()
        return RolloutReplay(engine=info.description, groups=tuple(groups))

    async def _compare(self, group: OpenGroup, saved: SavedGroup) -> GroupComparison:
        rounds = await self._sample(group, step=saved[0].min_policy_version)
        return compare_group(group.prompt.prompt_id, saved, self._shaping.shape(rounds))

    async def _sample(self, group: OpenGroup, *, step: int) -> tuple[RolloutGroup, ...]:
        """Its rounds, as services/group_loop.py samples them."""
        rounds: list[RolloutGroup] = []
        while planned := self._factory.next_request(group, num_rounds_done=len(rounds), step=step):
            plan_round, request = planned
            _, sampled = await self._worker.generate(request)
            rounds.append(sampled)
            if self._factory.scores_rounds:
                outcome = self._shaping.score(sampled)
                rewards = np.array(outcome.rewards, dtype=np.float32)
                group.finished.append(FinishedRound(round=plan_round, rewards=rewards, num_correct=outcome.num_correct))
        return tuple(rounds)


def compare_group(
    prompt_id: str, saved: SavedGroup, sampled: tuple[ShapedSummary, tuple[TrainingSample, ...]]
) -> GroupComparison:
    """What differs between two shapings of one group."""
    (summary, samples), (now, now_samples) = saved, sampled
    found = {each.rollout_index: each for each in now_samples}
    pairs = [(each, found[each.rollout_index]) for each in samples if each.rollout_index in found]
    shared = [(old, new, _num_shared(old, new)) for old, new in pairs]
    equal = [(old, new, size) for old, new, size in shared if size == old.num_tokens == new.num_tokens]
    return GroupComparison(
        group_id=summary.group_id,
        prompt_id=prompt_id,
        policy_version=summary.min_policy_version,
        drop=f"{now.drop.reason.value}: {now.drop.detail}" if now.drop else "",
        num_rollouts=len(samples),
        num_equal=len(equal),
        num_correct=now.num_correct,
        num_correct_saved=summary.num_correct,
        max_logprob_difference=_largest(
            [(old.behavior_logprobs[:size], new.behavior_logprobs[:size]) for old, new, size in shared]
        ),
        max_entropy_difference=_largest([(old.entropies[:size], new.entropies[:size]) for old, new, size in shared]),
        max_advantage_difference=_largest([(old.advantages, new.advantages) for old, new, _ in equal]),
    )


def _num_shared(old: TrainingSample, new: TrainingSample) -> int:
    """Tokens before the first that differs."""
    size = min(old.num_tokens, new.num_tokens)
    differs = np.flatnonzero(old.token_ids[:size] != new.token_ids[:size])
    return int(differs[0]) if len(differs) else size


def _largest(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> float:
    return max((float(np.abs(old - new).max()) for old, new in pairs if len(old)), default=0.0)


def _prompts(step: SavedStep, source: PromptSource) -> dict[str, Prompt]:
    """The step's prompts, by id."""
    wanted = {line.prompt_id for line in step.skipped.lines}
    found = {
        prompt.prompt_id: prompt for index in range(len(source)) if (prompt := source.prompt(index)).prompt_id in wanted
    }
    if missing := sorted(wanted - set(found)):
        raise DataError(f"the run's data must hold its prompts, found no {missing[0]!r} (data.train); put them back")
    return found


def _check_prompt(group: OpenGroup, sample: TrainingSample) -> None:
    if not np.array_equal(group.prompt_ids, sample.token_ids[sample.token_sources == TokenSource.PROMPT]):
        raise DataError(
            f"the run's data must be as they were: prompt {group.prompt.prompt_id!r} has other tokens than group "
            f"{group.group_id} was sampled for (data.train); put them back"
        )
