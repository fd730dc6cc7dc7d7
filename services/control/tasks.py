"""What a run is asked to do beside training, once: a checkpoint, an evaluation, a worker started anew or drained.

An export is asked for in the same way, and done by the control plane's host: also of a run that has ended.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.control.calls import FieldProblem
from services.control.draft import TASK_KINDS, Cause, Draft
from services.control.machine import OperationKind, Refused
from services.control.records import Operation
from services.reports import RunState

WAITING = "waiting"
TASK_SECONDS = 4 * 3600.0
"""Longest time of a task, paused time excluded: it begins at a step's border, and a step may be long."""

_OF_WHAT = ("worker_id", "checkpoint")
WORKER_TASKS = frozenset((OperationKind.RESTART_WORKER, OperationKind.DRAIN_WORKER))


def refuse_task(
    state: RunState, kind: OperationKind, options: Mapping[str, Any], workers: frozenset[str]
) -> Refused | None:
    """Why a task cannot be asked for; None where it can.

    Args:
        workers: ids of those that the run has.
    """
    if kind is OperationKind.EXPORT:
        return None
    if kind not in TASK_KINDS:
        message = f"a task must be one of {', '.join(sorted(TASK_KINDS))}, export, got {kind}"
        return Refused(slug="validation", detail=message, problems=(FieldProblem(pointer="#/kind", message=message),))
    if state.is_terminal:
        return Refused(slug="run-finished", detail=f"cannot ask for {kind}: the run is {state}")
    if state is RunState.CANCELLING:
        return Refused(slug="invalid-transition", detail=f"cannot ask for {kind}: the run is being cancelled")
    worker = str(options.get("worker_id", ""))
    if kind in WORKER_TASKS and worker not in workers:
        known = ", ".join(sorted(workers)) or "none yet"
        return Refused(slug="worker-not-found", detail=f"no worker {worker!r}; the run has {known}")
    return None


def begin_task(draft: Draft, kind: OperationKind, options: Mapping[str, Any], cause: Cause) -> Operation:
    """Open a task; one of the same kind, of the same worker or checkpoint, that is open answers in its place."""
    for each in draft.facts.open_operations:
        if each.kind is kind and all(each.request.get(name) == options.get(name) for name in _OF_WHAT):
            return each
    return draft.begin(kind, WAITING, replace(cause, request=options), timeout_seconds=TASK_SECONDS)
