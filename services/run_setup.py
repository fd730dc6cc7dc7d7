"""A run before any of its parts is started: recipe checked, directory claimed, the checkpoint that it goes on from."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.addresses import HOUSE_ADDRESS, LOCAL_ADDRESS
from services.durable_files import replace_file
from services.house_mode import check_house_mode
from services.live.changes import read_changes
from services.plan import RunPlan, make_plan
from services.plugins import check_loggers
from services.recipe import Recipe, load_recipe
from services.recipe_yaml import layers_header, recipe_text
from services.run_dir import RECIPE_FILE, create_run_dir, read_run_id
from services.run_options import RunOptions
from services.serve_http import bind_port
from services.session import Prompts, read_prompts
from shaping.errors import UserError

LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """What a process of a run needs to know.

    Args:
        address: a Ray address, "local" for a Ray of this run's own, "house" for one process without Ray.
        checkpoint: to go on from: a name, "latest", or "" to begin.
        is_new: whether the directory was made for this run.
        options: what the command line says of how it is hosted.
        overrides: recipe keys that the user who resumes has set.
    """

    recipe: Recipe
    plan: RunPlan
    prompts: Prompts
    run_dir: Path
    run_id: str
    address: str
    checkpoint: str = ""
    is_new: bool = True
    options: RunOptions = RunOptions()
    overrides: Mapping[str, Any] = field(default_factory=dict)


def prepare_run(
    recipe: Recipe, *, run_dir: Path | None, runs: Path, address: str, options: RunOptions = RunOptions()
) -> PreparedRun:
    """Check a recipe and claim a directory for its run.

    Args:
        run_dir: a new or empty directory; None makes `<runs>/<name>`.
    Raises:
        UserError: the recipe, the data, the port or the directory cannot work; nothing is left behind.
    """
    plan = make_plan(recipe, with_torch=False)
    check_loggers(recipe)
    _check_address(recipe, address, options)
    if options.changes is not None:
        read_changes(options.changes)
    prompts = read_prompts(recipe)
    run_dir = create_run_dir(recipe.name, base=runs, explicit=run_dir)
    if options.layers:
        replace_file(run_dir / RECIPE_FILE, recipe_text(recipe.as_dict(), layers_header(options.layers)).encode())
    return PreparedRun(
        recipe=recipe,
        plan=plan,
        prompts=prompts,
        run_dir=run_dir,
        run_id=f"run_{secrets.token_hex(6)}",
        address=address,
        options=options,
    )


def reopen_run(
    run_dir: Path,
    overrides: Mapping[str, Any],
    *,
    checkpoint: str,
    address: str,
    options: RunOptions = RunOptions(),
) -> PreparedRun:
    """A run that ended or died, to go on in its own directory.

    Args:
        overrides: recipe keys to change; only some may, see services/recipe_changes.py.
        checkpoint: a name, or "latest"; "" begins.
    Raises:
        UserError: no run's directory, or a recipe, data or port that cannot work.
    """
    path = run_dir / RECIPE_FILE
    if not path.is_file():
        raise UserError(f"a run's directory must hold {RECIPE_FILE}, found none ({run_dir}); name one below runs/")
    recipe = load_recipe(path, overrides)
    plan = make_plan(recipe, with_torch=False)
    check_loggers(recipe)
    _check_address(recipe, address, options)
    return PreparedRun(
        recipe=recipe,
        plan=plan,
        prompts=read_prompts(recipe),
        run_dir=run_dir.resolve(),
        run_id=read_run_id(run_dir),
        address=address,
        checkpoint=checkpoint,
        is_new=False,
        options=options,
        overrides=overrides,
    )


def _check_address(recipe: Recipe, address: str, options: RunOptions) -> None:
    """Before anything is started; a control plane that may be there already has the port with good reason."""
    if address == HOUSE_ADDRESS:
        check_house_mode(recipe)
    if recipe.control.port and address in (HOUSE_ADDRESS, LOCAL_ADDRESS) and not options.control:
        bind_port(recipe.control.host, recipe.control.port).close()
