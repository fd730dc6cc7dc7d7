"""What the control plane answers to calls, as HTTP says it."""

from typing import Any

from fastapi import Response

from services.api.problems import Problem
from services.api.run_objects import Mask, operation_object, run_object
from services.api.schemas.calls import CallAnswer, OperationObject
from services.control.machine import OperationKind, Refused
from services.control.records import Operation
from services.control.run import RunControl

_STATUSES = {
    "validation": 422,
    "key-not-live": 422,
    "idempotency-key-reused": 422,
    "precondition-failed": 412,
    "precondition-required": 428,
    "worker-not-found": 404,
    "checkpoint-not-found": 404,
    "run-not-found": 404,
}
"""By slug; every other refusal is a conflict with what is: 409."""


def call_answer(
    run: RunControl, operation: Operation | None, response: Response, mask: Mask, *, pending: bool
) -> CallAnswer:
    """The run after a call, and the operation to follow.

    Args:
        pending: whether work follows (202), or all is already as asked (200).
    """
    shown = run_object(run, mask)
    response.status_code = 202 if pending else 200
    if operation is not None:
        response.headers["Location"] = f"{shown.links.operations}/{operation.operation_id}"
    return CallAnswer(run=shown, operation=operation_object(operation) if operation else None)


def task_answer(run: RunControl, answer: Operation | Refused, response: Response) -> OperationObject:
    """The operation of a task.

    Raises:
        Problem: it was refused.
    """
    if isinstance(answer, Refused):
        raise problem_of(answer, run)
    response.headers["Location"] = f"/v1/runs/{run.record.run_id}/operations/{answer.operation_id}"
    return operation_object(answer)


def problem_of(refused: Refused, run: RunControl | None = None) -> Problem:
    """A refusal as an error answer; a conflict says how the run is."""
    status = _STATUSES.get(refused.slug, 409)
    members: dict[str, Any] = {}
    if refused.problems:
        members["errors"] = [{"pointer": each.pointer, "message": each.message} for each in refused.problems]
    if status in (412, 428) and run is not None:
        members["generation"] = run.record.config_generation
    if status == 409 and run is not None:
        members.update(current_state=run.life.state, allowed_actions=list(run.allowed_actions))
        if refused.slug == "run-active":
            members["run_id"] = run.record.run_id
        pause = run.latest_operation(OperationKind.PAUSE)
        if refused.slug == "pause-in-progress" and pause is not None:
            members["operation_id"] = pause.operation_id
    return Problem(status, refused.slug, refused.detail, **members)
