"""Starts an operation of a run, and says what it is or what became of it."""

import uuid
from typing import Any

import typer

from services.client.http import JsonObject
from services.commands.nouns import Asked
from services.commands.reach import reach_run
from services.commands.screen import print_json, remark, safe
from services.commands.steer import RUNNING, check_operation, follow_operation


def start_operation(asked: Asked, what: str, body: Any, *, wait: bool, creates: bool = False) -> JsonObject:
    """Ask for it, and print it.

    Args:
        what: path below the run's.
        wait: whether its end is waited for.
        creates: whether asking twice would make two, so that the call carries an idempotency key.
    Raises:
        CommandFailed: it was refused, or it failed (exit code 1).
    """
    headers = {"Idempotency-Key": str(uuid.uuid4())} if creates else None
    with reach_run(asked.run, asked.url) as reached:
        operation = operation_in(reached.client.call("POST", f"{reached.path}/{what}", body, headers=headers))
        if wait and operation.get("state") == RUNNING:
            operation = follow_operation(reached, operation, is_quiet=asked.as_json)
    if asked.as_json:
        print_json(operation)
    check_operation(operation)
    if not asked.as_json:
        result = ", ".join(f"{name} {value}" for name, value in (operation.get("result") or {}).items())
        said = "done" if operation.get("state") != RUNNING else f"in phase {operation.get('phase')}"
        typer.echo(safe(f"{operation.get('kind')} {said}" + (f": {result}" if result else "")))
        if operation.get("state") == RUNNING:
            remark(f"operation {operation.get('id')}; --wait waits for it")
    return operation


def operation_in(answer: JsonObject) -> JsonObject:
    """The operation of an answer that is one, or that holds one beside the run."""
    inner = answer.get("operation")
    return inner if isinstance(inner, dict) else answer
