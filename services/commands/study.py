"""study: arms of a recipe, from the same seeds, compared."""

from pathlib import Path
from typing import Annotated

import typer

from services.commands.options import AsJson
from services.commands.screen import safe
from shaping.components import import_module_of


def study(
    file: Annotated[Path, typer.Argument(metavar="STUDY", help="A study's file; see deploy/studies.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory of the study: a new one, or one to go on with; default studies/NAME.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side; default the study's own number.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do, and start nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run arms x seeds, paired by seed, and say which differences they show. See docs/studies.md."""
    # Reads results with pydantic and plans with torch, which only this waits for.
    command = import_module_of("services.study", "command")
    request = command.StudyRequest(file=file, out=out, jobs=jobs, is_dry=dry_run, as_json=as_json)
    raise typer.Exit(command.study(request, say=typer.echo, remark=lambda line: typer.echo(safe(line), err=True)))
