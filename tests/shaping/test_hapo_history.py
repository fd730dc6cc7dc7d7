"""Lengths are compared with the prompt's shortest correct response so far."""

import json
import math
from typing import Any

import numpy as np
import pytest
from group_builders import make_group, make_rollout, make_scored

from shaping.components import ComponentSpec
from shaping.config import RewardConfig, ShapingConfig
from shaping.groups import DropReason, ScoredGroup
from shaping.memories.last_values import LastValues
from shaping.metrics import metric_values
from shaping.pipeline import DroppedGroup, ShapingPipeline, TrainableGroup
from shaping.records import Rollout, RolloutGroup
from shaping.transforms.hapo_history import Aggregate, Config, Shape, build, length_terms, updated


def terms(length: int, shape: Shape = "cosine", **options: float) -> tuple[float, float]:
    """Of a correct and of a wrong response of this length, h being 500."""
    config = Config(shape=shape, **options)
    of_correct, of_wrong = length_terms(np.full(2, float(length)), np.array([True, False]), 500.0, config)
    return float(of_correct), float(of_wrong)


@pytest.mark.parametrize(
    ("length", "of_correct", "of_wrong"),
    # cos(pi/2 L/500): 45, 90 and 135 degrees; from 180 on it is -1. A correct response never loses more than 0.7.
    [
        (0, 1.0, 0.0),
        (250, math.sqrt(0.5), 0.0),
        (500, 0.0, 0.0),
        (750, -0.7, -math.sqrt(0.5)),
        (1000, -0.7, -1.0),
        (4000, -0.7, -1.0),
    ],
)
def test_worked_cosine(length: int, of_correct: float, of_wrong: float) -> None:
    assert terms(length) == pytest.approx((of_correct, of_wrong), abs=1e-12)


@pytest.mark.parametrize(
    ("length", "of_correct", "of_wrong"),
    # 1 - L/500 below 500; nothing up to 550; then -(L - 550)/500.
    [
        (250, 0.5, 0.0),
        (500, 0.0, 0.0),
        (549, 0.0, 0.0),
        (550, 0.0, 0.0),
        (600, -0.1, -0.1),
        (900, -0.7, -0.7),
        (950, -0.7, -0.8),
        (1200, -0.7, -1.0),
    ],
)
def test_worked_line(length: int, of_correct: float, of_wrong: float) -> None:
    assert terms(length, "linear") == pytest.approx((of_correct, of_wrong), abs=1e-12)


def test_the_floor_is_of_correct_responses_alone() -> None:
    assert terms(1000, floor=-0.2) == (-0.2, -1.0)
    assert terms(1000, floor=0.0) == (0.0, -1.0)


def rollouts_of(*lengths: int) -> list[Rollout]:
    return [make_rollout([1] * length, entropies=[0.1] * length) for length in lengths]


def visited(
    correct: list[bool], lengths: list[int], recalled: dict[str, float] | None = None, **options: Any
) -> ScoredGroup:
    scored = make_scored(correct, rollouts=rollouts_of(*lengths), recalled=recalled)
    return build(Config(**options)).transform(scored)


def test_a_first_visit_pays_nothing_and_remembers_the_shortest_correct_length() -> None:
    result = visited([True, True, False], [6, 4, 2])
    assert result.rewards.tolist() == [1.0, 1.0, 0.0]
    assert result.remembered == {"hapo_tokens": 4.0, "hapo_num_correct": 2.0}


def test_a_later_visit_is_paid_by_what_was_recalled_not_by_its_own_lengths() -> None:
    recalled = {"hapo_tokens": 4.0, "hapo_num_correct": 2.0}
    result = visited([True, True, False, False], [2, 6, 2, 8], recalled, weight=0.5)
    # Ratios 1/2, 3/2, 1/2, 2; half of 0.7071, -0.7, 0 and -1.
    wanted = [1 + math.sqrt(0.5) / 2, 0.65, 0.0, -0.5]
    np.testing.assert_allclose(result.rewards, wanted, rtol=1e-6)
    np.testing.assert_allclose(result.reward_parts["hapo_history"], np.array(wanted) - [1, 1, 0, 0], rtol=1e-5)
    assert result.remembered == {"hapo_tokens": 2.0, "hapo_num_correct": 4.0}


@pytest.mark.parametrize(
    ("aggregate", "tokens"),
    # Two responses of mean 5 before, now 3 and 10: least 3; mean (2 x 5 + 3 + 10) / 4.
    [("min", 3.0), ("mean", 5.75)],
)
def test_what_is_remembered_is_the_least_or_the_mean(aggregate: Aggregate, tokens: float) -> None:
    found = updated({"hapo_tokens": 5.0, "hapo_num_correct": 2.0}, np.array([3, 10]), aggregate)
    assert found == {"hapo_tokens": tokens, "hapo_num_correct": 4.0}


def test_a_longer_response_does_not_raise_what_was_remembered() -> None:
    assert updated({"hapo_tokens": 5.0, "hapo_num_correct": 2.0}, np.array([9]), "min")["hapo_tokens"] == 5.0


def test_a_visit_without_a_correct_response_that_says_something_remembers_nothing_new() -> None:
    assert visited([False, False], [3, 4]).remembered == {}
    # An empty response that counts as correct would make every other endlessly long.
    assert visited([True, True], [0, 3]).remembered == {"hapo_tokens": 3.0, "hapo_num_correct": 1.0}


def test_a_group_that_is_shaped_again_does_not_count_twice() -> None:
    # What a retried group recalls is what it recalled at first, and its visit is written once.
    memory = LastValues()
    memory.write("p", 0, {"hapo_tokens": 6.0, "hapo_num_correct": 1.0})
    recalled = memory.read("p")
    for _ in range(2):
        again = visited([True, True], [2, 4], recalled, aggregate="mean")
        memory.write("p", 1, {**memory.read("p"), **again.remembered})
    # (6 + 2 + 4) / 3, as after one write.
    assert memory.read("p") == {"hapo_tokens": 4.0, "hapo_num_correct": 3.0}


def test_the_history_is_restored_with_the_memory() -> None:
    memory, restored = LastValues(), LastValues()
    memory.write("p", 3, dict(visited([True, False], [3, 9]).remembered))
    restored.restore(json.loads(json.dumps(memory.state())))
    paid = visited([True, True], [1, 3], restored.read("p"))
    # cos 30 degrees for a third of the length.
    np.testing.assert_allclose(paid.rewards, [1 + math.sqrt(3) / 2, 1.0], rtol=1e-6)


def pipeline_of(*transforms: str, **options: Any) -> ShapingPipeline:
    config = ShapingConfig(
        rewards=(RewardConfig(kind="exact_match"),),
        transforms=tuple(ComponentSpec(kind=kind) for kind in transforms),
        estimator=ComponentSpec(kind="dr_grpo"),
        shapers=(),
        **options,
    )
    return ShapingPipeline(config)


def group_of(texts: list[str], lengths: list[int], recalled: dict[str, float] | None = None) -> RolloutGroup:
    rows = zip(texts, lengths, strict=True)
    rollouts = [make_rollout([1] * length, entropies=[0.1] * length, text=text) for text, length in rows]
    return make_group(rollouts, recalled=recalled)


def test_a_group_that_is_all_correct_still_teaches_which_length_was_better() -> None:
    pipeline = pipeline_of("hapo_history", "drop_uniform")
    result = pipeline.shape((group_of(["5", "5"], [2, 6], {"hapo_tokens": 4.0, "hapo_num_correct": 1.0}),))
    assert isinstance(result, TrainableGroup)
    # cos 45 degrees and -0.7 around their mean.
    middle = (math.sqrt(0.5) - 0.7) / 2
    np.testing.assert_allclose(result.samples[0].advantages[-2:], math.sqrt(0.5) - middle, rtol=1e-5)
    np.testing.assert_allclose(result.samples[1].advantages[-6:], -0.7 - middle, rtol=1e-5)
    # The mean over both.
    assert metric_values(result.metrics)["reward_hapo_history_value"] == pytest.approx(middle, abs=1e-6)


def test_a_group_that_is_dropped_afterwards_is_remembered_all_the_same() -> None:
    result = pipeline_of("hapo_history", "drop_uniform").shape((group_of(["5", "5"], [3, 3]),))
    assert isinstance(result, DroppedGroup)
    assert result.drop.reason is DropReason.NO_SIGNAL
    assert result.remembered == {"hapo_tokens": 3.0, "hapo_num_correct": 2.0}
    without = pipeline_of("hapo_history", drop_without_signal=True).shape((group_of(["5", "5"], [3, 3]),))
    assert without.remembered == result.remembered


def test_a_group_that_is_dropped_before_teaches_nothing() -> None:
    result = pipeline_of("drop_uniform", "hapo_history").shape((group_of(["5", "5"], [3, 3]),))
    assert result.remembered == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": -1.0}, "weight must be >= 0 and finite, got -1.0"),
        ({"floor": 0.1}, r"floor must be in \[-1, 0\], got 0.1"),
        ({"shape": "square"}, "shape must be one of cosine, linear, got 'square'"),
        ({"aggregate": "max"}, "aggregate must be one of min, mean, got 'max'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)
