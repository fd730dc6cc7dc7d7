"""Whether a model, or a recipe with all that it names, can be used here. Reads headers, and no weights."""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from rollout.model_tensors import model_shapes
from services.doctor.checks import GIB, Finding, Level
from services.plan import make_plan
from services.plugins import check_loggers
from services.recipe import Recipe, load_recipe
from shaping.components import import_module_of
from shaping.errors import DataError, RecipeError

NEEDED = ("config.json", "tokenizer.json")
RECIPE_SUFFIXES = (".yaml", ".yml")


def examine_model(named: str, *, layers: Sequence[Path] = ()) -> Iterator[Finding]:
    """Look at what `--model` names: a recipe's file, a model's folder, or a Hugging Face name.

    Args:
        layers: files that are merged into a recipe.
    """
    if Path(named).suffix in RECIPE_SUFFIXES:
        yield from _recipe(Path(named), layers)
    else:
        yield _model(named)


def _recipe(path: Path, layers: Sequence[Path]) -> Iterator[Finding]:
    try:
        recipe = load_recipe(path, layers=layers)
        check_loggers(recipe)
        plan = make_plan(recipe, with_torch=False)
    except (RecipeError, DataError) as error:
        advice = "change the recipe where the message says so; `lessrl plan` looks at it alone"
        yield Finding(name="recipe", level=Level.FAIL, found=str(error), advice=advice)
        return
    claims = f"{plan.total_cpus:g} CPUs and {plan.total_gpus:g} GPUs"
    yield Finding(name="recipe", level=Level.OK, found=f"{recipe.name}: {plan.steps} steps, claims {claims}")
    yield _engine(recipe)
    yield _model(recipe.model.path)


def _engine(recipe: Recipe) -> Finding:
    """The libraries of the recipe's own engine and learner."""
    needed = ["torch", "ray"]
    needed += ["vllm"] if recipe.rollout.engine.kind == "vllm" else []
    needed += ["deepspeed"] if recipe.learner.engine == "deepspeed" else []
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        extra = "cpu" if recipe.cluster.device == "cpu" else "gpu"
        advice = f"pip install 'lessrl[{extra}]'"
        return Finding(name="parts", level=Level.FAIL, found=f"not installed: {', '.join(missing)}", advice=advice)
    return Finding(name="parts", level=Level.OK, found=f"installed: {', '.join(needed)}")


def _model(path: str) -> Finding:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return _named(path)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        advice = "name the folder of a Hugging Face model, with its tokenizer.json"
        found = f"{folder} has no {' and no '.join(missing)}"
        return Finding(name="model", level=Level.FAIL, found=found, advice=advice)
    try:
        shapes = model_shapes(folder)
    except DataError as error:
        advice = "fetch the model again: its weights are not whole"
        return Finding(name="model", level=Level.FAIL, found=str(error), advice=advice)
    size = sum(each.stat().st_size for each in folder.glob("*.safetensors"))
    found = f"{folder}: {len(shapes)} tensors, {size / GIB:.2f} GiB of safetensors"
    return Finding(name="model", level=Level.OK, found=found)


def _named(name: str) -> Finding:
    if name.startswith((".", "/", "~")):
        advice = "paths count from here, and in a recipe from its folder"
        return Finding(name="model", level=Level.FAIL, found=f"no folder {name}", advice=advice)
    hub = import_module_of("huggingface_hub", "file_download")
    try:
        cached = hub.try_to_load_from_cache(name, NEEDED[0])
    except ValueError as error:
        first = str(error).partition("\n")[0]
        return Finding(name="model", level=Level.FAIL, found=first, advice="name a folder or a Hugging Face model")
    if isinstance(cached, str):
        return Finding(name="model", level=Level.OK, found=f"{name} is in the cache, at {Path(cached).parent}")
    advice = f"every node fetches it at the start; before that: hf download {name}"
    return Finding(name="model", level=Level.WARN, found=f"{name} is no folder, and not in the cache", advice=advice)
