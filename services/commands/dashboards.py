"""dashboards export: the Grafana dashboards that come with lessrl, as files for a Grafana of your own."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from shaping.errors import UserError

dashboards_app = typer.Typer(no_args_is_help=True, help="The Grafana dashboards that come with lessrl.")


@dashboards_app.callback()
def begin() -> None:
    """A callback of its own: with a single command typer would take the noun for that command."""


@dashboards_app.command(name="export")
def export(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.")],
) -> None:
    """Write one JSON file for each dashboard, over an older one. See docs/dashboards.md for how Grafana takes them."""
    if directory.exists() and not directory.is_dir():
        raise UserError(f"DIR must be a directory, got the file {directory}; name another")
    directory.mkdir(parents=True, exist_ok=True)
    for source in sorted((files("dashboards") / "json").iterdir(), key=lambda each: each.name):
        if source.name.endswith(".json"):
            (directory / source.name).write_bytes(source.read_bytes())
            typer.echo(str(directory / source.name))
