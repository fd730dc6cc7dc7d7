"""The shaping role: groups in, a summary that travels and samples that stay; some groups are written down."""

from collections.abc import Sequence
from pathlib import Path

from learner.batch_plan import SampleSize
from services.group_dump import GroupDump, open_dump
from services.group_files import read_groups, write_groups
from services.ports import RoundOutcome, ShapedSummary
from services.recipe import Recipe
from shaping.errors import CheckpointError
from shaping.groups import Drop
from shaping.pipeline import DroppedGroup, ShapingPipeline
from shaping.records import RolloutGroup
from shaping.stored_files import StoredFile
from shaping.training import TrainingSample

Samples = tuple[TrainingSample, ...]


class ShapingRole:
    """Splits what the pipeline gives into what the orchestrator sees and what the learner reads.

    Args:
        dump: is offered every group that is trained.
    """

    def __init__(self, pipeline: ShapingPipeline, dump: GroupDump | None = None) -> None:
        self._pipeline = pipeline
        self._dump = dump

    def warm_up(self) -> None:
        """Compile what the first group would otherwise wait for."""
        self._pipeline.warm_up()

    def score(self, group: RolloutGroup) -> RoundOutcome:
        """Rewards of one round; none when no rollout got a verdict."""
        scored = self._pipeline.score(group)
        if isinstance(scored, Drop):
            return RoundOutcome(rewards=(), num_correct=0)
        return RoundOutcome(rewards=tuple(scored.rewards.tolist()), num_correct=int(scored.correct.sum()))

    def shape(self, rounds: tuple[RolloutGroup, ...]) -> tuple[ShapedSummary, tuple[TrainingSample, ...]]:
        """Shape a finished group."""
        result = self._pipeline.shape(rounds)
        samples = () if isinstance(result, DroppedGroup) else result.samples
        if self._dump is not None and not isinstance(result, DroppedGroup):
            self._dump.offer(result)
        summary = ShapedSummary(
            group_id=result.group_id,
            samples=tuple(_size(index, sample) for index, sample in enumerate(samples)),
            drop=result.drop if isinstance(result, DroppedGroup) else None,
            metrics=result.metrics,
            num_correct=result.num_correct,
            num_scored=result.num_scored,
            min_policy_version=min(each.min_policy_version for each in rounds),
        )
        return summary, samples

    def save_groups(self, groups: Sequence[tuple[ShapedSummary, Samples]], file: str) -> StoredFile:
        """Write shaped groups to a new file."""
        return write_groups(Path(file), groups)

    def load_groups(self, file: str, num_groups: int) -> tuple[tuple[ShapedSummary, Samples], ...]:
        """Read what `save_groups` wrote.

        Raises:
            CheckpointError: damaged, or another number of groups.
        """
        groups = read_groups(Path(file))
        if len(groups) != num_groups:
            raise CheckpointError(f"a groups file must hold {num_groups} groups, found {len(groups)} ({file})")
        return groups


def build_shaping_role(recipe: Recipe, groups: Path | None = None) -> ShapingRole:
    """Build the role.

    Args:
        groups: file for the groups that the recipe wants dumped; None dumps none.
    Raises:
        DataError: groups are to be dumped, and the model has no tokenizer that can be read.
    """
    return ShapingRole(ShapingPipeline(recipe.shaping), open_dump(recipe, groups) if groups is not None else None)


def _size(index: int, sample: TrainingSample) -> SampleSize:
    return SampleSize(
        group_index=0,
        sample_index=index,
        num_tokens=sample.num_tokens,
        num_valid_tokens=sample.num_valid_tokens,
    )
