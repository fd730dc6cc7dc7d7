"""The learner's half: the saved groups of a step through its loss and gradient once more, as they were planned."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from learner.batch_plan import MiniBatchPlan
from learner.replay import Pass, StepReplay, UpdateReplay
from learner.work import MiniBatchWork, StepWork
from services.group_loop import BufferedGroup
from services.ports import ShapedHandle
from services.replay.saved_step import ReplayPolicy, SavedStep
from services.run_store import LEARNER_DIR
from services.schedules import sampling_at
from services.step_report import plan_step


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerReplay:
    """What became of the step.

    Args:
        updates: up to the first that is not finite.
        num_planned: updates of the whole step.
    """

    updates: tuple[UpdateReplay, ...]
    num_planned: int

    @property
    def is_well(self) -> bool:
        return all(each.whole.is_finite for each in self.updates)

    @property
    def not_finite(self) -> dict[str, list[int]]:
        """Groups that are not finite alone, by id, with those of their rollouts that are not finite alone."""
        return {
            group.group_id: [index for index, each in group.rollouts.items() if not each.is_finite]
            for update in self.updates
            for group in update.groups
            if not group.alone.is_finite
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain data; a number that is not finite is null."""
        return {
            "is_finite": self.is_well,
            "not_finite": self.not_finite,
            "num_planned_updates": self.num_planned,
            "updates": [
                {
                    **_figures(update.whole),
                    "groups": {
                        group.group_id: {
                            **_figures(group.alone),
                            "rollouts": {str(index): _figures(each) for index, each in group.rollouts.items()},
                        }
                        for group in update.groups
                    },
                }
                for update in self.updates
            ],
        }

    def print(self, console: Console) -> None:
        """A row per update and group, and per rollout of a group that is not finite; then the verdict."""
        table = Table(box=None, pad_edge=False)
        table.add_column("trained together", no_wrap=True)
        for heading in ("loss", "gradient norm", "largest |log-ratio|"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for number, update in enumerate(self.updates, start=1):
            _add_row(table, f"update {number} of {self.num_planned}", update.whole)
            for group in update.groups:
                _add_row(table, f"  {group.group_id}", group.alone)
                for index, each in group.rollouts.items():
                    _add_row(table, f"    rollout {index}", each)
        console.print(table)
        console.print(Text(self._verdict()), soft_wrap=True)

    def _verdict(self) -> str:
        if self.is_well:
            return "every update is finite in this replay"
        cause, groups = self.updates[-1].whole.not_finite, self.not_finite
        if not groups:
            return f"{cause}; every group alone is finite"
        return f"{cause}; not finite alone: {', '.join(groups)}"


def replay_learner(step: SavedStep, policy: ReplayPolicy) -> LearnerReplay:
    """Train the step's groups with the run's plan, in memory.

    Raises:
        CheckpointError: the policy's checkpoint does not fit the run's starting policy.
        RecipeError: no readable starting policy.
    """
    recipe, number = step.recipe, step.trained_version
    waiting = [
        BufferedGroup(
            group_id=line.group_id,
            prompt_id=line.prompt_id,
            visit=line.visit,
            shaped=ShapedHandle(ref=samples, summary=summary),
            num_response_tokens=sum(sample.num_valid_tokens for sample in samples),
        )
        for line, (summary, samples) in zip(step.skipped.lines, step.groups, strict=True)
    ]
    plan = plan_step(waiting, recipe.learner, seed=recipe.seed, step=number)
    work = StepWork(
        step=number,
        policy_version=number,
        temperature=sampling_at(recipe.rollout.sampling)(number).temperature,
        entropy_source=recipe.rollout.sampling.entropy_source,
        mini_batches=tuple(_on_one_rank(step, each) for each in plan.mini_batches),
    )
    replay = StepReplay(
        recipe.learner,
        model_path=recipe.model.path,
        seed=recipe.seed,
        saved=policy.checkpoint.path / LEARNER_DIR if policy.checkpoint else None,
    )
    try:
        return LearnerReplay(updates=tuple(replay.run(work)), num_planned=len(work.mini_batches))
    finally:
        replay.close()


def _on_one_rank(step: SavedStep, plan: MiniBatchPlan) -> MiniBatchWork:
    """The micro-batches of all ranks, one rank after another."""
    planned = [sizes for rank in plan.micro_batches for sizes in rank if sizes]
    return MiniBatchWork(
        micro_batches=tuple(
            tuple(step.groups[size.group_index][1][size.sample_index] for size in sizes) for sizes in planned
        ),
        num_valid_tokens=plan.num_valid_tokens,
    )


def _figures(found: Pass) -> dict[str, Any]:
    return {
        "is_finite": found.is_finite,
        "loss": found.loss,
        "grad_norm": found.grad_norm,
        "max_log_ratio_nats": found.max_log_ratio,
    }


def _add_row(table: Table, name: str, found: Pass) -> None:
    numbers = (found.loss, found.grad_norm, found.max_log_ratio)
    table.add_row(name, *(f"{each:.4g}" for each in numbers), "" if found.is_finite else "not finite")
