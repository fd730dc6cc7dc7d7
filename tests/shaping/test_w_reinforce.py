"""Advantages without a baseline, and with keep_class PSR and NSR."""

import numpy as np
import pytest
from group_builders import make_group, make_rollout, make_scored

from shaping.components import ComponentSpec
from shaping.config import RewardConfig, ShapingConfig
from shaping.estimators import w_reinforce
from shaping.groups import DropReason
from shaping.pipeline import DroppedGroup, ShapingPipeline, ShapingResult, TrainableGroup


def advantages(correct: list[bool], **options: float) -> list[float]:
    estimator = w_reinforce.build(w_reinforce.Config(**options))
    return [float(row[0]) for row in estimator.advantages(make_scored(correct))]


def test_correct_rollouts_get_a_tenth_and_wrong_ones_minus_one() -> None:
    assert advantages([True, False, True, False]) == [np.float32(0.1), -1.0, np.float32(0.1), -1.0]


def test_a_group_of_one_outcome_keeps_its_weight() -> None:
    assert advantages([False] * 3) == [-1.0] * 3
    assert advantages([True] * 2, correct_weight=1.0) == [1.0] * 2


def test_only_verdicts_count_not_what_other_rewards_paid() -> None:
    estimator = w_reinforce.build(w_reinforce.Config())
    rows = estimator.advantages(make_scored([True, False], rewards=[-0.5, 0.9], rollouts=[make_rollout([1])] * 2))
    assert [row.tolist() for row in rows] == [[np.float32(0.1)], [-1.0]]


def shaped(keep: str, weight: float, texts: list[str]) -> ShapingResult:
    config = ShapingConfig(
        rewards=(RewardConfig(kind="exact_match"),),
        transforms=(ComponentSpec(kind="keep_class", options={"keep": keep}),),
        estimator=ComponentSpec(kind="w_reinforce", options={"correct_weight": weight}),
        shapers=(),
    )
    rollouts = [make_rollout([1 + place, 2], text=text) for place, text in enumerate(texts)]
    return ShapingPipeline(config).shape((make_group(rollouts),))


@pytest.mark.parametrize(("keep", "value", "first_ids"), [("correct", 1.0, [1, 3]), ("wrong", -1.0, [2, 4])])
def test_psr_trains_the_correct_rollouts_alone_and_nsr_the_wrong_ones(
    keep: str, value: float, first_ids: list[int]
) -> None:
    # Outcomes 1 0 1 0. Behind the prompt of two tokens stand two response tokens; nobody else is in the batch.
    result = shaped(keep, 1.0, ["5", "6", "5", "7"])
    assert isinstance(result, TrainableGroup)
    assert [sample.token_ids.tolist() for sample in result.samples] == [[7, 8, first, 2] for first in first_ids]
    assert [sample.advantages.tolist() for sample in result.samples] == [[0.0, 0.0, value, value]] * 2
    assert (result.num_correct, result.num_scored) == (2, 4)


def test_nsr_learns_from_a_group_that_is_all_wrong_and_psr_drops_it() -> None:
    learned, dropped = shaped("wrong", 1.0, ["6", "7"]), shaped("correct", 1.0, ["6", "7"])
    assert isinstance(learned, TrainableGroup)
    assert len(learned.samples) == 2
    assert isinstance(dropped, DroppedGroup)
    assert dropped.drop.reason is DropReason.FILTERED


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"correct_weight": -0.1}, "correct_weight must be >= 0 and finite, got -0.1"),
        ({"wrong_weight": 0.1}, "wrong_weight must be <= 0 and finite, got 0.1"),
        ({"correct_weight": float("inf")}, "correct_weight must be >= 0 and finite, got inf"),
    ],
)
def test_weights_of_the_wrong_sign_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        w_reinforce.Config(**options)
