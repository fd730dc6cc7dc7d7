"""What of a config is live, how a patch is read, and what becomes of a recipe."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_builders import FULL, full_recipe
from recipe_builders import make_recipe

from services.live.keys import LiveRefused, border_of, changed_recipe, held_already, live_keys, read_patch, recipe_after
from services.live.reference import PAGE, with_table
from services.live.rows import ROWS, Applies, LiveRow, ValueKind
from services.plan import make_plan


def refusals(recipe: Any, patch: dict[str, Any], **more: Any) -> dict[str, str]:
    """What is refused, by JSON pointer."""
    with pytest.raises(LiveRefused) as caught:
        read_patch(recipe, patch, **more)
    return {each.pointer: each.message for each in caught.value.problems}


# -- which keys there are


def test_a_run_has_the_live_keys_of_its_own_components_alone() -> None:
    small = {each.key for each in live_keys(make_recipe())}
    assert {"learner.optimizer.learning_rate", "learner.loss.clip_low", "shaping.shapers.less.outside"} <= small
    missing = {row.key for row in ROWS} - small
    assert missing == {
        "learner.kl.coefficient",
        "learner.correction.low",
        "learner.correction.high",
        "learner.regularisers.entropy_bonus.coefficient",
        "learner.regularisers.hint_nll.gamma",
        "learner.token_plans.clip_cov.share",
        "learner.token_plans.kl_cov.top_share",
        "learner.token_plans.kl_cov.beta",
        "learner.token_plans.forking_tokens.top_share",
        "run.admission.over_sampling",
        "evaluation.every_steps",
    }
    assert [each.key for each in live_keys(full_recipe())] == [row.key for row in ROWS]


def test_every_live_key_says_what_it_means() -> None:
    assert all(len(each.meaning) > 10 for each in live_keys(full_recipe()))


def test_the_page_lists_the_keys_that_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_table(text)


def test_two_components_of_one_kind_have_no_live_option() -> None:
    twice = {"learner.regularisers": [{"kind": "entropy_bonus", "coefficient": each} for each in (0.1, 0.2)]}
    key = "learner.regularisers.entropy_bonus.coefficient"
    assert key not in {each.key for each in live_keys(make_recipe(twice))}
    found = refusals(make_recipe(twice), {key: 0.3})
    assert "must have one entropy_bonus for it, found 2" in found[f"#/{key}"]


# -- reading a patch


def test_a_patch_may_nest_or_dot_and_gives_values_by_dotted_key() -> None:
    nested = {"learner": {"optimizer": {"learning_rate": 1}}, "run": {"checkpoint": {"keep_last": 3}}}
    dotted = {"learner.optimizer.learning_rate": 1, "run": {"checkpoint.keep_last": 3}}
    wanted = {"learner.optimizer.learning_rate": 1.0, "run.checkpoint.keep_last": 3}
    assert read_patch(make_recipe(), nested) == read_patch(make_recipe(), dotted) == wanted
    assert isinstance(read_patch(make_recipe(), nested)["learner.optimizer.learning_rate"], float)
    assert read_patch(make_recipe(), {}) == read_patch(make_recipe(), {"run": {}}) == {}


def test_a_component_is_named_by_its_kind() -> None:
    patch = {"shaping": {"shapers": {"less": {"outside": "keep"}}}}
    recipe = changed_recipe(make_recipe(), read_patch(make_recipe(), patch))
    assert recipe.shaping.shapers[0].options == {"outside": "keep"}
    assert recipe.model_copy(update={"shaping": make_recipe().shaping}) == make_recipe()


@pytest.mark.parametrize(
    ("patch", "pointer", "reason"),
    [
        ({"seed": 1}, "#/seed", "it decides what is sampled; begin a new run"),
        ({"seed": 0}, "#/seed", "it decides what is sampled"),
        ({"data": {"train": {"size": 3}}}, "#/data", "which prompts"),
        ({"rollout": {"group_size": 4}}, "#/rollout/group_size", "within a group"),
        ({"rollout": {"engine": {"dtype": "bfloat16"}}}, "#/rollout/engine", "engines are started with it"),
        ({"learner": {"loss": {"kind": "other"}}}, "#/learner/loss/kind", "the learner is built with it"),
        ({"run": {"deadlines": {"step_seconds": 5}}}, "#/run/deadlines", "lessrl resume RUN_DIR --set run.deadlines="),
        ({"run": {"stepps": 5}}, "#/run/stepps", "unknown key; did you mean run.steps?"),
        ({"nothing/like~it": {"a": 1}}, "#/nothing~1like~0it", "unknown key; GET /v1/capabilities"),
        ({"run": 5}, "#/run", "it is a section, got 5; name a key of it, for example run.steps"),
        ({"shaping": {"shapers": []}}, "#/shaping/shapers", "for example shaping.shapers.less.mode"),
        ({"run": {"steps": None}}, "#/run/steps", "null would remove it"),
        ({"run": {"steps": 2.5}}, "#/run/steps", "must be a whole number, got 2.5"),
        ({"run": {"steps": True}}, "#/run/steps", "must be a whole number, got True"),
        ({"run": {"steps": 0}}, "#/run/steps", "must be >= 1, got 0"),
        (
            {"learner": {"optimizer": {"learning_rate": "1e-6"}}},
            "#/learner/optimizer/learning_rate",
            "must be a number",
        ),
        (
            {"learner": {"optimizer": {"learning_rate": {"kind": "cosine"}}}},
            "#/learner/optimizer/learning_rate",
            "numb",
        ),
        ({"learner.optimizer.learning_rate.kind": "x"}, "#/learner.optimizer.learning_rate.kind", "takes a number"),
        ({"learner": {"optimizer": {"learning_rate": float("nan")}}}, "#/learner/optimizer/learning_rate", "finite"),
        ({"learner": {"optimizer": {"max_grad_norm": 10**400}}}, "#/learner/optimizer/max_grad_norm", "finite"),
        ({"learner": {"kl": {"coefficient": 0.1}}}, "#/learner/kl/coefficient", "no reference model is loaded"),
        ({"learner": {"loss": {"dual_clip": 1}}}, "#/learner/loss/dual_clip", "must be > 1, got 1"),
        ({"shaping": {"segments": {"quantile": 1}}}, "#/shaping/segments/quantile", "must be < 1, got 1"),
        ({"shaping": {"segments": {"scope": "all"}}}, "#/shaping/segments/scope", "one of response, group, got 'all'"),
        ({"evaluation": {"every_steps": 2}}, "#/evaluation/every_steps", "the run evaluates nothing"),
        (
            {"rollout": {"sampling": {"max_response_tokens": 9}}},
            "#/rollout/sampling/max_response_tokens",
            "<= 8, got 9",
        ),
        ({"run.steps": 4, "run": {"steps": 5}}, "#/run/steps", "is given twice"),
    ],
)
def test_what_cannot_change_says_why(patch: dict[str, Any], pointer: str, reason: str) -> None:
    found = refusals(make_recipe(), patch)
    assert list(found) == [pointer]
    assert reason in found[pointer]


def test_every_problem_of_a_patch_is_told_and_nothing_of_it_is_taken() -> None:
    found = refusals(make_recipe(), {"seed": 1, "run": {"steps": 9, "max_staleness": -1}})
    assert sorted(found) == ["#/run/max_staleness", "#/seed"]


def test_a_target_below_the_steps_that_are_finished_is_refused() -> None:
    assert read_patch(make_recipe(), {"run.steps": 8}, finished_steps=7) == {"run.steps": 8}
    assert "must be > 8" in refusals(make_recipe(), {"run.steps": 8}, finished_steps=8)["#/run.steps"]


def test_responses_may_grow_back_to_what_the_engines_were_started_for() -> None:
    base, key = make_recipe(), "rollout.sampling.max_response_tokens"
    shorter = changed_recipe(base, {key: 4})
    assert changed_recipe(shorter, {key: 8}, base=base) == base
    with pytest.raises(LiveRefused, match="the engines were started for no longer responses"):
        changed_recipe(shorter, {key: 9}, base=base)


def test_a_temperature_is_live_in_synchronous_mode_alone() -> None:
    key = "rollout.sampling.temperature"
    assert changed_recipe(make_recipe(), {key: 0.5}).rollout.sampling.temperature == 0.5
    for changes in ({"run.max_staleness": 1}, {"run.admission": "rsr"}):
        late = make_recipe(changes)
        assert "two temperatures would be trained as one" in refusals(late, {key: 0.5})[f"#/{key}"]
    level = make_recipe({"run.admission": {"kind": "rsr", "over_sampling": 1}})
    assert changed_recipe(level, {key: 0.5}).rollout.sampling.temperature == 0.5


def test_a_refusal_travels_between_processes() -> None:
    with pytest.raises(LiveRefused) as caught:
        read_patch(make_recipe(), {"seed": 1})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.problems, str(again)) == (caught.value.problems, str(caught.value))


# -- what a change leads to


def test_values_that_fit_alone_but_not_together_are_refused() -> None:
    # Four groups a step, and no more than two may wait: the run could never take a step.
    with pytest.raises(LiveRefused, match="the run could never take a step") as caught:
        changed_recipe(make_recipe(), {"run.admission.max_buffered_groups": 2})
    assert caught.value.problems[0].pointer == "#/run/admission/max_buffered_groups"
    cooling = make_recipe({"rollout.sampling": {"temperature": {"kind": "linear", "stop": 0.5, "steps": 4}}})
    with pytest.raises(LiveRefused, match=r"a temperature that changes needs run\.max_staleness 0, got 1"):
        changed_recipe(cooling, {"run.max_staleness": 1})
    with pytest.raises(LiveRefused, match=r"over_sampling must be in \[1, 1 \+ max_age\], got 2.5 and max_age 1"):
        changed_recipe(make_recipe({"run.admission": "rsr"}), {"run.admission.over_sampling": 2.5})
    corrected = make_recipe(FULL)
    with pytest.raises(LiveRefused, match="0 <= low < high"):
        changed_recipe(corrected, {"learner.correction.low": 3.0})
    assert changed_recipe(corrected, {"learner.correction.low": 3.0, "learner.correction.high": 4.0})


def test_a_number_takes_the_place_of_a_schedule() -> None:
    cosine = {"kind": "cosine", "peak": 1e-3, "total_steps": 10}
    recipe = make_recipe({"learner.optimizer": {"learning_rate": cosine}})
    key = "learner.optimizer.learning_rate"
    assert changed_recipe(recipe, {key: 5e-4}).learner.optimizer.learning_rate == 5e-4


def test_a_change_with_keys_of_both_borders_applies_at_the_later_one() -> None:
    step, group = {"learner.optimizer.learning_rate": 0.1}, {"run.steps": 9}
    assert border_of(step) is Applies.NEXT_STEP
    assert border_of(group) is border_of(step | group) is Applies.NEXT_GROUP


def test_what_a_recipe_holds_already_is_told_key_by_key_also_where_only_all_together_fit() -> None:
    recipe = make_recipe(FULL)
    values = {"learner.correction.low": 3.0, "learner.correction.high": 4.0, "run.steps": 3}
    assert held_already(recipe, values) == {"run.steps": 3}
    assert held_already(changed_recipe(recipe, values), values) == values


def test_changes_add_up_in_their_order() -> None:
    changes = [{"run.steps": 9, "run.max_skipped_steps": 1}, {"run.steps": 12}]
    recipe = recipe_after(make_recipe(), changes)
    assert (recipe.run.steps, recipe.run.max_skipped_steps) == (12, 1)
    assert recipe_after(make_recipe(), []) == make_recipe()


ANYTHING = st.one_of(
    st.integers(-5, 12),
    st.floats(-1.0, 3.0),
    st.sampled_from([None, True, "keep", "", 10**400, 1e300]),
    st.dictionaries(st.sampled_from(["kind", "x"]), st.integers(0, 2), max_size=2),
    st.lists(st.integers(0, 2), max_size=2),
)
KEYS = st.sampled_from(
    [*(row.key for row in ROWS), "seed", "run", "run.deadlines.step_seconds", "shaping.shapers", "no"]
)
PATCHES = st.dictionaries(KEYS, ANYTHING, min_size=1, max_size=3)


def in_range(row: LiveRow) -> st.SearchStrategy[Any]:
    if row.kind is ValueKind.CHOICE:
        return st.sampled_from(row.choices)
    limits, is_whole = row.range, row.kind is ValueKind.INTEGER
    least = limits.minimum or 0
    if is_whole:
        return st.integers(int(least), 8)
    above = limits.above if limits.above is not None else least
    most = min(each for each in (limits.maximum, limits.below, 9.0) if each is not None)
    ends = {"exclude_min": limits.above is not None, "exclude_max": limits.below is not None}
    return st.floats(above, most, allow_subnormal=False, **ends)


SENSIBLE = st.lists(st.sampled_from(ROWS), min_size=1, max_size=5, unique=True).flatmap(
    lambda rows: st.fixed_dictionaries({row.key: in_range(row) for row in rows})
)


@given(patch=st.one_of(PATCHES, SENSIBLE), finished=st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_a_patch_is_refused_with_reasons_or_leads_to_a_recipe_that_plans(patch: dict[str, Any], finished: int) -> None:
    recipe = full_recipe()
    before = copy.deepcopy(recipe.as_dict())
    try:
        values = read_patch(recipe, patch, finished_steps=finished)
        changed = changed_recipe(recipe, values)
    except LiveRefused as refused:
        assert refused.problems and all(each.message and each.pointer.startswith("#/") for each in refused.problems)
        return
    finally:
        assert recipe.as_dict() == before
    make_plan(changed, with_torch=False)
    # An empty section is a patch of nothing.
    assert set(values) == {key for key, value in patch.items() if value != {}}
    # The whole of the change is in the recipe, and nothing else is.
    assert recipe_after(recipe, [values]) == changed
    assert recipe_after(changed, [values]) == changed


def test_every_key_takes_each_end_of_its_range_and_nothing_beyond() -> None:
    recipe = full_recipe()
    for row in ROWS:
        if row.kind is ValueKind.CHOICE:
            assert all(read_patch(recipe, {row.key: each}) == {row.key: each} for each in row.choices)
            continue
        whole = row.kind is ValueKind.INTEGER
        step = 1 if whole else 1e-6
        for end, inside, sign in ((row.range.minimum, True, -1), (row.range.above, False, -1)):
            _check_end(recipe, row.key, end, inside=inside, beyond=sign * step)
        for end, inside, sign in ((row.range.maximum, True, 1), (row.range.below, False, 1)):
            if row.key != "rollout.sampling.max_response_tokens":
                _check_end(recipe, row.key, end, inside=inside, beyond=sign * step)


def _check_end(recipe: Any, key: str, end: float | None, *, inside: bool, beyond: float) -> None:
    if end is None:
        return
    assert bool(_accepts(recipe, key, end)) == inside, key
    assert not _accepts(recipe, key, end + beyond), key


def _accepts(recipe: Any, key: str, value: float) -> bool:
    try:
        read_patch(recipe, {key: value})
    except LiveRefused:
        return False
    return True
