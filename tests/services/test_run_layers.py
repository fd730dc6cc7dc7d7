"""A run's recipe names the layers that were merged into it, from its first file to the last."""

from pathlib import Path

from report_builders import make_description

from services.control.creation import CheckedRecipe, CreateRequest, check_request, claim_directory
from services.describe_run import describe_run
from services.recipe import load_recipe
from services.recipe_yaml import layers_header, recipe_text
from services.run_dir import RECIPE_FILE, RunFiles
from services.run_options import RunOptions
from services.run_setup import prepare_run

QUICKSTART = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "quickstart.yaml"
LAYERS = (Path("methods/dr_grpo.yaml"), Path("methods/less.yaml"))
HEADER = "# layers: methods/dr_grpo.yaml, methods/less.yaml\n"


def first_line(run_dir: Path) -> str:
    return (run_dir / RECIPE_FILE).read_text().partition("\n")[0] + "\n"


def test_a_new_run_has_the_merged_recipe_and_names_its_layers(tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART, {"control.port": 0}, layers=LAYERS)
    options = RunOptions(layers=tuple(map(str, LAYERS)))
    prepared = prepare_run(recipe, run_dir=tmp_path / "run", runs=tmp_path, address="local", options=options)
    assert first_line(prepared.run_dir) == HEADER
    assert load_recipe(prepared.run_dir / RECIPE_FILE) == recipe
    # Its files are written as it begins, and again each time that it goes on.
    for _ in range(2):
        description = describe_run(recipe, run_id=prepared.run_id, run_dir=str(prepared.run_dir))
        RunFiles(prepared.run_dir, description, api_address="").close()
        assert first_line(prepared.run_dir) == HEADER
    assert load_recipe(prepared.run_dir / RECIPE_FILE) == recipe


def test_a_run_without_layers_names_none(tmp_path: Path) -> None:
    RunFiles(tmp_path, make_description(), api_address="").close()
    assert not first_line(tmp_path).startswith("#")


def test_a_run_that_was_submitted_with_layers_names_them(tmp_path: Path) -> None:
    recipe = load_recipe(QUICKSTART, layers=LAYERS)
    text = recipe_text(recipe.as_dict(), layers_header(LAYERS))
    checked = check_request(CreateRequest(config_text=text), tmp_path)
    assert isinstance(checked, CheckedRecipe), checked
    description = claim_directory(checked, tmp_path / "runs")
    assert first_line(Path(description.run_dir)) == HEADER
