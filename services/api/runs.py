"""Runs over HTTP: look, pause, resume, cancel. A handler reads or writes intent and never waits for a worker."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response

from services.api.problems import Problem, ProblemDetails
from services.api.schemas import (
    CallAnswer,
    CancelBody,
    EventPage,
    OperationObject,
    OperationPage,
    PauseBody,
    ResumeBody,
    RunObject,
    RunPage,
)
from services.api.views import event_object, operation_object, run_object
from services.control import ControlPlane
from services.reports import RunState
from services.run_calls import CancelRequest, PauseRequest
from services.run_state import Accepted, OperationKind, Refused

_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ProblemDetails}}
_CALL: dict[int | str, dict[str, Any]] = {
    200: {"model": CallAnswer, "description": "already as asked"},
    404: {"model": ProblemDetails},
    409: {"model": ProblemDetails},
    422: {"model": ProblemDetails},
}


def runs_router(control: ControlPlane) -> APIRouter:
    """Paths below /v1/runs for the one run of a control plane."""
    router = APIRouter(prefix="/v1/runs", tags=["runs"])
    find = _finder(control)
    _add_reads(router, control, find)
    _add_calls(router, find)
    return router


def _finder(control: ControlPlane) -> Callable[[str], ControlPlane]:
    def find(run_id: str) -> ControlPlane:
        if run_id != control.description.run_id:
            raise Problem(
                404, "run-not-found", f"no run {run_id}; this control plane holds {control.description.run_id}"
            )
        return control

    return find


def _add_reads(router: APIRouter, control: ControlPlane, find: Callable[[str], ControlPlane]) -> None:
    Found = Annotated[ControlPlane, Depends(find)]

    @router.get("", operation_id="list_runs")
    async def list_runs(state: RunState | None = None) -> RunPage:
        """Every run of this control plane: one, in this version."""
        run = run_object(control)
        return RunPage(items=[run] if state in (None, run.status.state) else [], next_page_token=None)

    @router.get("/{run_id}", operation_id="get_run", responses=_NOT_FOUND)
    async def get_run(run: Found) -> RunObject:
        """One run: what was asked for, and what is."""
        return run_object(run)

    @router.get("/{run_id}/operations", operation_id="list_operations", responses=_NOT_FOUND)
    async def list_operations(run: Found) -> OperationPage:
        """Pauses, resumes and cancels of a run, oldest first."""
        return OperationPage(items=[operation_object(each) for each in run.operations()], next_page_token=None)

    @router.get("/{run_id}/operations/{operation_id}", operation_id="get_operation", responses=_NOT_FOUND)
    async def get_operation(run: Found, operation_id: str) -> OperationObject:
        """One operation, for a client that waits for it."""
        operation = run.operation(operation_id)
        if operation is None:
            raise Problem(404, "operation-not-found", f"no operation {operation_id} of this run")
        return operation_object(operation)

    @router.get("/{run_id}/events", operation_id="list_events", responses=_NOT_FOUND)
    async def list_events(
        run: Found,
        type: Annotated[str | None, Query(description="only events of this type")] = None,
        after: Annotated[int, Query(ge=0, description="only events with a larger id")] = 0,
        page_size: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> EventPage:
        """Changes in the life of a run, oldest first. Steps are not events: they are in the run's metrics.jsonl."""
        events = run.events(after=after, kind=type, limit=page_size + 1)
        shown = [event_object(event) for event in events[:page_size]]
        return EventPage(items=shown, next_page_token=str(shown[-1].id) if len(events) > page_size else None)


def _add_calls(router: APIRouter, find: Callable[[str], ControlPlane]) -> None:
    Found = Annotated[ControlPlane, Depends(find)]

    @router.post("/{run_id}/pause", operation_id="pause_run", status_code=202, responses=_CALL)
    async def pause_run(run: Found, response: Response, body: PauseBody | None = None) -> CallAnswer:
        """Pause: the admission gate closes, what is under way finishes, then the state is `paused`."""
        return _answer(run, run.pause(PauseRequest(**(body or PauseBody()).model_dump())), response)

    @router.post("/{run_id}/resume", operation_id="resume_run", status_code=202, responses=_CALL)
    async def resume_run(run: Found, response: Response, body: ResumeBody | None = None) -> CallAnswer:
        """Go on after a pause; while the run still drains, the pause is withdrawn."""
        return _answer(run, run.resume((body or ResumeBody()).reason), response)

    @router.post("/{run_id}/cancel", operation_id="cancel_run", status_code=202, responses=_CALL)
    async def cancel_run(run: Found, response: Response, body: CancelBody | None = None) -> CallAnswer:
        """End the run for good."""
        return _answer(run, run.cancel(CancelRequest(**(body or CancelBody()).model_dump())), response)


def _answer(control: ControlPlane, call: Accepted | Refused, response: Response) -> CallAnswer:
    if isinstance(call, Refused):
        raise _problem(control, call)
    operation = control.latest_operation(call.operation) if call.operation else None
    run = run_object(control)
    response.status_code = 202 if call.pending else 200
    if operation is not None:
        response.headers["Location"] = f"{run.links.operations}/{operation.operation_id}"
    return CallAnswer(run=run, operation=operation_object(operation) if operation else None)


def _problem(control: ControlPlane, refused: Refused) -> Problem:
    if refused.slug == "validation":
        errors = [{"pointer": each.pointer, "message": each.message} for each in refused.problems]
        return Problem(422, refused.slug, refused.detail, errors=errors)
    members: dict[str, Any] = {
        "current_state": control.life.state,
        "allowed_actions": list(control.allowed_actions),
    }
    pause = control.latest_operation(OperationKind.PAUSE)
    if refused.slug == "pause-in-progress" and pause is not None:
        members["operation_id"] = pause.operation_id
    return Problem(409, refused.slug, refused.detail, **members)
