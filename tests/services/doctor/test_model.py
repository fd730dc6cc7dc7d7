"""What the doctor says of a model and of a recipe."""

from pathlib import Path

import pytest
import yaml

from services.doctor.checks import Finding, Level
from services.doctor.model import examine_model
from services.doctor.tiny_run import write_tiny_run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_tiny_run(tmp_path, full=False, device="cpu")


def change(recipe: Path, section: str, **values: object) -> None:
    raw = yaml.safe_load(recipe.read_text())
    raw[section] |= values
    recipe.write_text(yaml.safe_dump(raw))


def test_a_recipe_that_works_says_what_it_claims_and_what_its_model_is(recipe: Path) -> None:
    found = {each.name: each for each in examine_model(str(recipe))}
    assert {each.level for each in found.values()} == {Level.OK}
    assert found["recipe"].found == "self-test: 1 steps, claims 1.25 CPUs and 0 GPUs"
    # Embeddings, head, last norm; 7 matrices and 2 norms of the one layer.
    assert found["model"].found.startswith(f"{recipe.parent / 'policy'}: 12 tensors")


def test_a_recipe_that_cannot_work_says_why(recipe: Path) -> None:
    change(recipe, "run", stpes=3)
    (finding,) = examine_model(str(recipe))
    assert finding.level is Level.FAIL and "did you mean 'steps'?" in finding.found


def test_a_recipes_logger_that_is_not_installed_is_told(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(recipe, "run", loggers=["wandb"])
    monkeypatch.setattr("services.loggers.wandb.LIBRARY", "no_such_library")
    (finding,) = examine_model(str(recipe))
    assert finding.level is Level.FAIL and "pip install 'lessrl[wandb]'" in finding.found


def model(path: object) -> Finding:
    (finding,) = examine_model(str(path))
    return finding


def test_a_models_folder_lacks_what_is_named(recipe: Path) -> None:
    folder = recipe.parent / "policy"
    assert model(folder).level is Level.OK
    (folder / "tokenizer.json").unlink()
    assert model(folder).found == f"{folder} has no tokenizer.json"
    assert model("./nowhere").found == "no folder ./nowhere"
    assert "paths count from here" in model("./nowhere").advice


def test_weights_that_are_not_whole_fail(recipe: Path) -> None:
    weights = recipe.parent / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:4])
    assert model(recipe.parent / "policy").level is Level.FAIL


def test_a_name_that_nothing_was_fetched_of_is_a_warning() -> None:
    finding = model("nobody/such-a-model-of-nobody")
    assert finding.level is Level.WARN and finding.advice.endswith("hf download nobody/such-a-model-of-nobody")
    assert model("no such name").level is Level.FAIL
