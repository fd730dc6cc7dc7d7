"""A run that a user asks the control plane to start, checked and given a directory. Nothing here starts anything.

Blocks: plug-ins are imported, files are read and written.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from services.control.calls import FieldProblem
from services.control.draft import RunFacts
from services.control.machine import Refused, RunLife
from services.control.records import RunRecord
from services.describe_run import describe_run
from services.durable_files import replace_file
from services.plain_data import plain_data
from services.plan import make_plan
from services.recipe import Recipe, read_recipe
from services.recipe_yaml import header_of, recipe_text
from services.reports import Intent, IntentKind, RunDescription
from services.run_dir import RECIPE_FILE, RUN_ID_FILE, create_run_dir
from shaping.errors import UserError

SUBMITTED = "the submitted config"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeFrom:
    """A run to go on with, in its own directory. `checkpoint`: a name; "" or "latest" is the newest that is whole."""

    run_id: str
    checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """A run to start. One of `config`, `config_text` and `resume_from` is given.

    Args:
        config: a recipe as JSON data.
        config_text: a recipe as YAML; kept as it is.
        overrides: dotted recipe keys with other values.
        start_paused: it starts, and admits no group before somebody resumes it.
        dry_run: start nothing, say what it would be.
    """

    name: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    config: Mapping[str, Any] | None = None
    config_text: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    resume_from: ResumeFrom | None = None
    start_paused: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a request would start: the resolved recipe, and its plan as `lessrl plan` makes it. Both JSON data."""

    config: Mapping[str, Any]
    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRecipe:
    """A recipe that works, and what it means."""

    recipe: Recipe
    plan: Mapping[str, Any]
    text: str


def check_request(request: CreateRequest, base_dir: Path) -> CheckedRecipe | Refused:
    """Read the recipe of a request, and work it out.

    Args:
        base_dir: relative paths of the recipe are resolved against it.
    """
    given = [name for name in ("config", "config_text", "resume_from") if getattr(request, name) is not None]
    if len(given) != 1:
        return _invalid("#", f"one of config, config_text and resume_from must be given, got {given or 'none'}")
    is_text = request.config_text is not None
    text = request.config_text if is_text else yaml.safe_dump(plain_data(request.config or {}), sort_keys=False)
    overrides = dict(request.overrides) if request.name is None else {**request.overrides, "name": request.name}
    try:
        recipe = read_recipe(text or "", overrides, base_dir=base_dir, where=SUBMITTED)
        plan = make_plan(recipe, with_torch=False).as_dict()
    except UserError as error:
        return _invalid("#/config_text" if is_text else "#/config", str(error))
    return CheckedRecipe(recipe=recipe, plan=plain_data(plan), text=text or "")


def claim_directory(checked: CheckedRecipe, runs_dir: Path) -> RunDescription | Refused:
    """Make the directory of a new run, with what its process needs to begin there."""
    run_id = f"run_{secrets.token_hex(6)}"
    try:
        run_dir = create_run_dir(checked.recipe.name, base=runs_dir)
        # Resolved: the paths in the text are relative to where it was submitted.
        text = recipe_text(checked.recipe.as_dict(), header_of(checked.text))
        replace_file(run_dir / RECIPE_FILE, text.encode())
        replace_file(run_dir / RUN_ID_FILE, f"{run_id}\n".encode())
    except UserError as error:
        return _invalid("#/name", str(error))
    except OSError as error:
        return Refused(slug="no-run-directory", detail=f"no directory could be made: {error.strerror} ({runs_dir})")
    return describe_run(checked.recipe, run_id=run_id, run_dir=str(run_dir))


def new_facts(description: RunDescription, *, now: float) -> RunFacts:
    """Of a run that nobody has heard of yet."""
    record = RunRecord(
        run_id=description.run_id,
        description=description,
        life=RunLife(),
        intent=Intent(generation=1, kind=IntentKind.RUN),
        created_at=now,
        reason="WaitingForProcess",
    )
    return RunFacts(record=record)


def _invalid(pointer: str, message: str) -> Refused:
    return Refused(slug="validation", detail=message, problems=(FieldProblem(pointer=pointer, message=message),))
