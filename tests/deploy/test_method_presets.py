"""Every preset of a method composes on every base recipe, and two of them compose or are refused by name."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from group_builders import make_scored

from services.plan import make_plan
from services.plugins import named_plugins
from services.recipe import Recipe, load_recipe
from shaping.components import declared_conflicts, load
from shaping.errors import RecipeError
from shaping.groups import Drop

RECIPES = Path(__file__).resolve().parents[2] / "deploy" / "recipes"
BASES = sorted([RECIPES / "quickstart.yaml", *RECIPES.glob("qwen2.5*.yaml")])
PRESETS = {path.stem: path for path in sorted((RECIPES / "methods").glob("*.yaml"))}
PAIRS = sorted(combinations(PRESETS, 2))

_METHODS = """
cispo clip_cov dapo dot dr_grpo entropy_advantage forking_tokens grpo gspo hapo_history kl_cov less less_compat ngrpo
nsr pshw psr rsr seele steer ter w_reinforce
"""

MAY_SET = (
    *("rollout.plan", "rollout.group_size", "shaping.rewards", "shaping.transforms", "shaping.estimator"),
    *("shaping.segments", "shaping.shapers", "shaping.drop_without_signal", "learner.loss", "learner.token_plans"),
    *("learner.regularisers", "learner.kl", "learner.old_logprobs", "run.admission"),
)
"""What a method may decide: nothing of the model, the data, the machine or how long a run is."""


def raw(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PRESETS[name].read_text())
    return loaded


def leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of all that a preset sets or appends to; a mapping with a kind is one value."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and "kind" not in value:
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def set_twice(one: str, other: str) -> list[str]:
    """Keys that both set, to different values; an empty list takes from the base alone."""
    first, second = dict(leaves(raw(one))), dict(leaves(raw(other)))
    shared = [key for key in first if key in second and not key.endswith("+")]
    return [key for key in shared if first[key] != second[key] and [] not in (first[key], second[key])]


def kinds_of(name: str) -> set[str]:
    """The plug-ins that a preset names."""
    values = [value for _, value in leaves(raw(name))]
    items = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return {item["kind"] for item in items if isinstance(item, Mapping)}


def unordered(recipe: Recipe) -> dict[str, Any]:
    """Every key of a recipe; what two presets append to one list stands there in their order."""
    found = dict(leaves(recipe.as_dict()))
    return {key: sorted(map(str, value)) if isinstance(value, list) else value for key, value in found.items()}


def contradictions(recipe: Recipe) -> list[tuple[str, str]]:
    """Pairs of its kinds of which one declares the other."""
    named = [(folder, spec.kind) for _, folder, spec in named_plugins(recipe)]
    kinds = {kind for _, kind in named}
    return [(kind, other) for folder, kind in named for other in declared_conflicts(folder, kind) if other in kinds]


def needs_steps(base: Path, *names: str) -> bool:
    """SEELE on a data file: whether its rows have solution steps is known by how the source is written alone."""
    return "seele" in names and yaml.safe_load(base.read_text())["data"]["train"]["kind"] == "parquet"


def test_every_method_that_was_promised_has_a_preset() -> None:
    assert set(_METHODS.split()) <= set(PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_and_sets_nothing_but_its_method(name: str) -> None:
    head = [line for line in PRESETS[name].read_text().splitlines() if line.startswith("#")]
    text = " ".join(line.removeprefix("# ") for line in head)
    assert head and text.index("Source: ") < text.index("Changes: ") and text.index("Source: ") > 0
    for key, _ in leaves(raw(name)):
        assert any(f"{key.removesuffix('+')}.".startswith(f"{each}.") for each in MAY_SET), key


@pytest.mark.parametrize("base", BASES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_plans_on_every_base(name: str, base: Path) -> None:
    recipe = load_recipe(base, layers=[PRESETS[name]])
    if needs_steps(base, name):
        with pytest.raises(RecipeError, match=r"seele needs solution_steps, .*use a data\.train source with"):
            make_plan(recipe)
        return
    make_plan(recipe)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_method_alone_and_leaves_the_rest_of_the_base(name: str) -> None:
    base, recipe = load_recipe(BASES[0]).as_dict(), load_recipe(BASES[0], layers=[PRESETS[name]])
    assert kinds_of(name) <= {spec.kind for _, _, spec in named_plugins(recipe)}
    # A base may have LESS on: a method that is not LESS turns it off.
    wanted = [each["kind"] for each in raw(name)["shaping"]["shapers"]]
    assert [spec.kind for spec in recipe.shaping.shapers] == wanted
    touched = {key.removesuffix("+") for key, _ in leaves(raw(name))}
    before, after = (dict(leaves(each)) for each in (base, recipe.as_dict()))
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert changed <= touched


@pytest.mark.parametrize("name", ["dapo", "pshw"])
def test_a_preset_that_leaves_out_groups_of_one_outcome_goes_by_outcomes_alone(name: str) -> None:
    # three correct responses, of which DAPO's punishment of length makes the rewards differ
    recipe = load_recipe(BASES[0], layers=[PRESETS[name]])
    (transform,) = (load("shaping.transforms", spec, name).build() for spec in recipe.shaping.transforms)
    assert isinstance(transform.transform(make_scored([True] * 3, rewards=[1.0, 0.5, 1.0])), Drop)
    mixed = make_scored([True, False], rewards=[0.0, 0.0])
    assert transform.transform(mixed) is mixed


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_presets_compose_or_are_refused_by_name(one: str, other: str) -> None:
    base, twice = RECIPES / "quickstart.yaml", set_twice(one, other)
    orders = ([one, other], [other, one])
    if twice:
        for names in orders:
            with pytest.raises(RecipeError) as caught:
                load_recipe(base, layers=[PRESETS[name] for name in names])
            message = str(caught.value)
            assert "\n" not in message and all(f"{name}.yaml sets " in message for name in names)
            assert any(f"sets {key}," in message for key in twice)
        return
    recipe, turned = (load_recipe(base, layers=[PRESETS[name] for name in names]) for names in orders)
    assert unordered(recipe) == unordered(turned)
    pairs = contradictions(recipe)
    if pairs:
        with pytest.raises(RecipeError) as caught:
            make_plan(recipe)
        message = str(caught.value)
        assert any(f"{kind} (" in message and f"cannot run with {against} (" in message for kind, against in pairs)
        # Each of the two brought a kind that is named, or it would not be clear which to leave out.
        assert all(any(f"{kind} (" in message for kind in kinds_of(name)) for name in (one, other))
        return
    make_plan(recipe)
    # Neither has lost what it brought.
    assert kinds_of(one) | kinds_of(other) <= {spec.kind for _, _, spec in named_plugins(recipe)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Opposite directions on one quantity, or two answers to one question.
        *(("forking_tokens", "less"), ("forking_tokens", "less_compat"), ("entropy_advantage", "less")),
        *(
            ("psr", "dapo"),
            ("nsr", "dapo"),
            ("psr", "pshw"),
            ("nsr", "pshw"),
            ("ngrpo", "dapo"),
            ("w_reinforce", "dapo"),
        ),
        *(("clip_cov", "kl_cov"), ("hapo_history", "seele"), ("gspo", "kl_cov"), ("cispo", "clip_cov")),
        *(("dr_grpo", "pshw"), ("grpo", "dr_grpo"), ("gspo", "cispo")),
    ],
)
def test_methods_that_contradict_each_other_do_not_plan(one: str, other: str) -> None:
    with pytest.raises(RecipeError):
        make_plan(load_recipe(RECIPES / "quickstart.yaml", layers=[PRESETS[one], PRESETS[other]]))


@pytest.mark.parametrize(
    "names",
    [
        *(
            ("less", "gspo"),
            ("less", "dr_grpo"),
            ("less", "ter"),
            ("less", "dapo"),
            ("less", "cispo"),
            ("less", "ngrpo"),
        ),
        *(("dapo", "forking_tokens"), ("dr_grpo", "gspo"), ("seele", "less"), ("seele", "ter")),
        # The later stages of Confucius3-Math.
        ("pshw", "rsr", "ter"),
    ],
    ids="+".join,
)
def test_methods_that_stand_beside_each_other_plan(names: tuple[str, ...]) -> None:
    recipe = load_recipe(RECIPES / "quickstart.yaml", layers=[PRESETS[name] for name in names])
    make_plan(recipe)
    assert set().union(*map(kinds_of, names)) <= {spec.kind for _, _, spec in named_plugins(recipe)}


def test_the_numbers_are_those_of_the_papers() -> None:
    def options(name: str, *keys: str) -> Any:
        node: Any = load_recipe(RECIPES / "quickstart.yaml", layers=[PRESETS[name]]).as_dict()
        for key in keys:
            node = node[int(key)] if isinstance(node, list) else node[key]
        return node

    ngrpo = options("ngrpo", "learner", "loss")
    assert (ngrpo["clip_low"], ngrpo["clip_high"]) == (0.16, 0.24)
    assert options("ngrpo", "learner", "kl", "coefficient") == 0.0
    assert options("ngrpo", "shaping", "drop_without_signal") is True
    dapo = options("dapo", "learner", "loss")
    assert (dapo["clip_low"], dapo["clip_high"]) == (0.2, 0.28)
    assert [each["kind"] for each in options("dapo", "shaping", "rewards")] == ["math_answer", "overlong"]
    # Confucius3-Math: D = alpha mu + 1.256, 0.001 |H - 0.55|.
    assert options("pshw", "shaping", "estimator") == {"kind": "pshw", "alpha": -0.256, "scale": 1.256}
    assert options("ter", "learner", "regularisers", "0") == {"kind": "ter", "coefficient": 0.001, "target_nats": 0.55}
    # Four rounds of eight.
    assert options("seele", "rollout", "group_size") / options("seele", "rollout", "plan")["num_rounds"] == 8
    assert options("seele", "learner", "kl") == {"coefficient": 0.001, "estimator": "k3"}
    # One outlier among n lies at most (n - 1) / sqrt(n) deviations out: 31 / 5.66 = 5.48 > 3 for 32.
    assert options("dot", "rollout", "group_size") == 32
