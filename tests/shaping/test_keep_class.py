"""Rollouts of one class stay, the others are gone."""

import numpy as np
import pytest
from group_builders import make_rollout, make_scored

from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError
from shaping.groups import Drop, DropReason, ScoredGroup
from shaping.transforms.keep_class import Config, Kept, build


def kept(keep: Kept, scored: ScoredGroup) -> ScoredGroup | Drop:
    return build(Config(keep=keep)).transform(scored)


@pytest.mark.parametrize(("keep", "places"), [("correct", [0, 3]), ("wrong", [1, 2])])
def test_everything_of_a_kept_rollout_stays_together(keep: Kept, places: list[int]) -> None:
    rollouts = [make_rollout([place]) for place in range(4)]
    scored = make_scored([True, False, False, True], rewards=[1.0, 0.1, 0.2, 0.9], rollouts=rollouts)
    result = kept(keep, scored)
    assert isinstance(result, ScoredGroup)
    assert result.group.rollouts == tuple(rollouts[place] for place in places)
    np.testing.assert_array_equal(result.rewards, scored.rewards[places])
    np.testing.assert_array_equal(result.reward_parts["math_answer"], scored.rewards[places])
    assert result.correct.tolist() == [keep == "correct"] * 2


def test_a_group_of_the_kept_class_is_not_touched() -> None:
    scored = make_scored([False, False])
    assert kept("wrong", scored) is scored


def test_a_group_with_nothing_left_is_dropped_with_words() -> None:
    assert kept("correct", make_scored([False, False, False])) == Drop(
        reason=DropReason.FILTERED, detail="keep_class: none of 3 rollouts is correct"
    )


def test_a_class_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="must be one of correct, wrong, got 'right'"):
        load("shaping.transforms", ComponentSpec(kind="keep_class", options={"keep": "right"}), "test")
