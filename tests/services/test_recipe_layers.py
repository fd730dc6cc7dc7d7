"""Layers change what they name and nothing else; what they contradict is refused, and the line names the layer."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipe_builders import make_raw, write_recipe

from services.recipe import Recipe, load_recipe, read_layered
from services.recipe_yaml import header_of, layers_header, recipe_text
from shaping.components import ComponentSpec
from shaping.config import RewardConfig
from shaping.errors import RecipeError


def write_layer(folder: Path, name: str, text: str | dict[str, Any]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
    return path


def loaded(folder: Path, *layers: str | dict[str, Any], base: dict[str, Any] | None = None, **options: Any) -> Recipe:
    paths = [write_layer(folder, f"layer{index}.yaml", each) for index, each in enumerate(layers)]
    return load_recipe(write_recipe(folder, base), layers=paths, **options)


def refusal(folder: Path, *layers: str | dict[str, Any], **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        loaded(folder, *layers, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- what merges, and how


def test_no_layer_changes_nothing(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    assert load_recipe(path, layers=()) == load_recipe(path)
    assert read_layered(path) == make_raw()


def test_mappings_merge_key_by_key_and_leave_the_rest(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "run: {max_staleness: 1}\nlearner: {kl: {coefficient: 0.001}}")
    plain = loaded(tmp_path)
    assert (recipe.run.max_staleness, recipe.run.steps) == (1, 3)
    assert recipe.learner.kl.coefficient == 0.001
    assert recipe.learner.micro_batch_tokens == 256 and recipe.rollout == plain.rollout


def test_a_plugin_takes_the_place_of_what_stood_there_whole(tmp_path: Path) -> None:
    base = {"learner.loss": {"kind": "ppo_clip", "clip_low": 0.1, "dual_clip": 10.0}, "shaping.estimator": "rloo"}
    recipe = loaded(tmp_path, "learner: {loss: {kind: ppo_clip, clip_low: 0.2}}\nshaping: {estimator: grpo}", base=base)
    assert recipe.learner.loss == ComponentSpec(kind="ppo_clip", options={"clip_low": 0.2})
    assert recipe.shaping.estimator == ComponentSpec(kind="grpo")
    assert loaded(tmp_path, "learner: {loss: ppo_clip}", base=base).learner.loss == ComponentSpec(kind="ppo_clip")
    # An engine is chosen by its kind as well.
    engine = loaded(tmp_path, "rollout: {engine: {kind: vllm}}").rollout.engine
    assert (engine.kind, engine.dtype) == ("vllm", "bfloat16")


def test_options_without_a_kind_change_the_plugin_that_stands_there(tmp_path: Path) -> None:
    base = {"learner.loss": {"kind": "ppo_clip", "dual_clip": 10.0}, "shaping.estimator": "grpo"}
    recipe = loaded(tmp_path, "learner: {loss: {clip_high: 0.3}}\nshaping: {estimator: {scale: none}}", base=base)
    assert recipe.learner.loss.options == {"dual_clip": 10.0, "clip_high": 0.3}
    assert recipe.shaping.estimator == ComponentSpec(kind="grpo", options={"scale": "none"})


def test_lists_replace_and_a_plus_appends(tmp_path: Path) -> None:
    base = {"shaping.transforms": [{"kind": "drop_truncated"}]}
    replaced = loaded(tmp_path, "shaping: {transforms: [drop_uniform]}", base=base)
    appended = loaded(tmp_path, "shaping: {transforms+: [drop_uniform]}", base=base)
    assert [each.kind for each in replaced.shaping.transforms] == ["drop_uniform"]
    assert [each.kind for each in appended.shaping.transforms] == ["drop_truncated", "drop_uniform"]


def test_what_nobody_wrote_stands_there_by_default_and_is_appended_to(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "shaping: {rewards+: [{kind: format, weight: 0.5}], shapers+: [uniform]}")
    assert recipe.shaping.rewards == (RewardConfig(kind="math_answer"), RewardConfig(kind="format", weight=0.5))
    assert [each.kind for each in recipe.shaping.shapers] == ["less", "uniform"]


def test_overrides_come_last(tmp_path: Path) -> None:
    assert loaded(tmp_path, "run: {steps: 5}", overrides={"run.steps": 7}).run.steps == 7


LAYERS = (
    "shaping: {shapers: []}\nlearner: {loss: {clip_high: 0.3}}",
    "shaping: {shapers: [{kind: uniform}]}",
    "learner: {kl: {coefficient: 0.5}}\nshaping: {transforms: [drop_uniform]}",
)


def test_the_order_of_layers_that_append_nothing_means_nothing(tmp_path: Path) -> None:
    found = [loaded(tmp_path, *order) for order in permutations(LAYERS)]
    assert all(each == found[0] for each in found)
    # An empty list clears the base alone: what another layer asks for stands.
    assert found[0].shaping.shapers == (ComponentSpec(kind="uniform"),)
    assert loaded(tmp_path, LAYERS[0]).shaping.shapers == ()


def test_what_layers_append_stands_in_their_order_behind_what_they_set(tmp_path: Path) -> None:
    appending = ("shaping: {transforms+: [drop_truncated]}", "shaping: {transforms: [drop_uniform]}")
    for order in permutations(appending):
        kinds = [each.kind for each in loaded(tmp_path, *order).shaping.transforms]
        assert kinds == ["drop_uniform", "drop_truncated"]
    # 0.25 and 0.75 tell apart who came first.
    shares = [f"shaping: {{transforms+: [{{kind: drop_truncated, max_share: {each}}}]}}" for each in (0.25, 0.75)]
    recipe = loaded(tmp_path, *shares)
    assert [each.options["max_share"] for each in recipe.shaping.transforms] == [0.25, 0.75]


def test_layers_that_agree_compose(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "shaping: {estimator: rloo}", "shaping: {estimator: {kind: rloo}}")
    assert recipe.shaping.estimator.kind == "rloo"


def test_a_layer_is_looked_for_as_given_then_beside_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes, here = tmp_path / "recipes", tmp_path / "here"
    write_layer(recipes, "methods/one.yaml", "run: {steps: 11}")
    path = write_recipe(recipes)
    here.mkdir()
    monkeypatch.chdir(here)
    assert load_recipe(path, layers=[Path("methods/one.yaml")]).run.steps == 11
    write_layer(here, "methods/one.yaml", "run: {steps: 12}")
    assert load_recipe(path, layers=[Path("methods/one.yaml")]).run.steps == 12


def test_paths_in_a_layer_are_those_beside_the_layer(tmp_path: Path) -> None:
    text = (
        "model: {path: ../policy}\n"
        "data: {train: {path: rows.jsonl}, evaluation: {kind: hub, name: some/data, path: sub}}\n"
        "evaluation: {benchmarks+: [mine=own.jsonl]}\n"
    )
    layer = write_layer(tmp_path / "layers", "one.yaml", text)
    base = {"data.train": {"kind": "jsonl", "path": "base.jsonl"}, "evaluation.benchmarks": ["its=base.jsonl"]}
    (tmp_path / "recipes").mkdir()
    recipe = load_recipe(write_recipe(tmp_path / "recipes", base), layers=[layer])
    assert recipe.model.path == str(tmp_path / "policy")
    assert recipe.data.train.options["path"] == str(tmp_path / "layers" / "rows.jsonl")
    # On a hub a path is no file of this machine.
    assert recipe.data.evaluation is not None and recipe.data.evaluation.options["path"] == "sub"
    assert recipe.evaluation.benchmarks == (
        f"its={tmp_path}/recipes/base.jsonl",
        f"mine={tmp_path}/layers/own.jsonl",
    )


def test_a_merged_recipe_reads_back_the_same(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "shaping: {rewards+: [{kind: format, weight: 0.5}]}")
    text = recipe_text(recipe.as_dict(), layers_header([Path("methods/a.yaml"), Path("b.yaml")]))
    assert header_of(text) == "# layers: methods/a.yaml, b.yaml\n"
    assert load_recipe(write_layer(tmp_path, "kept.yaml", text)) == recipe
    assert header_of(recipe_text(recipe.as_dict())) == ""


# -- what is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a layer must set a key of a recipe, found none"),
        ("# nothing\n", "a layer must set a key of a recipe, found none"),
        ("{}", "a layer must set a key of a recipe, found none"),
        ("[1, 2]", "a layer must be a mapping of keys, found list"),
        ("less", "a layer must be a mapping of keys, found str"),
        ("run: [1", "a layer must be valid YAML"),
        ("run: {steps: 1}\nrun: {steps: 2}", "key 'run' stands twice"),
        ("shapping: {shapers: []}", "unknown key 'shapping'; did you mean 'shaping'? (shapping in"),
        ("run: {stepz: 1}", "unknown key 'stepz'; did you mean 'steps'? (run.stepz in"),
        ("shaping: {rewrads+: [format]}", "unknown key 'rewrads'; did you mean 'rewards'? (shaping.rewrads in"),
        ("rollout: {engine: {kind: hf, dtyp: x}}", "did you mean 'dtype'? (rollout.engine.dtyp in"),
        ("shaping: {rewards+: {kind: format}}", "rewards+ must be a list, to append"),
        ("shaping: {estimator+: [grpo]}", "only a list can be appended to, shaping.estimator is none"),
        ("run: {steps: ten}", "must be a valid integer"),
        ("shaping: {rewards+: [{weight: 1}]}", "a component must be a kind or a mapping with `kind`"),
    ],
)
def test_a_layer_that_cannot_be_merged_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(tmp_path, text)
    assert words in message and "layer0.yaml" in message


def test_a_layer_that_is_not_there_is_refused_with_both_places(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"found no file less\.yaml nor .*/less\.yaml; see deploy/recipes/methods"):
        load_recipe(write_recipe(tmp_path), layers=[Path("less.yaml")])


def test_the_same_layer_twice_is_refused(tmp_path: Path) -> None:
    layer = write_layer(tmp_path, "one.yaml", "run: {steps: 5}")
    with pytest.raises(RecipeError, match=r"a layer must be given once, got one\.yaml after .*one\.yaml"):
        load_recipe(write_recipe(tmp_path), layers=[layer, Path("one.yaml")])


@pytest.mark.parametrize(
    ("one", "other", "key", "key_of_other"),
    [
        ("shaping: {estimator: dr_grpo}", "shaping: {estimator: rloo}", "shaping.estimator", "it too"),
        ("run: {steps: 5}", "run: {steps: 6}", "run.steps", "it too"),
        ("learner: {loss: ppo_clip}", "learner: {loss: {clip_low: 0.1}}", "learner.loss", "learner.loss.clip_low"),
        ("learner: {token_plans: [clip_cov]}", "learner: {token_plans: [kl_cov]}", "learner.token_plans", "it too"),
    ],
)
def test_two_layers_that_differ_on_a_key_are_refused(
    tmp_path: Path, one: str, other: str, key: str, key_of_other: str
) -> None:
    assert refusal(tmp_path, one, other) == (
        f"two layers must not differ on a key: {tmp_path}/layer0.yaml sets {key}, {tmp_path}/layer1.yaml sets "
        f"{key_of_other}; leave one of them out, or decide with --set {key}=..."
    )
    assert f"decide with --set {key}=" in refusal(tmp_path, other, one)


def test_who_says_which_of_two_layers_counts_has_both(tmp_path: Path) -> None:
    layers = ("shaping: {estimator: dr_grpo}\nrun: {steps: 5}", "shaping: {estimator: rloo}\nseed: 4")
    recipe = loaded(tmp_path, *layers, overrides={"shaping.estimator": "grpo"})
    assert (recipe.shaping.estimator.kind, recipe.run.steps, recipe.seed) == ("grpo", 5, 4)
    # A key below says nothing of the rest of it.
    assert "two layers must not" in refusal(tmp_path, *layers, overrides={"shaping.estimator.scale": "none"})


def test_an_item_that_stands_in_its_list_already_is_refused_with_who_put_it_there(tmp_path: Path) -> None:
    again = "shaping: {transforms+: [{kind: drop_uniform}]}"
    base = {"shaping.transforms": ["drop_uniform"]}
    ending = "leave one of them out (shaping.transforms)"
    assert refusal(tmp_path, again, base=base) == (
        f"an item must not stand twice in a list, got drop_uniform with the same options from {tmp_path}/recipe.yaml "
        f"and {tmp_path}/layer0.yaml; {ending}"
    )
    assert f"from {tmp_path}/layer0.yaml and {tmp_path}/layer1.yaml; {ending}" in refusal(tmp_path, again, again)
    # Other options make it another item.
    other = "shaping: {transforms+: [{kind: drop_uniform, tolerance: 0.5}]}"
    assert len(loaded(tmp_path, other, base=base).shaping.transforms) == 2


def test_a_key_below_something_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "run: {deadlines: {step_seconds: 5}}", base={"run.deadlines": [1]})
    assert message == f"run.deadlines.step_seconds cannot be set: deadlines is not a mapping ({tmp_path}/layer0.yaml)"
