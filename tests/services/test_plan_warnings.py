"""What a plug-in says of its own options in a run, before the run starts."""

from recipe_builders import make_recipe

from services.plan import make_plan


def test_a_cut_that_can_never_happen_is_told_with_its_recipe_key() -> None:
    shaping = {"transforms": ["drop_truncated", "dot"], "verifiers": {"num_processes": 0}}
    plan = make_plan(make_recipe({"shaping": shaping, "rollout.group_size": 10}))
    (warning,) = (each for each in plan.warnings if each.startswith("dot never cuts"))
    assert warning.endswith("set rollout.group_size to at least 11, or alpha below 2.85 (shaping.transforms[1])")
    assert "token_text" in plan.signals


def test_a_cut_that_may_happen_is_not() -> None:
    shaping = {"transforms": ["dot"], "verifiers": {"num_processes": 0}}
    plan = make_plan(make_recipe({"shaping": shaping, "rollout.group_size": 11}))
    assert not any("dot" in each for each in plan.warnings)
