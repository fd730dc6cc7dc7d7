"""submit: a recipe as a run of a control plane, or as a Ray job where no control plane is named."""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from services.client.errors import EXIT_USAGE, CommandFailed
from services.client.http import JsonObject
from services.commands.look import await_state, exit_code_of
from services.commands.options import Layers, Overrides, RecipePath, parse_labels, parse_overrides
from services.commands.reach import ReachedRun, reach_plane
from services.commands.screen import print_json, remark, safe
from services.plain_data import plain_data
from services.plan import make_plan
from services.recipe import load_recipe, read_layered
from services.recipe_layers import find_layer
from services.recipe_yaml import layers_header, read_yaml, recipe_text
from shaping.components import import_module_of
from shaping.errors import UserError

API_PANEL, RAY_PANEL = "As a run of a control plane (--url or LESSRL_URL)", "As a Ray job"

_PATHS = ("model.path", "data.train", "data.evaluation", "evaluation.benchmarks")


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRequest:
    """A run to start over the API.

    Args:
        name: "" as the recipe says.
        key: that makes sending it twice one run; "" makes one up.
    """

    recipe: Path
    layers: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()
    name: str = ""
    labels: Mapping[str, str]
    notes: str = ""
    start_paused: bool = False
    dry_run: bool = False
    key: str = ""


def submit(
    recipe: RecipePath,
    layers: Layers = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    url: Annotated[
        str, typer.Option(help="Address of the control plane; default LESSRL_URL.", rich_help_panel=API_PANEL)
    ] = "",
    name: Annotated[str, typer.Option(help="Of the run; default as the recipe says.", rich_help_panel=API_PANEL)] = "",
    label: Annotated[
        list[str], typer.Option(help="To find it by: team=a. May be repeated.", rich_help_panel=API_PANEL)
    ] = [],  # noqa: B006
    notes: Annotated[str, typer.Option(help="What it is for.", rich_help_panel=API_PANEL)] = "",
    start_paused: Annotated[
        bool, typer.Option("--start-paused", help="It asks for no group before a resume.", rich_help_panel=API_PANEL)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Start nothing: say what it would be.", rich_help_panel=API_PANEL)
    ] = False,
    idempotency_key: Annotated[
        str, typer.Option(help="The same key starts the same run once.", rich_help_panel=API_PANEL)
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow it to its end.", rich_help_panel=API_PANEL)
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=API_PANEL)] = False,
    address: Annotated[
        str,
        typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Address of the Ray dashboard.", rich_help_panel=RAY_PANEL),
    ] = "http://127.0.0.1:8265",
    runs: Annotated[
        Path,
        typer.Option(
            envvar="LESSRL_RUNS", help="Folder in which the run gets its directory.", rich_help_panel=RAY_PANEL
        ),
    ] = Path("runs"),
) -> None:
    """Start a recipe elsewhere: as a run of a control plane, or as a Ray job; follow it, and exit with its code."""
    if url or os.environ.get("LESSRL_URL"):
        request = SubmitRequest(
            recipe=recipe,
            layers=tuple(layers),
            overrides=tuple(overrides),
            name=name,
            labels=parse_labels(label),
            notes=notes,
            start_paused=start_paused,
            dry_run=dry_run,
            key=idempotency_key,
        )
        raise typer.Exit(submit_over_api(request, url, wait=wait, as_json=as_json))
    if name or label or notes or start_paused or dry_run or idempotency_key or as_json or not wait:
        raise UserError(f"options {API_PANEL.lower()} need a control plane: give --url, or set LESSRL_URL")
    make_plan(load_recipe(recipe, parse_overrides(overrides), layers=layers))
    submission = import_module_of("services", "submission")
    files = [find_layer(each, recipe) for each in layers]
    raise typer.Exit(submission.submit_recipe(recipe, overrides, address, runs.resolve(), layers=files))


def submit_over_api(request: SubmitRequest, url: str, *, wait: bool, as_json: bool) -> int:
    """Start a run, and follow it unless told otherwise.

    Returns:
        The exit code: of the run, where it was followed to its end.
    Raises:
        UserError: the recipe cannot work.
        CommandFailed: the control plane does not answer or refuses.
    """
    body = _body(request)
    headers = {"Idempotency-Key": request.key or str(uuid.uuid4())}
    with reach_plane(url) as client:
        answer = client.call("POST", "/v1/runs", body, headers=headers)
        if request.dry_run:
            _print_dry_run(answer, as_json=as_json)
            return 0
        run = ReachedRun(client=client, run_id=str(answer["id"]))
        if not wait:
            _print_started(answer, as_json=as_json)
            return 0
        remark(f"{run.run_id} is submitted; Ctrl-C leaves it alone, `lessrl top {run.run_id}` shows it")
        await_state(run, is_quiet=as_json)
        ended = client.get(run.path)
    _print_started(ended, as_json=as_json)
    return exit_code_of(ended, until="", exit_status=True)


def _body(request: SubmitRequest) -> JsonObject:
    body: JsonObject = {
        "config_text": _text(request),
        "set": [*request.overrides, *_absolute_paths(request)],
        "labels": dict(request.labels),
        "notes": request.notes,
        "start_paused": request.start_paused,
        "dry_run": request.dry_run,
    }
    return body | ({"name": request.name} if request.name else {})


def _text(request: SubmitRequest) -> str:
    """The text as it was written, comments and all; with layers, what came of them. A missing file is refused later."""
    if request.layers:
        given = parse_overrides(request.overrides)
        return recipe_text(
            read_layered(request.recipe, request.layers, decided=tuple(given)), layers_header(request.layers)
        )
    return request.recipe.read_text(encoding="utf-8") if request.recipe.is_file() else ""


def _absolute_paths(request: SubmitRequest) -> list[str]:
    """Overrides for what a recipe names relative to its own folder, which the control plane does not have.

    Raises:
        RecipeError: a recipe that cannot work.
    """
    given = parse_overrides(request.overrides)
    loaded = plain_data(load_recipe(request.recipe, given, layers=request.layers).as_dict())
    written = read_yaml(_text(request))
    found = []
    for key in _PATHS:
        resolved, said = _at(loaded, key), given.get(key, _at(written, key))
        if said is not None and resolved is not None and _names_path(said, resolved):
            found.append(f"{key}={json.dumps(resolved)}")
    return found


def _names_path(said: Any, resolved: Any) -> bool:
    """Whether a text of `resolved` is an absolute path that the recipe did not write so."""
    if isinstance(resolved, str):
        return "/" in resolved and resolved != said
    if isinstance(resolved, Mapping):
        inner = said if isinstance(said, Mapping) else {}
        return any(
            _names_path(inner.get(name), value) for name, value in resolved.items() if name in ("path", "sources")
        )
    if isinstance(resolved, list):
        inner_list = said if isinstance(said, list) and len(said) == len(resolved) else [None] * len(resolved)
        return any(_names_path(old, new) for old, new in zip(inner_list, resolved, strict=True))
    return False


def _at(data: Any, key: str) -> Any:
    for name in key.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _print_dry_run(answer: JsonObject, *, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    plan = answer.get("plan")
    if not isinstance(plan, Mapping):
        raise CommandFailed("the control plane must answer a dry run with a plan, found none", exit_code=EXIT_USAGE)
    for name, value in plan.items():
        typer.echo(
            safe(f"{name.replace('_', ' '):<28} {value if not isinstance(value, list | dict) else json.dumps(value)}")
        )


def _print_started(run: JsonObject, *, as_json: bool) -> None:
    if as_json:
        print_json(run)
        return
    cause = ((run.get("status") or {}).get("failure") or {}).get("cause")
    why = f": {cause}" if cause else ""
    typer.echo(safe(f"{run['id']} ({run.get('name')}): {(run.get('status') or {}).get('state')}{why}"))
