"""pause, resume, cancel: what is asked of a run, and where one waits for it, what became of it."""

import sys
from typing import Annotated

import typer

from services.client.errors import EXIT_FAILED, EXIT_OK, EXIT_TIMED_OUT, CommandFailed
from services.client.http import JsonObject
from services.client.runs import state_of
from services.client.waiting import Poll
from services.commands.options import AsJson, Reason, Run, Url
from services.commands.pause_view import shown_pause
from services.commands.reach import ReachedRun, reach_run
from services.commands.screen import print_json, remark, safe
from services.commands.words import dig

OPERATION_POLL_SECONDS = 0.5
RUNNING = "running"

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for it, and show how far it is.")]


def pause(
    run: Run = "",
    mode: Annotated[
        str, typer.Option(help="drain finishes the groups under way, freeze holds them, abort gives them back.")
    ] = "drain",
    checkpoint: Annotated[
        bool | None,
        typer.Option("--checkpoint/--no-checkpoint", help="Commit a checkpoint first; default yes but for freeze."),
    ] = None,
    release: Annotated[
        str, typer.Option(help="What is given back meanwhile: none, kv_cache, rollout_weights or all.")
    ] = "none",
    timeout: Annotated[float | None, typer.Option(min=0.0, help="Longest seconds until it is paused.")] = None,
    on_timeout: Annotated[
        str, typer.Option(help="When that is missed: fail (it goes on running), or the harder mode freeze or abort.")
    ] = "fail",
    ttl: Annotated[float | None, typer.Option(min=0.0, help="Resume by itself after so many seconds.")] = None,
    reason: Reason = "",
    wait: Wait = False,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """Pause a run: nothing is lost, and it goes on where it was. See docs/control.md for what each mode promises."""
    asked = {
        "mode": mode,
        "checkpoint": checkpoint,
        "release": release,
        "timeout_seconds": timeout,
        "on_timeout": on_timeout,
        "ttl_seconds": ttl,
        "reason": reason,
    }
    with reach_run(run, url) as reached:
        raise typer.Exit(_ask(reached, "pause", asked, wait=wait, as_json=as_json))


def cancel(
    run: Run = "",
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint/--no-checkpoint", help="Commit a checkpoint first, to go on from one day.")
    ] = True,
    grace: Annotated[float | None, typer.Option(min=0.0, help="Longest seconds to stop in an orderly way.")] = None,
    reason: Reason = "",
    wait: Wait = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = "",
    as_json: AsJson = False,
) -> None:
    """End a run for good."""
    with reach_run(run, url) as reached:
        if not yes and sys.stdin.isatty():
            typer.confirm(f"End {reached.run_id} for good?", abort=True, err=True)
        asked = {"checkpoint": checkpoint, "grace_seconds": grace, "reason": reason}
        raise typer.Exit(_ask(reached, "cancel", asked, wait=wait, as_json=as_json))


def resume_over_api(run: str, url: str, *, reason: str, checkpoint: str, wait: bool, as_json: bool) -> int:
    """Let a paused run go on.

    Args:
        checkpoint: to go on from where everything was released; "" for the pause's own.
    Returns:
        The exit code.
    """
    with reach_run(run, url) as reached:
        asked = {"reason": reason, "from_checkpoint": checkpoint or None}
        return _ask(reached, "resume", asked, wait=wait, as_json=as_json)


def follow_operation(run: ReachedRun, operation: JsonObject, *, is_quiet: bool) -> JsonObject:
    """An operation once it has ended, its phases shown until then.

    Raises:
        CommandFailed: Ctrl-C, which leaves the operation alone (exit code 5).
    """
    path = f"{run.path}/operations/{operation['id']}"
    poll = Poll(what=f"the end of {operation.get('kind')}", every_seconds=OPERATION_POLL_SECONDS)
    try:
        with shown_pause(is_quiet=is_quiet) as view:
            view.take(operation)
            return poll.until(
                lambda: run.client.get(path), lambda answer: answer.get("state") != RUNNING, on_answer=view.take
            )
    except KeyboardInterrupt as interrupt:
        raise detached(run, f"{operation.get('kind')} goes on") from interrupt


def detached(run: ReachedRun, what: str) -> CommandFailed:
    """Ctrl-C while waiting: nothing was waited for to its end, and nothing was stopped."""
    message = f"stopped waiting; {what}. `lessrl status {run.run_id}` says how it is, `lessrl wait {run.run_id}` waits"
    return CommandFailed(message, exit_code=EXIT_TIMED_OUT)


def check_operation(operation: JsonObject) -> None:
    """That it ended well.

    Raises:
        CommandFailed: it did not (exit code 1).
    """
    if operation.get("state") == "failed":
        what = f"{operation.get('kind')} failed in phase {operation.get('phase')}"
        raise CommandFailed(f"{what}: {operation.get('error') or 'no cause was told'}", exit_code=EXIT_FAILED)


def _ask(run: ReachedRun, verb: str, asked: JsonObject, *, wait: bool, as_json: bool) -> int:
    body = {name: value for name, value in asked.items() if value not in (None, "")}
    answer = run.client.call("POST", f"{run.path}/{verb}", body)
    operation = answer.get("operation")
    if wait and operation is not None:
        operation = follow_operation(run, operation, is_quiet=as_json)
        answer = {"run": run.client.get(run.path), "operation": operation}
    if as_json:
        print_json(answer)
    if operation is not None:
        check_operation(operation)
    if not as_json:
        typer.echo(f"{run.run_id}: {safe(_outcome(answer))}")
        if operation is not None and operation.get("state") == RUNNING:
            remark(f"`lessrl status {run.run_id}` says how far it is, and {verb} --wait waits for it")
    return EXIT_OK


def _outcome(answer: JsonObject) -> str:
    run, operation = answer["run"], answer.get("operation")
    state, pause = state_of(run), dig(run, "status.pause")
    if state == "paused" and pause is not None:
        kept = pause.get("checkpoint") or "no checkpoint"
        given = pause.get("released") or "none"
        return f"paused ({pause.get('mode')}), {kept}, released {given}, exactness {pause.get('exactness') or '-'}"
    if operation is None:
        return f"{state}, nothing had to be done"
    if operation.get("state") == RUNNING:
        return (
            f"{state}, {operation.get('kind')} is in phase {operation.get('phase')} (operation {operation.get('id')})"
        )
    return state
