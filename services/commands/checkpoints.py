"""checkpoints [list|create|pin|unpin|verify|rm|export]: what a run can go on from.

A run that is named by its directory is looked into on this machine, whether a control plane answers or not; one that is
named by its id, over the API.
"""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from services.checkpoints.command import checkpoints
from services.client.errors import EXIT_USAGE, CommandFailed
from services.client.http import JsonObject
from services.commands.nouns import Asked, asked_of, make_noun
from services.commands.operations import start_operation
from services.commands.options import AsJson, RunOption, Url
from services.commands.reach import ReachedRun, directory_of, reach_run
from services.commands.screen import print_json, print_table, safe
from services.commands.words import day_time, number, size

Name = Annotated[str, typer.Argument(help="A checkpoint: step-000010.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


def _list(asked: Asked) -> None:
    run_dir = directory_of(asked.run)
    if run_dir is not None and not asked.as_json:
        raise typer.Exit(checkpoints(run_dir, "list", "", Console()))
    with reach_run(asked.run, asked.url) as reached:
        found = list(reached.client.pages(f"{reached.path}/checkpoints"))
    if asked.as_json:
        print_json({"items": found})
        return
    headings = ("checkpoint", "version", "written (UTC)", "size", "marks", "damage")
    print_table(headings, map(_row, found), empty="no checkpoints")


def _row(checkpoint: JsonObject) -> tuple[object, ...]:
    marks = [word for word in ("pinned" if checkpoint.get("pinned") else "", str(checkpoint.get("tag") or "")) if word]
    damage = "" if checkpoint.get("complete") else f"damaged: {checkpoint.get('problem') or 'not complete'}"
    version, written = number(checkpoint.get("policy_version")), day_time(checkpoint.get("created_at"))
    return (
        checkpoint.get("name"),
        version,
        written,
        size(checkpoint.get("bytes")),
        " ".join(marks) or "",
        damage,
    )


checkpoints_app = make_noun("List what a run can go on from; commit, pin, verify, remove or export checkpoints.", _list)


@checkpoints_app.command(name="list")
def list_checkpoints(context: typer.Context, run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """List them, oldest first."""
    _list(asked_of(context, run=run, url=url, as_json=as_json))


@checkpoints_app.command(name="create")
def create(
    context: typer.Context,
    tag: Annotated[str, typer.Option(help="A word to find it by.")] = "",
    wait: Wait = False,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Commit a checkpoint at the next step border."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    start_operation(asked, "checkpoints", {"tag": tag}, wait=wait, creates=True)


@checkpoints_app.command(name="pin")
def pin(context: typer.Context, name: Name = "", run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """Keep a checkpoint for good."""
    _pin(asked_of(context, run=run, url=url, as_json=as_json), name, "pin")


@checkpoints_app.command(name="unpin")
def unpin(context: typer.Context, name: Name = "", run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """Let the run remove it when there are newer ones."""
    _pin(asked_of(context, run=run, url=url, as_json=as_json), name, "unpin")


@checkpoints_app.command(name="verify")
def verify(context: typer.Context, name: Name = "", run: RunOption = "") -> None:
    """Read every byte of a checkpoint, or of all, in a run's directory on this machine."""
    run_dir = directory_of(asked_of(context, run=run).run)
    if run_dir is None:
        raise CommandFailed("verify reads files: name the run by its directory", exit_code=EXIT_USAGE)
    raise typer.Exit(checkpoints(run_dir, "verify", name, Console()))


@checkpoints_app.command(name="rm")
def remove(context: typer.Context, name: Name, run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """Remove a checkpoint from the disk; the latest one is refused."""

    def delete(reached: ReachedRun) -> JsonObject:
        return reached.client.call("DELETE", f"{reached.path}/checkpoints/{name}")

    _change(asked_of(context, run=run, url=url, as_json=as_json), delete, f"{name} is removed")


@checkpoints_app.command(name="export")
def export(
    context: typer.Context, name: Name, wait: Wait = False, run: RunOption = "", url: Url = "", as_json: AsJson = False
) -> None:
    """Write a checkpoint's policy as a Hugging Face model, in the run's directory."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    start_operation(asked, f"checkpoints/{name}/export", {"format": "safetensors"}, wait=wait, creates=True)


def _pin(asked: Asked, name: str, action: str) -> None:
    run_dir = directory_of(asked.run)
    if run_dir is not None:
        raise typer.Exit(checkpoints(run_dir, action, name, Console()))
    if not name:
        raise CommandFailed(f"{action} must name a checkpoint; without an action they are listed", exit_code=EXIT_USAGE)

    def patch(reached: ReachedRun) -> JsonObject:
        return reached.client.call("PATCH", f"{reached.path}/checkpoints/{name}", {"pinned": action == "pin"})

    _change(asked, patch, f"{name} is {action}ned")


def _change(asked: Asked, change: Callable[[ReachedRun], JsonObject], said: str) -> None:
    with reach_run(asked.run, asked.url) as reached:
        answer = change(reached)
    if asked.as_json:
        print_json(answer)
    else:
        typer.echo(safe(said))
