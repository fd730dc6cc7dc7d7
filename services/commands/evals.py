"""eval [start|list|show]: evaluations that a run makes beside its training."""

from collections.abc import Iterator
from typing import Annotated

import typer

from services.client.http import JsonObject
from services.commands.nouns import Asked, asked_of, make_noun
from services.commands.operations import start_operation
from services.commands.options import AsJson, RunOption, Url
from services.commands.reach import reach_run
from services.commands.screen import print_json, print_table
from services.commands.words import day_time, number

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


def _start(asked: Asked, *, wait: bool = False) -> None:
    start_operation(asked, "evals", {}, wait=wait, creates=True)


eval_app = make_noun("Have a run evaluate its policy at the next step border, or list what it has evaluated.", _start)


@eval_app.command(name="start")
def start(
    context: typer.Context, wait: Wait = False, run: RunOption = "", url: Url = "", as_json: AsJson = False
) -> None:
    """Evaluate at the next step border, as if one were due; also what `lessrl eval` does by itself."""
    _start(asked_of(context, run=run, url=url, as_json=as_json), wait=wait)


@eval_app.command(name="list")
def list_evaluations(context: typer.Context, run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """List the evaluations of a run, a line for each benchmark."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    with reach_run(asked.run, asked.url) as reached:
        found = list(reached.client.pages(f"{reached.path}/evals"))
    if asked.as_json:
        print_json({"items": found})
        return
    headings = ("evaluation", "step", "at (UTC)", "benchmark", "metrics")
    print_table(headings, (row for each in found for row in _rows(each)), empty="no evaluations")


@eval_app.command(name="show")
def show(
    context: typer.Context,
    evaluation: Annotated[str, typer.Argument(help="Its id; see `lessrl eval list`.")],
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Show one evaluation."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    with reach_run(asked.run, asked.url) as reached:
        found = reached.client.get(f"{reached.path}/evals/{evaluation}")
    if asked.as_json:
        print_json(found)
        return
    rows = [
        (name, key, number(value, "{:.4g}"))
        for name, all_ in found["benchmarks"].items()
        for key, value in all_.items()
    ]
    print_table(("benchmark", "metric", "value"), rows, empty="no metrics")


def _rows(evaluation: JsonObject) -> Iterator[tuple[object, ...]]:
    for name, metrics in evaluation["benchmarks"].items():
        named = "  ".join(f"{key} {number(value, '{:.3f}')}" for key, value in metrics.items())
        yield (evaluation["id"], number(evaluation.get("step")), day_time(evaluation.get("created_at")), name, named)
