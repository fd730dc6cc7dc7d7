"""The shaping role: groups in, a summary that travels and samples that stay; some groups are written down."""

import time
from collections.abc import Sequence
from pathlib import Path

from learner.batch_plan import SampleSize
from services.group_dump import GroupDump, open_dump
from services.group_files import read_groups, write_groups
from services.ports import RoundOutcome, ShapedSummary
from services.recipe import Recipe
from services.token_names import load_decoder
from shaping.config import RewardConfig
from shaping.errors import CheckpointError
from shaping.evaluation.answers import GradedResponse
from shaping.groups import Drop, Verdict
from shaping.pipeline import DroppedGroup, ShapingPipeline
from shaping.records import Rollout, RolloutGroup, StopReason
from shaping.rewards.base import reward_request
from shaping.signals import Signal
from shaping.stored_files import StoredFile
from shaping.training import TrainingSample
from shaping.verification.judge import ScoreTask
from shaping.verification.pooled_judge import make_judge

Samples = tuple[TrainingSample, ...]


class ShapingRole:
    """Splits what the pipeline gives into what the orchestrator sees and what the learner reads.

    Args:
        dump: is offered every group that is trained.
        groups: file for what a later recipe wants dumped; None dumps none.
    """

    def __init__(self, pipeline: ShapingPipeline, dump: GroupDump | None = None, *, groups: Path | None = None) -> None:
        self._pipeline = pipeline
        self._dump = dump
        self._groups = groups

    def warm_up(self) -> None:
        """Start the verifiers, and compile what the first group would otherwise wait for.

        Raises:
            RunFailed: the verifiers do not judge known answers as they must.
        """
        self._pipeline.warm_up()

    def configure(self, recipe: Recipe) -> None:
        """Shape by this recipe from the next group on.

        Raises:
            RecipeError: it differs in something that the role was built with; nothing has changed then.
        """
        pipeline = self._pipeline.reconfigured(recipe.shaping)
        if self._groups is not None:
            self._dump = open_dump(recipe, self._groups, self._dump)
        self._pipeline = pipeline

    def close(self) -> None:
        """End the verifiers."""
        self._pipeline.close()

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
            excluded=result.excluded,
            remembered=result.remembered,
        )
        return summary, samples

    def grade(self, group: RolloutGroup, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        """Texts and verdicts of a round of an evaluation, which is not shaped."""
        limit = group.max_response_tokens
        requests = [reward_request(each, group.prompt, max_response_tokens=limit) for each in group.rollouts]
        results = self._pipeline.judge.score([ScoreTask(reward=reward, request=request) for request in requests])
        pairs = zip(group.rollouts, results, strict=True)
        return tuple(_graded(rollout, result.verdict) for rollout, result in pairs)

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
        DataError: groups are to be dumped or responses cut, and the model has no tokenizer that can be read.
    """
    judge = make_judge(recipe.shaping.verifiers, recipe.shaping.rewards)
    dump = open_dump(recipe, groups) if groups is not None else None
    needs_text = Signal.TOKEN_TEXT in ShapingPipeline(recipe.shaping).needs
    decode = load_decoder(recipe.model.path) if needs_text else None
    pipeline = ShapingPipeline(recipe.shaping, judge=judge, clock=time.perf_counter, decode=decode)
    return ShapingRole(pipeline, dump, groups=groups)


def _graded(rollout: Rollout, verdict: Verdict) -> GradedResponse:
    return GradedResponse(
        response_text=rollout.response_text,
        status=verdict.status,
        extracted=verdict.extracted,
        detail=verdict.detail,
        num_tokens=rollout.num_tokens,
        is_truncated=rollout.stop_reason is StopReason.LENGTH,
        min_policy_version=rollout.min_policy_version,
        max_policy_version=rollout.max_policy_version,
    )


def _size(index: int, sample: TrainingSample) -> SampleSize:
    return SampleSize(
        group_index=0,
        sample_index=index,
        num_tokens=sample.num_tokens,
        num_valid_tokens=sample.num_valid_tokens,
    )
