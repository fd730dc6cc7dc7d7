"""A run that goes on, whose recipe was changed live: what its user may set, and what becomes of it."""

from typing import Any

import pytest
from live_builders import change
from recipe_builders import make_recipe

from services.live.changes import AppliedChange, LiveState
from services.live.resuming import ResumedRecipe, recipe_on_resume
from services.reports import LiveChange
from shaping.errors import RecipeError

STATE = LiveState(applied=(AppliedChange(generation=2, step=3, values={"run.steps": 20}),))
LATER = change(3, 9, learner__optimizer__learning_rate=1e-3)


def resumed(overrides: dict[str, Any], *, recorded: tuple[LiveChange, ...] = (LATER,)) -> ResumedRecipe:
    """Go on from version 5 of a run of 10 steps that was changed to 20 at step 3."""
    before = make_recipe({"run.steps": 10})
    after = make_recipe({"run.steps": 10, **overrides})
    return recipe_on_resume(before, after, overrides, state=STATE, recorded=recorded, version=5)


def test_a_run_that_goes_on_as_it_was_keeps_its_live_changes() -> None:
    assert resumed({}) == ResumedRecipe(base=make_recipe({"run.steps": 10}), changes=(), live=())


def test_a_live_key_that_is_set_gets_its_value_as_one_more_live_change() -> None:
    found = resumed({"run.steps": 30})
    assert found.base == make_recipe({"run.steps": 10}) and found.changes == ()
    assert found.live == (LiveChange(generation=4, values={"run.steps": 30}, at_step=6),)


def test_a_number_that_any_change_has_is_not_given_again() -> None:
    base = make_recipe({"run.steps": 10})
    later = AppliedChange(generation=7, step=9, values={"run.steps": 25})
    state = LiveState(applied=STATE.applied, refused=(6,), scheduled=(later,))
    after, words = make_recipe({"run.steps": 30}), {"run.steps": 30}
    assert recipe_on_resume(base, after, words, state=state, recorded=(), version=5).live[0].generation == 8


def test_setting_a_live_key_back_to_what_the_recipes_file_says_is_a_change_too() -> None:
    assert resumed({"run.steps": 10}).live == (LiveChange(generation=4, values={"run.steps": 10}, at_step=6),)


def test_setting_what_holds_already_changes_nothing() -> None:
    assert resumed({"run.steps": 20}).live == ()
    # As after a death, when the same words are heard again: the change of the first time is in the file.
    made = LiveChange(generation=4, values={"run.steps": 30}, at_step=6)
    assert resumed({"run.steps": 30}, recorded=(LATER, made)).live == ()


def test_other_keys_change_the_recipe_as_ever() -> None:
    found = resumed({"run.max_skipped_steps": 9})
    assert found.base.run.max_skipped_steps == 9 and found.live == ()
    assert [each.key for each in found.changes] == ["run.max_skipped_steps"]
    with pytest.raises(RecipeError, match="seed: 0 -> 1"):
        resumed({"seed": 1})


@pytest.mark.parametrize("value", [1e-6, 5e-4])
def test_a_live_key_that_may_not_change_on_a_resume_is_changed_while_the_run_goes_on(value: float) -> None:
    # 1e-6 is what the recipe says, and what does not hold any more.
    with pytest.raises(RecipeError, match=r"must be changed live again, found learner\.optimizer\.learning_rate"):
        resumed({"learner.optimizer": {"learning_rate": value}})
