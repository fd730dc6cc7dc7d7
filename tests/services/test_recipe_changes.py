"""What a run may go on with, and what it may not."""

from typing import Any

import pytest
from recipe_builders import make_recipe

from services.recipe_changes import MAY_CHANGE, KeyChange, changes_on_resume
from shaping.errors import RecipeError


def test_the_same_recipe_changes_nothing() -> None:
    assert changes_on_resume(make_recipe(), make_recipe()) == ()


def test_a_default_written_out_is_no_change() -> None:
    assert changes_on_resume(make_recipe(), make_recipe({"rollout.num_workers": 1})) == ()


def test_length_place_and_tolerance_may_change_and_are_told_by_key() -> None:
    room = {"kind": "exact", "max_buffered_groups": 5}
    after = make_recipe(
        {"run.admission": room, "run.steps": 9, "run.deadlines.step_seconds": 5.0, "cluster.learner.num_cpus": 2.0}
    )
    assert changes_on_resume(make_recipe(), after) == (
        KeyChange(key="cluster.learner.num_cpus", before=1.0, after=2.0),
        KeyChange(key="run.admission.max_buffered_groups", before=None, after=5),
        KeyChange(key="run.deadlines.step_seconds", before=7200.0, after=5.0),
        KeyChange(key="run.steps", before=3, after=9),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("model.path", "another/model"),
        ("data.train", {"kind": "arithmetic_task", "size": 17}),
        ("rollout.group_size", 4),
        ("rollout.engine.dtype", "bfloat16"),
        ("rollout.sampling.temperature", 0.5),
        ("shaping.segments", {"min_length": 6}),
        ("shaping.shapers", []),
        ("learner.optimizer", {"learning_rate": 1e-3}),
        ("learner.mini_batch_groups", 2),
        ("run.max_staleness", 1),
        ("run.admission", "rsr"),
    ],
)
def test_what_decides_what_is_learned_may_not_change(key: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        changes_on_resume(make_recipe(), make_recipe({key: value, "run.steps": 9}))
    message = str(caught.value)
    assert key in message and "run.steps" not in message


def test_every_refused_key_is_named_with_both_values() -> None:
    with pytest.raises(RecipeError, match=r"rollout\.group_size: 2 -> 4; seed: 0 -> 1;"):
        changes_on_resume(make_recipe(), make_recipe({"seed": 1, "rollout.group_size": 4}))


def test_keys_that_may_change_are_keys_of_a_recipe() -> None:
    # Options of a component stand in a recipe only where they are written out.
    admission = {"kind": "exact", "max_buffered_groups": 0}
    for key in MAY_CHANGE:
        node: Any = make_recipe({"run.admission": admission}).as_dict()
        for part in key.split("."):
            assert part in node, key
            node = node[part]
