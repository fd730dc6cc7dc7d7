"""list, status, wait: which runs there are, and how one is."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.status import Status
from rich.text import Text

from services.client.errors import (
    EXIT_CANCELLED,
    EXIT_FAILED,
    EXIT_OK,
    EXIT_USAGE,
    CommandFailed,
    Unreachable,
)
from services.client.http import JsonObject
from services.client.runs import TERMINAL, is_over, state_of
from services.client.waiting import Poll
from services.commands.options import AsJson, Run, Timeout, Url
from services.commands.reach import ReachedRun, reach_plane, reach_run
from services.commands.screen import print_facts, print_json, print_table, safe
from services.commands.steer import detached
from services.commands.words import ago, dig, number, progress_of
from services.run_dir import SUMMARY_FILE

STATE_STYLES = {
    "running": "green",
    "completed": "bold green",
    "failed": "bold red",
    "cancelled": "bold yellow",
    "paused": "bold cyan",
}
STATES = ("pending", "starting", "running", "pausing", "paused", "resuming", "cancelling", *sorted(TERMINAL))

_EXIT_CODES = {"completed": EXIT_OK, "failed": EXIT_FAILED, "cancelled": EXIT_CANCELLED}


def list_runs(
    state: Annotated[str, typer.Option(help="Runs in this state alone.")] = "",
    label: Annotated[list[str], typer.Option(help="Runs with this label alone: team=a. May be repeated.")] = [],  # noqa: B006
    limit: Annotated[int, typer.Option(min=1, help="Runs at most, newest first.")] = 50,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """List the runs of a control plane, newest first."""
    if state and state not in STATES:
        raise CommandFailed(f"--state must be one of {', '.join(STATES)}, got {state!r}", exit_code=EXIT_USAGE)
    labels = [each.replace("=", ":", 1) for each in label]
    with reach_plane(url) as client:
        runs = list(client.pages("/v1/runs", limit=limit, state=state, label=labels or None))
    if as_json:
        print_json({"items": runs})
        return
    now = time.time()
    headings = ("run", "name", "state", "step", "accuracy", "created", "message")
    print_table(headings, (_row(run, now) for run in runs), empty="no runs")


def _row(run: JsonObject, now: float) -> tuple[object, ...]:
    step = f"{number(dig(run, 'status.step'))}/{number(dig(run, 'status.total_steps'))}"
    accuracy = number(dig(run, "status.evaluation.accuracy_ratio"), "{:.1%}")
    state = Text(state_of(run), style=STATE_STYLES.get(state_of(run), "yellow"))
    return (run["id"], run.get("name"), state, step, accuracy, ago(run.get("created_at"), now=now), _message(run))


def _message(run: JsonObject) -> object:
    return dig(run, "status.failure.cause") or dig(run, "status.message")


def status(run: Run = "", url: Url = "", as_json: AsJson = False) -> None:
    """Say how a run is."""
    with reach_run(run, url) as reached:
        found = reached.client.get(reached.path)
    if as_json:
        print_json(found)
        return
    print_facts(_facts(found, time.time()))


def _facts(run: JsonObject, now: float) -> Iterator[tuple[str, object]]:
    status = run["status"]
    state = state_of(run)
    yield "run", f"{run['id']}  {run.get('name', '')}"
    yield (
        "state",
        Text(state, style=STATE_STYLES.get(state, "yellow")).append(f"  {safe(_message(run))}", style="default"),
    )
    yield "progress", progress_of(status)
    yield "model", f"{dig(run, 'spec.model')}, {dig(run, 'spec.algorithm')} with {dig(run, 'spec.shaping')}"
    yield "last step", ago(status.get("last_step_at"), now=now)
    yield (
        "policy",
        f"version {number(status.get('policy_version'))}, engines serve {number(status.get('rollout_policy_version'))}",
    )
    yield "tokens", number(status.get("tokens_generated"))
    if held_out := status.get("evaluation"):
        yield (
            "held-out",
            f"{number(held_out.get('accuracy_ratio'), '{:.1%}')} after step {number(held_out.get('step'))}",
        )
    yield "checkpoint", dig(status, "checkpoint.latest")
    yield "workers", _workers(status)
    yield from _pause_facts(status)
    if failure := status.get("failure"):
        group = f" (group {failure['group_id']})" if failure.get("group_id") else ""
        yield "failure", Text(safe(f"{failure.get('role')}{group}: {failure.get('cause')}"), style="bold red")
    yield "allowed", ", ".join(status.get("allowed_actions") or [])
    yield "directory", run.get("run_dir")


def _pause_facts(status: JsonObject) -> Iterator[tuple[str, object]]:
    pause = status.get("pause")
    if pause is None:
        return
    by = f" by {pause['requested_by']}" if pause.get("requested_by") else ""
    why = f": {pause['reason']}" if pause.get("reason") else ""
    yield "pause", f"{pause.get('mode')}, {str(pause.get('phase', '')).replace('_', ' ')}{by}{why}"
    if pause.get("expires_at"):
        yield "resumes", pause["expires_at"]


def _workers(status: JsonObject) -> str:
    counts = status.get("workers") or {}
    parts = [f"{role} {each.get('ready')}/{each.get('total')}" for role, each in counts.items()]
    restarts = status.get("restarts_total")
    return ", ".join(parts) + (f", {restarts} restarts" if restarts else "")


def wait(
    run: Run = "",
    until: Annotated[str, typer.Option(help="A state to wait for; default the run's end.")] = "",
    exit_status: Annotated[
        bool, typer.Option("--exit-status", help="At the end of a run: 0 completed, 1 failed, 130 cancelled.")
    ] = False,
    timeout: Timeout = None,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Wait for a run. Ctrl-C stops the waiting, not the run."""
    if until and until not in STATES:
        raise CommandFailed(f"--until must be one of {', '.join(STATES)}, got {until!r}", exit_code=EXIT_USAGE)
    with reach_run(run, url) as reached:
        try:
            await_state(reached, until=until, timeout=timeout, is_quiet=as_json)
            found = reached.client.get(reached.path)
        except Unreachable:
            # A control plane of the run's own ends with it, and says in the run's directory how.
            found = _ended(reached)
            if not found:
                raise
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['id']}: {state_of(found)}, {safe(progress_of(found['status']))}{_why(found)}")
    raise typer.Exit(exit_code_of(found, until=until, exit_status=exit_status))


def _ended(run: ReachedRun) -> JsonObject:
    """What the directory of a run says of its end, as far as it does, in the form of a run; empty while it does not."""
    try:
        summary = json.loads(((run.run_dir or Path("/nowhere")) / SUMMARY_FILE).read_text(encoding="utf-8"))
        status = {"state": summary["status"], "step": summary["steps"], "total_steps": summary["total_steps"]}
        return {"id": run.run_id, "name": summary["name"], "status": {**status, "failure": summary.get("failure")}}
    except (OSError, ValueError, KeyError):
        return {}


def exit_code_of(run: JsonObject, *, until: str, exit_status: bool) -> int:
    """Of a command that waited for a run.

    Args:
        until: the state that was waited for; "" for the end.
        exit_status: whether a run that ended badly is told.
    """
    state = state_of(run)
    if until and state != until:
        return _EXIT_CODES.get(state, EXIT_FAILED) or EXIT_FAILED
    return _EXIT_CODES.get(state, EXIT_OK) if exit_status else EXIT_OK


def _why(run: JsonObject) -> str:
    cause = dig(run, "status.failure.cause")
    return f": {safe(cause)}" if cause else ""


def await_state(run: ReachedRun, *, until: str = "", timeout: float | None = None, is_quiet: bool = False) -> None:
    """Until a run has ended, or is in a state; how far it is, is shown on standard error where that is a terminal.

    Raises:
        CommandFailed: the time is over, or Ctrl-C (exit code 5); or no control plane answers any more (3).
    """
    what = f"{run.run_id} to be {until or 'at its end'}"
    try:
        with _shown_line(is_quiet=is_quiet) as show:
            Poll(what=what, timeout_seconds=timeout).until(
                lambda: run.client.get(f"{run.path}/status"),
                lambda status: is_over(status) or state_of(status) == until,
                on_answer=lambda status: show(f"{run.run_id} {state_of(status)}, {progress_of(status)}"),
                on_away=lambda _: show(f"{run.run_id} the control plane is away, trying again"),
            )
    except KeyboardInterrupt as interrupt:
        raise detached(run, "the run goes on") from interrupt


@contextmanager
def _shown_line(*, is_quiet: bool) -> Iterator[Any]:
    console = Console(stderr=True)
    if is_quiet or not console.is_terminal:
        yield lambda _: None
        return
    with Status("", console=console) as status:
        yield lambda text: status.update(Text(safe(text)))
