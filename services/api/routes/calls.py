"""Pause, resume, cancel, and the operations that follow."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from services.api.answers import call_answer, problem_of
from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE
from services.api.parameters import OperationId, PageSize, PageToken
from services.api.problems import Problem, declared
from services.api.run_objects import Mask, operation_object
from services.api.schemas.calls import (
    CallAnswer,
    CancelBody,
    OperationObject,
    OperationPage,
    PauseBody,
    ResumeBody,
)
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import Refused
from services.control.records import Caller
from services.control.run import CallAnswer as Answered
from services.control.run import RunControl

_CALL: dict[int | str, dict[str, Any]] = {
    200: {"model": CallAnswer, "description": "already as asked"},
    **declared(404, 409),
}


def calls_router(context: ApiContext) -> APIRouter:
    """Calls on a run, and its operations."""
    router = APIRouter(prefix="/v1/runs/{run_id}", tags=["calls"])
    _add_calls(router, context)
    _add_operations(router, context)
    return router


def _add_calls(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    By = Annotated[Caller, Depends(needs(Role.OPERATE))]
    mask = context.plane.redactor.text

    @router.post("/pause", operation_id="pause_run", status_code=202, responses=_CALL)
    async def pause_run(run: Found, response: Response, caller: By, body: PauseBody | None = None) -> CallAnswer:
        """Pause. `paused` is said once nothing is under way and the checkpoint, if one was asked for, is on disk."""
        request = PauseRequest(**(body or PauseBody()).model_dump())
        return _answer(run, await run.pause(request, caller), response, mask)

    @router.post("/resume", operation_id="resume_run", status_code=202, responses=_CALL)
    async def resume_run(run: Found, response: Response, caller: By, body: ResumeBody | None = None) -> CallAnswer:
        """Go on after a pause; while the run still drains, the pause is withdrawn."""
        asked = body or ResumeBody()
        request = ResumeRequest(reason=asked.reason, from_checkpoint=asked.from_checkpoint or "")
        return _answer(run, await run.resume(request, caller), response, mask)

    @router.post("/cancel", operation_id="cancel_run", status_code=202, responses=_CALL)
    async def cancel_run(run: Found, response: Response, caller: By, body: CancelBody | None = None) -> CallAnswer:
        """End the run for good."""
        request = CancelRequest(**(body or CancelBody()).model_dump())
        return _answer(run, await run.cancel(request, caller), response, mask)


def _answer(run: RunControl, answer: Answered | Refused, response: Response, mask: Mask) -> CallAnswer:
    if isinstance(answer, Refused):
        raise problem_of(answer, run)
    return call_answer(run, answer.operation, response, mask, pending=answer.accepted.pending)


def _add_operations(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    allowed = [Depends(needs(Role.READ))]

    @router.get("/operations", operation_id="list_operations", responses=declared(404), dependencies=allowed)
    async def list_operations(
        run: Found, page_size: PageSize = DEFAULT_PAGE_SIZE, page_token: PageToken = ""
    ) -> OperationPage:
        """What was asked of a run that takes time, oldest first."""
        found = await context.plane.operations(run.record.run_id, after=page_token, limit=page_size + 1)
        shown = [operation_object(each) for each in found[:page_size]]
        return OperationPage(items=shown, next_page_token=shown[-1].id if len(found) > page_size else None)

    @router.get(
        "/operations/{operation_id}", operation_id="get_operation", responses=declared(404), dependencies=allowed
    )
    async def get_operation(run: Found, operation_id: OperationId) -> OperationObject:
        """One operation, for a client that waits for it."""
        operation = await context.plane.operation(run.record.run_id, operation_id)
        if operation is None:
            raise Problem(404, "operation-not-found", f"no operation {operation_id} of this run")
        return operation_object(operation)
