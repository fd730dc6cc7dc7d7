"""Outlying long responses of groups that succeed are cut and judged again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from group_builders import make_group, make_rollout, make_scored

from shaping.checks import IntArray
from shaping.components import ComponentSpec
from shaping.config import RewardConfig, ShapingConfig
from shaping.errors import RecipeError
from shaping.groups import DropReason, Verdict, VerdictStatus
from shaping.metrics import Mean, metric_values
from shaping.pipeline import DroppedGroup, ShapingPipeline, TrainableGroup
from shaping.records import Rollout, StopReason
from shaping.rewards.base import RewardResult
from shaping.transforms.dot import Config, build, kept_lengths, warnings
from shaping.verification.judge import InProcessJudge, ScoreTask

OUTLIER = [100] * 31 + [1000]


def test_the_worked_outlier_is_cut_at_605() -> None:
    # mean 4100/32 = 128.125; variance (31 x 28.125^2 + 871.875^2) / 31 = 25312.5, so std 159.099; 128.125 + 477.297.
    assert kept_lengths(OUTLIER, Config()) == [100] * 31 + [605]
    assert np.std(OUTLIER, ddof=1) == pytest.approx(159.099, abs=5e-4)


@pytest.mark.parametrize(
    ("min_excess", "is_cut"),
    # 1000 - 605 = 395 tokens lie beyond; of 1000 that is a share of 0.395.
    [(395.0, True), (396.0, False), (0.395, True), (0.396, False)],
)
def test_it_is_cut_from_the_least_excess_on(min_excess: float, is_cut: bool) -> None:
    assert kept_lengths(OUTLIER, Config(min_excess=min_excess))[-1] == (605 if is_cut else 1000)


def test_a_share_is_at_least_sixteen_tokens() -> None:
    # 19 of length 3 and one of n: T = floor(mean + 3 std) with std (n - 3)/sqrt(20). 67: 6.2 + 42.93, so 49, 18 beyond;
    # 53: 5.5 + 33.54, so 39, 14 beyond. A hundredth of either is less than one token.
    config = Config(min_excess=0.01)
    assert kept_lengths([3] * 19 + [67], config)[-1] == 49
    assert kept_lengths([3] * 19 + [53], config)[-1] == 53


def test_groups_of_fewer_than_eleven_are_never_cut_at_three_deviations() -> None:
    # (n - 1)/sqrt(n) is 2.846 for 10 and 3.015 for 11; 0.015 deviations of the outlier are still many tokens.
    assert kept_lengths([1] * 9 + [10**7], Config())[-1] == 10**7
    assert kept_lengths([1] * 10 + [10**7], Config())[-1] < 10**7
    assert kept_lengths([10**6], Config(alpha=0.0)) == [10**6]


@pytest.mark.parametrize(
    ("num_wrong", "min_success_rate", "is_cut"), [(0, 1.0, True), (1, 1.0, False), (8, 0.75, True), (9, 0.75, False)]
)
def test_only_groups_that_succeed_often_enough_are_cut(num_wrong: int, min_success_rate: float, is_cut: bool) -> None:
    rollouts = [make_rollout([1] * length, entropies=[0.1] * length) for length in OUTLIER]
    scored = make_scored([False] * num_wrong + [True] * (32 - num_wrong), rollouts=rollouts)
    cut = build(Config(min_success_rate=min_success_rate)).transform(scored)
    assert cut.lengths == (*[100] * 31, 605 if is_cut else 1000)
    assert cut.metrics == {"dot_cut_responses_share": Mean(int(is_cut), 32)}


# -- in the pipeline


def answer(length: int, *, wrong: bool = False) -> Rollout:
    """A response that gives its answer, 5, with its last token."""
    ids = [1, 2, 9, 4] * (length // 4) + [1] * (length % 4)
    ids[-1] = 6 if wrong else 5
    return make_rollout(ids, entropies=[0.25 * (token == 9) for token in ids], text="6" if wrong else "5")


def last_token(token_ids: IntArray) -> str:
    """What `answer` means, as a tokenizer would read it."""
    return str(int(token_ids[-1]))


def pipeline_of(*transforms: str, decode: object = last_token, estimator: str = "dr_grpo") -> ShapingPipeline:
    config = ShapingConfig(
        rewards=(RewardConfig(kind="exact_match"), RewardConfig(kind="overlong", weight=0.5)),
        transforms=tuple(ComponentSpec(kind=kind) for kind in transforms),
        estimator=ComponentSpec(kind=estimator),
        shapers=(),
    )
    return ShapingPipeline(config, decode=decode)  # type: ignore[arg-type]


GROUP = make_group([answer(length) for length in OUTLIER], max_response_tokens=1000)


def test_a_cut_response_is_judged_again_and_the_group_has_a_signal() -> None:
    result = pipeline_of("dot", "drop_uniform").shape((GROUP,))
    assert isinstance(result, TrainableGroup)
    scored = result.shaped.segmented.scored
    cut = scored.group.rollouts[-1]
    assert (cut.num_tokens, cut.stop_reason, cut.response_text) == (605, StopReason.LENGTH, "1")
    # Wrong now, and no longer in the buffer of 200 tokens before the limit of 1000.
    assert scored.rewards.tolist() == [1.0] * 31 + [0.0]
    assert scored.reward_parts["overlong"].tolist() == [0.0] * 32
    assert scored.correct.tolist() == [True] * 31 + [False]
    assert [sample.num_valid_tokens for sample in result.samples] == [100] * 31 + [605]
    np.testing.assert_allclose(result.samples[-1].advantages[-605:], -31 / 32)
    # What was sampled is reported as it was sampled.
    assert (result.num_correct, result.num_scored) == (32, 32)
    found = metric_values(result.metrics)
    assert found["dot_cut_responses_share"] == 1 / 32
    assert (found["reward_correct_share"], found["rollout_response_max_tokens"]) == (1.0, 1000)


def test_the_others_are_what_they_were() -> None:
    result = pipeline_of("dot").shape((GROUP,))
    assert isinstance(result, TrainableGroup)
    kept = result.shaped.segmented.scored.group.rollouts
    assert all(mine is given for mine, given in zip(kept[:-1], GROUP.rollouts[:-1], strict=True))


def test_a_group_in_which_nothing_is_cut_is_shaped_as_without_the_transform() -> None:
    group = make_group([answer(4), answer(400), answer(8, wrong=True)])
    with_dot, without = pipeline_of("dot").shape((group,)), pipeline_of().shape((group,))
    assert isinstance(with_dot, TrainableGroup) and isinstance(without, TrainableGroup)
    assert with_dot.shaped.segmented.scored.group is group
    for mine, given in zip(with_dot.samples, without.samples, strict=True):
        assert mine.advantages.tobytes() == given.advantages.tobytes()
    assert with_dot.metrics.keys() - without.metrics.keys() == {"dot_cut_responses_share"}
    assert metric_values(with_dot.metrics)["dot_cut_responses_share"] == 0.0


def test_what_a_transform_added_before_stays_when_a_response_is_judged_again() -> None:
    before = {"hapo_tokens": 1000.0, "hapo_num_correct": 1.0}
    group = make_group(GROUP.rollouts, recalled=before, max_response_tokens=1000)
    result = pipeline_of("hapo_history", "dot").shape((group,))
    assert isinstance(result, TrainableGroup)
    scored = result.shaped.segmented.scored
    # cos(9 degrees) for 100 of 1000 tokens; cos(90 degrees) = 0 for the long one, which loses its 1 - 0.5 alone.
    np.testing.assert_allclose(scored.rewards, [1 + np.cos(np.pi / 20)] * 31 + [0.0], atol=1e-6)
    np.testing.assert_allclose(scored.reward_parts["hapo_history"][-1], 0.0, atol=1e-6)


def test_a_cut_response_may_be_left_out_by_the_next_transform() -> None:
    result = pipeline_of("dot", "keep_class", estimator="w_reinforce").shape((GROUP,))
    assert isinstance(result, TrainableGroup)
    assert [sample.num_valid_tokens for sample in result.samples] == [100] * 31


def test_a_pipeline_that_cannot_read_tokens_refuses_to_start_and_to_shape() -> None:
    pipeline = pipeline_of("dot", decode=None)
    for call in (pipeline.warm_up, lambda: pipeline.shape((GROUP,))):
        with pytest.raises(RecipeError, match="dot needs token_text, found a pipeline without it"):
            call()
    with pytest.raises(RecipeError, match="dot needs token_text"):
        pipeline_of(decode=None).reconfigured(pipeline.config)


def test_a_group_that_is_correct_after_the_cut_too_has_nothing_to_teach() -> None:
    result = pipeline_of("dot", "drop_uniform", decode=lambda _: "5").shape((GROUP,))
    assert isinstance(result, DroppedGroup)
    assert result.drop.reason is DropReason.NO_SIGNAL
    assert metric_values(result.metrics)["dot_cut_responses_share"] == 1 / 32


class OnceJudge(InProcessJudge):
    """Cannot judge a response that ends with 1."""

    def score(self, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
        crashed = RewardResult(value=0.0, verdict=Verdict(status=VerdictStatus.CRASHED))
        known = super().score(tasks)
        return [crashed if task.request.response_text == "1" else each for task, each in zip(tasks, known, strict=True)]


@pytest.mark.parametrize("no_verdict", ["rollout", "group"])
def test_a_cut_response_without_a_verdict_is_counted_and_left_out_as_any_other(no_verdict: str) -> None:
    config = replace(pipeline_of("dot").config, no_verdict=no_verdict)
    result = ShapingPipeline(config, judge=OnceJudge(), decode=last_token).shape((GROUP,))
    assert [str(verdict.status) for verdict in result.excluded] == ["crashed"]
    found = metric_values(result.metrics)
    assert (found["verdict_crashed_rollouts"], found["verdict_correct_rollouts"]) == (1, 32)
    if no_verdict == "group":
        assert isinstance(result, DroppedGroup)
        assert result.drop.reason is DropReason.NO_VERDICT
        return
    assert isinstance(result, TrainableGroup)
    assert [sample.num_valid_tokens for sample in result.samples] == [100] * 31


# -- what `lessrl plan` says


def test_a_group_size_with_which_it_never_fires_is_told() -> None:
    (warning,) = warnings(Config(), group_size=8)
    # 7/sqrt(8) = 2.475.
    assert "one response of 8 is at most 2.47 standard deviations above the mean, and alpha is 3" in warning
    assert "rollout.group_size to at least 11, or alpha below 2.47" in warning
    assert len(list(warnings(Config(), group_size=10))) == 1
    assert not list(warnings(Config(), group_size=11))
    assert not list(warnings(Config(alpha=2.0), group_size=8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_success_rate": 1.1}, r"min_success_rate must be in \[0, 1\], got 1.1"),
        ({"alpha": -1.0}, "alpha must be >= 0 and finite, got -1.0"),
        ({"min_excess": 0.0}, "min_excess must be > 0 and finite, got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)
