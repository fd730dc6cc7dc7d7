"""top: a run on one live screen."""

from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from services.client.runs import is_over
from services.client.waiting import Poll
from services.commands.options import AsJson, Run, Url
from services.commands.reach import ReachedRun, reach_run
from services.commands.screen import print_json_line, remark
from services.top.live import show_top


def top(
    run: Run = "",
    once: Annotated[bool, typer.Option("--once", help="One drawing, and no more.")] = False,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Watch a run on one live screen; p pauses and r resumes, each after a question, q leaves it alone.

    With --json: its status as one object per line, once a second, until the run ends.
    """
    # Ctrl-C is one of the ways to leave.
    with suppress(KeyboardInterrupt), reach_run(run, url) as reached:
        if as_json:
            _print_status(reached, once=once)
        else:
            show_top(reached.client, reached.run_id, Console(), is_once=once)
    if not once:
        remark("left; the run goes on, `lessrl top` comes back")


def _print_status(run: ReachedRun, *, once: bool) -> None:
    Poll(what="the end of the run", max_away_seconds=None).until(
        lambda: run.client.get(f"{run.path}/status"),
        lambda status: once or is_over(status),
        on_answer=print_json_line,
    )
