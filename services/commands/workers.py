"""workers [list|restart|drain]: who works for a run."""

from typing import Annotated

import typer
from rich.text import Text

from services.client.http import JsonObject
from services.commands.nouns import Asked, asked_of, make_noun
from services.commands.operations import start_operation
from services.commands.options import AsJson, RunOption, Url
from services.commands.reach import reach_run
from services.commands.screen import print_json, print_table
from services.commands.words import number

WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="Its id: rollout-0.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done.")]


def _list(asked: Asked) -> None:
    with reach_run(asked.run, asked.url) as reached:
        found = list(reached.client.pages(f"{reached.path}/workers"))
    if asked.as_json:
        print_json({"items": found})
        return
    headings = ("worker", "role", "state", "version", "restarts", "in flight", "heard", "node", "gpu", "what")
    print_table(headings, map(_row, found), empty="no workers")


def _row(worker: JsonObject) -> tuple[object, ...]:
    state = str(worker.get("state"))
    numbers = [number(worker.get(name)) for name in ("policy_version", "restarts", "inflight")]
    heard = number(worker.get("last_heartbeat_age_seconds"), "{:.0f} s ago")
    where = (worker.get("node"), worker.get("gpu"), worker.get("description"))
    shown = Text(state, style="green" if state == "ready" else "yellow")
    return (worker.get("id"), worker.get("role"), shown, *numbers, heard, *where)


workers_app = make_noun("List the workers of a run; restart one, or let one run empty.", _list)


@workers_app.command(name="list")
def list_workers(context: typer.Context, run: RunOption = "", url: Url = "", as_json: AsJson = False) -> None:
    """List them: state, policy version, restarts."""
    _list(asked_of(context, run=run, url=url, as_json=as_json))


@workers_app.command(name="restart")
def restart(
    context: typer.Context,
    worker: WorkerId,
    wait: Wait = False,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Start a worker anew; what it worked at is given to others."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    start_operation(asked, f"workers/{worker}/restart", None, wait=wait)


@workers_app.command(name="drain")
def drain(
    context: typer.Context,
    worker: WorkerId,
    wait: Wait = False,
    run: RunOption = "",
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Give a worker nothing more, and start it anew once it is idle."""
    asked = asked_of(context, run=run, url=url, as_json=as_json)
    start_operation(asked, f"workers/{worker}/drain", None, wait=wait)
