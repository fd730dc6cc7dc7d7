"""The shaping pipeline (DESIGN hops 4 to 7): the rounds of a group in, training samples or a drop with its reason out.

Flow: score -> transforms -> segments -> base advantages -> shapers -> samples. Everything it does is a pure function of
the group and the recipe. Knows no queue, process or learner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from shaping.checks import FloatArray, IntArray
from shaping.components import Component, load
from shaping.config import RewardConfig, ShapingConfig
from shaping.cutting import Decode, cut_group
from shaping.errors import RecipeError
from shaping.estimators.base import AdvantageEstimator
from shaping.example_group import example_group
from shaping.groups import Drop, DropReason, ScoredGroup, SegmentedGroup, ShapedGroup, Verdict
from shaping.histograms import SHORT_SECONDS, Histogram
from shaping.metrics import Metric, Sum, merge_metrics
from shaping.metrics_group import (
    added_reward_metrics,
    advantage_metrics,
    multiplier_metrics,
    outcome_metrics,
    score_metrics,
    segment_metrics,
    verdict_metrics,
)
from shaping.records import RolloutGroup, merge_rounds
from shaping.samples import to_samples
from shaping.scoring import RewardSum, build_rewards, load_rewards, score_again, score_group
from shaping.segments import segment_group
from shaping.shapers.base import Shaper
from shaping.signals import Signal
from shaping.training import TrainingSample
from shaping.transforms.base import Cut, GroupTransform
from shaping.verification.judge import InProcessJudge, Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainableGroup:
    """A group that goes to the learner.

    Args:
        num_correct, num_scored: rollouts as scored, before any transform.
        excluded: verdicts of the rollouts that were left out of scoring, also of one that was cut and judged again.
        shaped: what its advantages follow from, for explanations; `samples` alone is what the learner reads.
        metrics: numbers of this group, to be merged over groups.
        remembered: of its `ScoredGroup`, after the transforms.
    """

    group_id: str
    prompt_id: str
    samples: tuple[TrainingSample, ...]
    shaped: ShapedGroup
    num_correct: int
    num_scored: int
    excluded: tuple[Verdict, ...]
    metrics: dict[str, Metric]
    remembered: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedGroup:
    """A group that is not trained; `num_scored` is 0 when no rollout was decided."""

    group_id: str
    prompt_id: str
    drop: Drop
    num_correct: int
    num_scored: int
    excluded: tuple[Verdict, ...]
    metrics: dict[str, Metric]
    remembered: Mapping[str, float] = field(default_factory=dict)


ShapingResult = TrainableGroup | DroppedGroup
"""What became of a group. Two types instead of one with gaps: a TrainableGroup has samples, a DroppedGroup a reason."""


class ShapingPipeline:
    """Scores and shapes groups as a recipe says.

    Args:
        config: the recipe's `shaping`.
        judge: computes the rewards; None judges in this process.
        clock: seconds that only rise, to say of each group how long it took; None says nothing of time.
        decode: text of token ids, as the engine decodes them; None where nothing needs Signal.TOKEN_TEXT.
    Raises:
        RecipeError: an unknown kind or option, or not exactly one deciding reward.
    """

    def __init__(
        self,
        config: ShapingConfig,
        *,
        judge: Judge | None = None,
        clock: Callable[[], float] | None = None,
        decode: Decode | None = None,
        where: str = "shaping",
    ) -> None:
        rewards = load_rewards(config.rewards, f"{where}.rewards")
        transforms = [load("shaping.transforms", spec, f"{where}.transforms") for spec in config.transforms]
        estimator = load("shaping.estimators", config.estimator, f"{where}.estimator")
        shapers = [load("shaping.shapers", spec, f"{where}.shapers") for spec in config.shapers]
        self.config = config
        self.judge: Judge = judge or InProcessJudge()
        self._clock = clock
        self._decode = decode
        self.components: tuple[Component, ...] = (*rewards, *transforms, estimator, *shapers)
        self._rewards: RewardSum = build_rewards(config.rewards, rewards, f"{where}.rewards")
        self._transforms: list[GroupTransform] = [component.build() for component in transforms]
        self._estimator: AdvantageEstimator = estimator.build()
        self._shapers: list[Shaper] = [component.build() for component in shapers]

    @property
    def needs(self) -> frozenset[Signal]:
        """Signals that the run must supply; VERDICTS come from the rewards themselves."""
        return frozenset[Signal]().union(*(component.needs for component in self.components))

    @property
    def measuring_reward(self) -> RewardConfig:
        """The reward that says how good a policy is: one of weight 0, which pays nothing, else the deciding one.

        Without what makes it a part of a sum, so that it is the same in runs that pay it differently.
        """
        unpaid = (part.config for part in self._rewards.parts if part.weight == 0)
        chosen = next(unpaid, self._rewards.deciding.config)
        options = {name: value for name, value in chosen.options.items() if name != "decides"}
        return RewardConfig(kind=chosen.kind, options=options)

    def warm_up(self) -> None:
        """Start the judge, and compile what `shape` will call, or load it from the cache on disk: no step waits for it.

        Seconds where nothing is cached.

        Raises:
            RecipeError: as `check_signals`.
            RunFailed: the verifiers do not judge known answers as they must.
        """
        self.check_signals()
        self.judge.start()
        self._compile()

    def reconfigured(self, config: ShapingConfig) -> "ShapingPipeline":
        """A pipeline with other options and the same judge, which goes on; compiled as after `warm_up`.

        Raises:
            RecipeError: other rewards or verifiers, which the judge was made for, an option that cannot be, or as
                `check_signals`.
        """
        if (config.rewards, config.verifiers) != (self.config.rewards, self.config.verifiers):
            raise RecipeError(
                "rewards and verifiers must stay as they were while groups are shaped, found others (shaping.rewards, "
                "shaping.verifiers)"
            )
        pipeline = ShapingPipeline(config, judge=self.judge, clock=self._clock, decode=self._decode)
        pipeline.check_signals()
        pipeline._compile()
        return pipeline

    def check_signals(self) -> None:
        """Refuse to shape without what this pipeline itself must be given.

        Raises:
            RecipeError: a component that needs the text of tokens, and no `decode`.
        """
        needing = next((each.kind for each in self.components if Signal.TOKEN_TEXT in each.needs), None)
        if needing is not None and self._decode is None:
            raise RecipeError(
                f"{needing} needs {Signal.TOKEN_TEXT.value}, found a pipeline without it; give it `decode`, the "
                "policy's tokenizer (shaping)"
            )

    def _compile(self) -> None:
        # What is compiled depends on neither number, and with these the example has a segment.
        rule = replace(self.config.segments, min_length=5, quantile=0.8)
        self._shape(segment_group(example_group(), rule))

    def close(self) -> None:
        """End the judge."""
        self.judge.close()

    def score(self, group: RolloutGroup) -> ScoredGroup | Drop:
        """Rewards and verdicts of a group or of one round of it."""
        return score_group(group, self._rewards, self.judge, no_verdict=self.config.no_verdict)

    def shape(self, rounds: tuple[RolloutGroup, ...]) -> ShapingResult:
        """Score and shape a group out of its finished rounds, in round order.

        Raises:
            RecipeError: as `check_signals`.
        """
        self.check_signals()
        group, began = merge_rounds(rounds), self._now()
        scored = self.score(group)
        metrics = self._seconds("reward_group_s", began, self._now())
        metrics["verdict_worker_restarts_count"] = Sum(self.judge.take_restarts())
        result = self.shape_scored(group, scored)
        return replace(result, metrics=result.metrics | metrics)

    def shape_scored(self, group: RolloutGroup, scored: ScoredGroup | Drop) -> ShapingResult:
        """The rest of `shape`, for a group whose merged rounds were scored already."""
        if isinstance(scored, Drop):
            return _dropped(group, scored, verdict_metrics(scored.excluded))
        kept, drop, counted = self._transform(scored)
        missing = (*kept.excluded, *(drop.excluded if drop else ()))
        metrics = verdict_metrics((*scored.verdicts, *missing)) | score_metrics(scored)
        metrics |= counted | added_reward_metrics(scored, kept)
        if drop is None and kept.group.num_response_tokens == 0:
            drop = Drop(reason=DropReason.EMPTY, detail="no rollout has response tokens")
        if drop is not None:
            return _dropped(group, drop, metrics, scored, kept)
        began = self._now()
        segmented = segment_group(kept, self.config.segments)
        segmented_at = self._now()
        shaped, shaper_metrics = self._shape(segmented)
        metrics |= self._seconds("shaping_scale_s", segmented_at, self._now())
        metrics |= self._seconds("shaping_segment_s", began, segmented_at)
        metrics |= segment_metrics(segmented) | advantage_metrics(shaped) | multiplier_metrics(shaped) | shaper_metrics
        if self.config.drop_without_signal and not any(row.any() for row in shaped.advantages):
            drop = Drop(reason=DropReason.NO_SIGNAL, detail="every advantage of the group is 0")
            return _dropped(group, drop, metrics, scored, kept)
        return TrainableGroup(
            group_id=group.group_id,
            prompt_id=group.prompt.prompt_id,
            samples=to_samples(shaped),
            shaped=shaped,
            num_correct=int(scored.correct.sum()),
            num_scored=scored.group.group_size,
            excluded=kept.excluded,
            metrics=metrics | outcome_metrics(None),
            remembered=kept.remembered,
        )

    def _transform(self, scored: ScoredGroup) -> tuple[ScoredGroup, Drop | None, dict[str, Metric]]:
        """The group as the last transform left it, why it is dropped, if it is, and what the transforms counted."""
        counted: list[dict[str, Metric]] = []
        for transform in self._transforms:
            result = transform.transform(scored)
            if isinstance(result, Cut):
                counted.append(result.metrics)
                result = self._cut(scored, result)
            if isinstance(result, Drop):
                return scored, result, merge_metrics(counted)
            scored = result
        return scored, None, merge_metrics(counted)

    def _cut(self, scored: ScoredGroup, cut: Cut) -> ScoredGroup | Drop:
        """Without a response that is longer than it may be the group is not touched, and no tokenizer is asked."""
        group, changed = cut_group(scored.group, cut.lengths, self._text)
        if not changed:
            return scored
        return score_again(scored, group, changed, self._rewards, self.judge, no_verdict=self.config.no_verdict)

    def _text(self, token_ids: IntArray) -> str:
        self.check_signals()
        assert self._decode is not None, "a transform that cuts needs TOKEN_TEXT"
        return self._decode(token_ids)

    def _now(self) -> float:
        return self._clock() if self._clock else 0.0

    def _seconds(self, name: str, began: float, ended: float) -> dict[str, Metric]:
        return {name: Histogram.of([ended - began], SHORT_SECONDS)} if self._clock else {}

    def _shape(self, segmented: SegmentedGroup) -> tuple[ShapedGroup, dict[str, Metric]]:
        base = self._estimator.advantages(segmented.scored)
        multipliers: tuple[FloatArray, ...] = tuple(np.ones(len(row), np.float32) for row in base)
        advantages = base
        parts: list[dict[str, Metric]] = []
        for shaper in self._shapers:
            result = shaper.multipliers(segmented, advantages)
            multipliers = _times(multipliers, result.multipliers)
            advantages = _times(base, multipliers)
            parts.append(result.metrics)
        shaped = ShapedGroup(segmented=segmented, base_advantages=base, multipliers=multipliers, advantages=advantages)
        return shaped, merge_metrics(parts)


def _times(left: tuple[FloatArray, ...], right: tuple[FloatArray, ...]) -> tuple[FloatArray, ...]:
    return tuple(a * b for a, b in zip(left, right, strict=True))


def _dropped(
    group: RolloutGroup,
    drop: Drop,
    metrics: dict[str, Metric],
    scored: ScoredGroup | None = None,
    kept: ScoredGroup | None = None,
) -> DroppedGroup:
    """A dropped group, as it was scored and as the transforms before the drop left it; neither without a verdict."""
    return DroppedGroup(
        group_id=group.group_id,
        prompt_id=group.prompt.prompt_id,
        drop=drop,
        num_correct=int(scored.correct.sum()) if scored else 0,
        num_scored=scored.group.group_size if scored else 0,
        excluded=(*(kept.excluded if kept else ()), *drop.excluded),
        metrics=metrics | outcome_metrics(drop.reason, num_response_tokens=group.num_response_tokens),
        remembered=kept.remembered if kept else {},
    )
