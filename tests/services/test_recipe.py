"""Reading a recipe: what is written is what is meant, and every mistake is named with its place."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recipe_builders import NOWHERE, make_raw, make_recipe, write_recipe

from services.recipe import Recipe, load_recipe
from services.recipe_yaml import read_yaml
from shaping.components import ComponentSpec
from shaping.config import RewardConfig
from shaping.errors import RecipeError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "deploy" / "recipes").glob("*.yaml"))
HEAVY = ("torch", "ray", "vllm", "deepspeed", "transformers")


def refusal(changes: dict[str, object]) -> str:
    with pytest.raises(RecipeError) as caught:
        make_recipe(changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


# -- what is read


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_recipe_parses_and_comes_back_equal(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    # Through JSON and YAML, as run files and the API hold it; paths are absolute by then, so the folder is another.
    for text in (json.dumps(recipe.as_dict()), yaml.safe_dump(recipe.as_dict())):
        again = Recipe.parse(yaml.safe_load(text), base_dir=NOWHERE, where="run.yaml")
        assert again == recipe
        assert again.content_hash == recipe.content_hash


def test_every_shape_of_component_comes_back_equal() -> None:
    recipe = make_recipe(
        {
            "shaping.rewards": ["math_answer", {"kind": "format", "weight": 0.5, "pattern": "x+"}],
            "shaping.transforms": [{"kind": "drop_uniform", "tolerance": 0.1}],
            "shaping.estimator": "rloo",
            "rollout.sampling.temperature": {"kind": "linear", "start": 1.0, "stop": 0.5, "steps": 10},
            "rollout.sampling.stop": ["\n"],
            "learner.regularisers": [{"kind": "entropy_bonus", "coefficient": {"kind": "constant", "value": 0.1}}],
            "data.evaluation": {"kind": "arithmetic_task", "split": "held_out"},
        }
    )
    assert recipe.shaping.rewards == (
        RewardConfig(kind="math_answer"),
        RewardConfig(kind="format", weight=0.5, options={"pattern": "x+"}),
    )
    assert recipe.shaping.estimator == ComponentSpec(kind="rloo")
    assert recipe.rollout.sampling.temperature == ComponentSpec(
        kind="linear", options={"start": 1.0, "stop": 0.5, "steps": 10}
    )
    assert Recipe.parse(recipe.as_dict(), base_dir=NOWHERE, where="x") == recipe


def test_defaults_are_written_out() -> None:
    plain = make_recipe().as_dict()
    assert plain["shaping"]["shapers"] == [{"kind": "less"}]
    assert plain["run"]["deadlines"]["weights_seconds"] == 900.0
    assert plain["data"]["evaluation"] is None


def test_the_hash_follows_the_content_alone() -> None:
    assert make_recipe().content_hash == make_recipe().content_hash
    assert make_recipe({"run.max_staleness": 0}).content_hash == make_recipe().content_hash
    assert make_recipe({"seed": 1}).content_hash != make_recipe().content_hash


def test_relative_paths_are_those_beside_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    path = write_recipe(
        folder,
        {
            "model.path": "../policy",
            "data.train": {"kind": "jsonl", "path": "data/train.jsonl"},
            "data.evaluation": {"kind": "parquet", "path": "/data/held_out.parquet"},
        },
    )
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(Path("recipes") / path.name)
    assert recipe.model.path == str(tmp_path / "policy")
    assert recipe.data.train.options["path"] == str(folder / "data" / "train.jsonl")
    assert recipe.data.evaluation is not None
    assert recipe.data.evaluation.options["path"] == "/data/held_out.parquet"


def test_paths_inside_a_mixture_and_of_benchmarks_are_those_beside_the_recipe(tmp_path: Path) -> None:
    sources = [
        {"kind": "jsonl", "path": "a.jsonl"},
        {"kind": "mixture", "sources": [{"kind": "parquet", "path": "../b.parquet", "weight": 2}]},
        {"kind": "hub", "name": "some/data"},
    ]
    changes = {
        "data.train": {"kind": "mixture", "sources": sources},
        "evaluation.benchmarks": ["aime24", "mine=c.jsonl"],
    }
    recipe = make_recipe(changes, base_dir=tmp_path / "recipes")
    plain, nested, hub = recipe.data.train.options["sources"]
    assert plain["path"] == str(tmp_path / "recipes" / "a.jsonl")
    assert nested["sources"][0]["path"] == str(tmp_path / "b.parquet")
    assert hub == sources[2]
    assert recipe.evaluation.benchmarks == ("aime24", f"mine={tmp_path}/recipes/c.jsonl")
    assert Recipe.parse(recipe.as_dict(), base_dir=Path("/elsewhere"), where="again") == recipe


def test_a_name_without_a_leading_dot_or_slash_is_one_of_the_hub() -> None:
    assert make_recipe({"model.path": "Qwen/Qwen2.5-7B"}).model.path == "Qwen/Qwen2.5-7B"


def test_overrides_reach_any_key_and_make_what_is_missing(tmp_path: Path) -> None:
    overrides = {"run.steps": 7, "run.deadlines.group_seconds": 5, "data.train.size": 3, "evaluation.every_steps": 2}
    recipe = load_recipe(write_recipe(tmp_path), overrides)
    assert (recipe.run.steps, recipe.run.deadlines.group_seconds, recipe.evaluation.every_steps) == (7, 5.0, 2)
    assert recipe.data.train.options["size"] == 3
    # What was not named stays.
    assert recipe.run.max_staleness == 0 and recipe.rollout.groups_per_step == 4


def test_an_override_into_something_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"run\.steps\.x cannot be set: steps is not a mapping"):
        load_recipe(write_recipe(tmp_path), {"run.steps.x": 1})


@pytest.mark.parametrize(("text", "number"), [("1e-6", 1e-6), ("5E3", 5000.0), ("-1.5e-2", -0.015), (".5e1", 5.0)])
def test_scientific_notation_is_a_number_as_people_write_it(text: str, number: float) -> None:
    assert read_yaml(text) == number
    assert read_yaml(f"learning_rate: {text}") == {"learning_rate": number}


@pytest.mark.parametrize("text", ["e5", "1e", "Qwen/1e-6", "v1e3x"])
def test_text_that_only_looks_like_a_number_stays_text(text: str) -> None:
    assert read_yaml(text) == text


def test_a_learning_rate_without_a_dot_is_no_schedule(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, {"learner.optimizer": {"learning_rate": "RATE"}})
    path.write_text(path.read_text().replace("RATE", "1e-6"))
    assert load_recipe(path).learner.optimizer.learning_rate == 1e-6


# -- what is refused


@pytest.mark.parametrize(
    ("key", "close"),
    [
        ("nmae", "name"),
        ("run.stepz", "steps"),
        ("run.deadlines.group_second", "group_seconds"),
        ("rollout.sampling.temprature", "temperature"),
        ("rollout.engine.dtyp", "dtype"),
        ("cluster.rollout.num_cpu", "num_cpus"),
        ("shaping.segments.quantil", "quantile"),
        ("learner.kl.coeficient", "coefficient"),
        ("model.pth", "path"),
        ("data.trian", "train"),
        ("control.prt", "port"),
    ],
)
def test_unknown_key_is_refused_at_any_depth_with_a_suggestion_and_its_place(key: str, close: str) -> None:
    last = key.rsplit(".", 1)[-1]
    assert refusal({key: 1}) == f"unknown key {last!r}; did you mean {close!r}? ({key} in small.yaml)"


def test_unknown_key_far_from_all_names_what_is_known() -> None:
    assert "known here: coefficient, estimator" in refusal({"learner.kl.beta": 1})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("run.steps", "ten", "must be a valid integer"),
        ("run.steps", 1.5, "must be a valid integer, got 1.5 (run.steps"),
        ("run.steps", None, "must be a valid integer"),
        ("run.steps", True, "must be a number"),
        ("run", 3, "must be a mapping of keys"),
        ("learner.dtype", "fp16", "must be 'float32' or 'bfloat16'"),
        ("rollout.sampling.entropy_source", "rw", "must be 'raw' or 'processed'"),
        ("rollout.sampling.temperature", [1], "must be a valid number"),
        ("shaping.estimator", 5, "must be a mapping of keys"),
        ("shaping.rewards", "math_answer", "must be a list"),
        ("name", 3, "must be a valid string"),
        ("seed", -1, "must be greater than or equal to 0"),
    ],
)
def test_wrong_type_is_refused_with_what_was_found_and_where(key: str, value: object, words: str) -> None:
    message = refusal({key: value})
    assert words in message
    assert f"got {value!r} ({key} in small.yaml)" in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("shaping.shapers", [{"knd": "less"}], "shaping.shapers.0 in small.yaml"),
        ("shaping.estimator", {"scale": 1}, "shaping.estimator in small.yaml"),
        ("shaping.rewards", [{"weight": 1}], "shaping.rewards.0 in small.yaml"),
        ("learner.optimizer.learning_rate", {"start": 1}, "learner.optimizer.learning_rate in small.yaml"),
    ],
)
def test_component_without_a_kind_is_refused_where_it_stands(key: str, value: object, words: str) -> None:
    message = refusal({key: value})
    assert message.startswith("a component must be a kind or a mapping with `kind`")
    assert words in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("run.steps", 0, "steps must be >= 1, got 0 (run in"),
        ("run.max_staleness", -1, "max_staleness must be >= 0, got -1 (run in"),
        ("run.max_attempts_per_step", 0.5, "max_attempts_per_step must be >= 1, got 0.5 (run in"),
        ("run.group_attempts", 0, "group_attempts must be >= 1, got 0 (run in"),
        ("run.deadlines.group_seconds", 0, "group_seconds must be > 0, got 0.0 (run.deadlines in"),
        ("evaluation.num_problems", 0, "num_problems must be >= 1, got 0 (evaluation in"),
        ("evaluation.temperature", 0, "temperature must be > 0 and finite, got 0.0 (evaluation in"),
        ("rollout.group_size", 0, "group_size must be >= 1, got 0 (rollout in"),
        ("rollout.sampling.temperature", 0, "temperature must be > 0, got 0.0 (rollout.sampling in"),
        ("rollout.sampling.top_p", 0, "top_p must be in (0, 1], got 0.0 (rollout.sampling in"),
        ("rollout.sampling.top_k", -1, "top_k must be >= 0, got -1 (rollout.sampling in"),
        ("rollout.sampling.max_response_tokens", 0, "max_response_tokens must be >= 1, got 0 (rollout.sampling in"),
        ("cluster.num_shaping_workers", 0, "num_shaping_workers must be >= 1, got 0 (cluster in"),
        ("cluster.learner.num_gpus", -1, "num_cpus and num_gpus must be >= 0, got 1.0 and -1.0 (cluster.learner in"),
        ("cluster.shaping.num_threads", 0, "num_threads must be >= 1, got 0 (cluster.shaping in"),
        ("control.port", 70000, "port must be in [0, 65535], got 70000 (control in"),
    ],
)
def test_value_out_of_range_is_refused(key: str, value: object, words: str) -> None:
    assert words in refusal({key: value})


def test_weight_of_a_reward_must_be_a_number() -> None:
    changes = {"shaping.rewards": [{"kind": "math_answer", "weight": "high"}]}
    assert refusal(changes) == "weight must be a number, got 'high' (shaping.rewards.0 in small.yaml)"


def test_missing_key_is_named() -> None:
    raw = make_raw()
    del raw["run"]["steps"], raw["model"]
    with pytest.raises(RecipeError, match=r"^model must be given \(model in small\.yaml\)$"):
        Recipe.parse(raw, base_dir=NOWHERE, where="small.yaml")
    raw["model"] = {"path": "m"}
    with pytest.raises(RecipeError, match=r"^steps must be given \(run\.steps in small\.yaml\)$"):
        Recipe.parse(raw, base_dir=NOWHERE, where="small.yaml")


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"found no file .*none\.yaml; see deploy/recipes"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name: [1, 2", "a recipe must be valid YAML"),
        (b"name: \xff\xfe", "a recipe must be valid YAML"),
        (b"- a\n- b\n", "a recipe must be a mapping of keys, found list"),
        (b"", "a recipe must be a mapping of keys, found NoneType"),
        (b"run: {steps: 1}\nrun: {steps: 2}\n", "key 'run' stands twice"),
    ],
)
def test_file_that_is_no_mapping_is_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert words in message and str(path) in message and "\n" not in message


def test_yaml_anchors_and_merges_go_on_working() -> None:
    assert read_yaml("a: &a {x: 1}\nb: {<<: *a, y: 2}") == {"a": {"x": 1}, "b": {"x": 1, "y": 2}}


def test_reading_a_recipe_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pathlib import Path; from services.recipe import load_recipe\n"
        f"load_recipe(Path({str(SHIPPED[0])!r}))\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
