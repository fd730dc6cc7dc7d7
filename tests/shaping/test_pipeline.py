"""Laws of the whole pipeline: every group is trained, or dropped under a reason."""

import numpy as np
import pytest
from group_builders import make_group, make_prompt, make_rollout

from shaping.components import ComponentSpec
from shaping.config import RewardConfig, ShapingConfig
from shaping.errors import RecipeError
from shaping.groups import DropReason, ScoredGroup
from shaping.histograms import Histogram
from shaping.kernels.base import SegmentRule
from shaping.metrics import Sum, metric_values
from shaping.pipeline import DroppedGroup, ShapingPipeline, TrainableGroup
from shaping.records import Rollout, StopReason
from shaping.signals import Signal
from shaping.verification.judge import InProcessJudge

LESS, UNIFORM = ComponentSpec(kind="less"), ComponentSpec(kind="uniform")


def make_pipeline(**changes: object) -> ShapingPipeline:
    fields: dict[str, object] = {"segments": SegmentRule(min_length=2)}
    return ShapingPipeline(ShapingConfig(**(fields | changes)))  # type: ignore[arg-type]


def answer(value: int, ids: list[int] | None = None) -> Rollout:
    """The reference answer is 5; token 9 is a fork of entropy 1."""
    tokens = ids or [1, 2, 9, 3, 4, 9]
    return make_rollout(tokens, entropies=[float(token == 9) for token in tokens], text=f"\\boxed{{{value}}}")


def test_a_group_becomes_samples_with_shaped_advantages() -> None:
    # One correct (1 2 | 3 4), one wrong (1 2 | 7 8): GRPO gives +-0.70711 (mean 0.5, std 0.70711); 1 2 is shared: 0;
    # N = 1 on both sides, so all the rest keeps its advantage.
    result = make_pipeline().shape((make_group([answer(5), answer(6, [1, 2, 9, 7, 8, 9])]),))
    assert isinstance(result, TrainableGroup)
    assert (result.group_id, result.prompt_id, result.num_correct, result.num_scored) == ("g", "p", 1, 2)
    wanted = np.array([0, 0, 0, 0, 1, 1, 1, 1]) * 0.70711
    np.testing.assert_allclose(result.samples[0].advantages, wanted, atol=1e-5)
    np.testing.assert_allclose(result.samples[1].advantages, -wanted, atol=1e-5)
    found = metric_values(result.metrics)
    assert found["advantage_kept_mass_share"] == pytest.approx(8 / 12)
    assert found["less_zero_tokens_share"] == pytest.approx(4 / 12)
    assert found["groups_trained_count"] == 1


def test_uniform_shaping_keeps_the_base_advantages() -> None:
    result = make_pipeline(shapers=(UNIFORM,)).shape((make_group([answer(5), answer(6)]),))
    assert isinstance(result, TrainableGroup)
    for row, base in zip(result.shaped.advantages, result.shaped.base_advantages, strict=True):
        np.testing.assert_array_equal(row, base)


def test_multipliers_of_several_shapers_multiply() -> None:
    group = make_group([answer(5), answer(5, [1, 2, 9, 5, 6, 9]), answer(6, [7, 8, 9, 7, 7, 9])])
    once = make_pipeline(shapers=(LESS,)).shape((group,))
    twice = make_pipeline(shapers=(LESS, LESS, UNIFORM), segments=SegmentRule(min_length=2)).shape((group,))
    assert isinstance(once, TrainableGroup)
    assert isinstance(twice, TrainableGroup)
    for row, square in zip(once.shaped.multipliers, twice.shaped.multipliers, strict=True):
        np.testing.assert_allclose(square, row**2)
    for row, base, square in zip(
        twice.shaped.advantages, twice.shaped.base_advantages, twice.shaped.multipliers, strict=True
    ):
        np.testing.assert_array_equal(row, base * square)


def test_no_shaper_at_all_is_the_estimator_alone() -> None:
    result = make_pipeline(shapers=()).shape((make_group([answer(5), answer(6)]),))
    assert isinstance(result, TrainableGroup)
    assert all((row == 1).all() for row in result.shaped.multipliers)


def test_rounds_are_one_group() -> None:
    first, second = make_group([answer(5)]), make_group([answer(6, [1, 2, 9, 7, 8, 9])])
    merged = make_pipeline().shape((make_group([*first.rollouts, *second.rollouts]),))
    apart = make_pipeline().shape((first, second))
    assert isinstance(merged, TrainableGroup)
    assert isinstance(apart, TrainableGroup)
    for a, b in zip(merged.samples, apart.samples, strict=True):
        np.testing.assert_array_equal(a.advantages, b.advantages)


def test_one_round_can_be_scored_alone() -> None:
    scored = make_pipeline().score(make_group([answer(5), answer(6)]))
    assert isinstance(scored, ScoredGroup)
    assert scored.correct.tolist() == [True, False]


def test_an_already_scored_group_is_not_scored_again() -> None:
    pipeline, group = make_pipeline(), make_group([answer(5), answer(6)])
    scored = pipeline.score(group)
    assert isinstance(scored, ScoredGroup)
    turned = ScoredGroup(
        group=group, rewards=scored.rewards[::-1].copy(), reward_parts={}, verdicts=scored.verdicts[::-1]
    )
    result = pipeline.shape_scored(group, turned)
    assert isinstance(result, TrainableGroup)
    assert result.shaped.base_advantages[0][0] < 0


def test_a_group_without_signal_is_trained_and_counted_by_default() -> None:
    result = make_pipeline().shape((make_group([answer(5), answer(5)]),))
    assert isinstance(result, TrainableGroup)
    assert not any(sample.advantages.any() for sample in result.samples)
    assert metric_values(result.metrics)["groups_without_signal_count"] == 1


def test_a_group_without_signal_is_dropped_on_request() -> None:
    result = make_pipeline(drop_without_signal=True).shape((make_group([answer(6), answer(6)]),))
    assert isinstance(result, DroppedGroup)
    assert result.drop.reason is DropReason.NO_SIGNAL
    assert (result.num_correct, result.num_scored) == (0, 2)
    found = metric_values(result.metrics)
    assert found["groups_dropped_no_signal_count"] == 1
    assert found["reward_correct_share"] == 0.0


def test_a_group_whose_signal_less_takes_away_has_none() -> None:
    # Nothing but a shared phrase and a last token at the threshold: it keeps its advantage, unless it joins the run.
    same = [1, 2, 1, 2]
    rollouts = [make_rollout(same, entropies=[0.0, 0.0, 0.0, 0.5], text=f"\\boxed{{{value}}}") for value in (5, 6)]
    kept = make_pipeline(drop_without_signal=True).shape((make_group(rollouts),))
    assert isinstance(kept, TrainableGroup)
    le = SegmentRule(min_length=2, membership="le")
    gone = make_pipeline(drop_without_signal=True, segments=le).shape((make_group(rollouts),))
    assert isinstance(gone, DroppedGroup)
    assert gone.drop.reason is DropReason.NO_SIGNAL


def test_a_transform_drops_with_its_reason_and_scores_are_still_reported() -> None:
    pipeline = make_pipeline(transforms=(ComponentSpec(kind="drop_truncated", options={"max_share": 0.0}),))
    truncated = make_rollout(text=r"\boxed{5}", stop_reason=StopReason.LENGTH)
    result = pipeline.shape((make_group([answer(5), truncated]),))
    assert isinstance(result, DroppedGroup)
    assert result.drop.reason is DropReason.FILTERED
    assert (result.num_correct, result.num_scored) == (2, 2)
    found = metric_values(result.metrics)
    assert found["rollout_truncated_share"] == 0.5
    # Six tokens of one response and three of the other.
    assert (found["rollout_discarded_filtered_tokens"], found["rollout_discarded_empty_tokens"]) == (9, 0)


def test_a_group_of_empty_responses_is_dropped() -> None:
    result = make_pipeline().shape((make_group([make_rollout([]), make_rollout([])]),))
    assert isinstance(result, DroppedGroup)
    assert result.drop.reason is DropReason.EMPTY


def test_a_group_without_verdicts_is_dropped_and_they_are_counted() -> None:
    config = (RewardConfig(kind="numeric_answer"),)
    group = make_group([make_rollout(text="5")], prompt=make_prompt(reference_answer="no number"))
    result = make_pipeline(rewards=config).shape((group,))
    assert isinstance(result, DroppedGroup)
    assert result.drop.reason is DropReason.NO_VERDICT
    assert (result.num_correct, result.num_scored) == (0, 0)
    found = metric_values(result.metrics)
    assert found["verdict_crashed_rollouts"] == 1
    assert "reward_correct_share" not in found


def test_needs_are_those_of_all_components() -> None:
    assert make_pipeline().needs == {Signal.RAW_ENTROPIES, Signal.VERDICTS}
    assert make_pipeline(shapers=(UNIFORM,)).needs == frozenset()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"estimator": ComponentSpec(kind="grop")}, r"did you mean 'grpo'\? \(shaping.estimator\)"),
        ({"shapers": (ComponentSpec(kind="less", options={"outsid": "keep"}),)}, "did you mean 'outside'"),
        ({"shapers": (ComponentSpec(kind="less", options={"mode": "greedy"}),)}, "one of containment, compat, got"),
        ({"transforms": (ComponentSpec(kind="dropp"),)}, "no transforms kind 'dropp'"),
        ({"rewards": (RewardConfig(kind="format"),)}, "exactly one reward must decide"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused_at_construction(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_pipeline(**changes)


class Ticks:
    """A clock that is a second later each time it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class RestartingJudge(InProcessJudge):
    """Had to start two processes again for the first group."""

    def __init__(self) -> None:
        super().__init__()
        self.restarts = [2]

    def take_restarts(self) -> int:
        return self.restarts.pop() if self.restarts else 0


def test_a_group_says_what_its_parts_took_by_the_clock_that_is_given() -> None:
    pipeline = ShapingPipeline(ShapingConfig(segments=SegmentRule(min_length=2)), clock=Ticks())
    found = pipeline.shape((make_group([answer(5), answer(6)]),)).metrics
    for name in ("reward_group_s", "shaping_segment_s", "shaping_scale_s"):
        histogram = found[name]
        # Read right before and right after.
        assert isinstance(histogram, Histogram) and (histogram.count, histogram.total) == (1, 1.0), name


def test_a_pipeline_without_a_clock_says_nothing_of_time() -> None:
    found = make_pipeline().shape((make_group([answer(5), answer(6)]),)).metrics
    assert not [name for name in found if name.endswith("_s")]


def test_a_restarted_verifier_counts_with_the_group_that_saw_it() -> None:
    pipeline = ShapingPipeline(ShapingConfig(segments=SegmentRule(min_length=2)), judge=RestartingJudge())
    group = make_group([answer(5), answer(6)])
    found = [pipeline.shape((group,)).metrics["verdict_worker_restarts_count"] for _ in range(2)]
    assert found == [Sum(2), Sum(0)]
