"""The checkpoints of a run: ask for one, look, pin, remove, export."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from services.api.answers import task_answer
from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE
from services.api.paging import page_of
from services.api.parameters import IdempotencyKey, PageSize, PageToken
from services.api.problems import declared
from services.api.run_objects import time_or_none
from services.api.schemas.calls import OperationObject
from services.api.schemas.files import (
    CHECKPOINT_NAME,
    CheckpointBody,
    CheckpointObject,
    CheckpointPage,
    ExportBody,
    PinBody,
)
from services.control.machine import OperationKind
from services.control.records import Caller
from services.control.run import RunControl
from services.run_view.saved_checkpoints import SavedCheckpoint

Name = Annotated[str, Path(pattern=CHECKPOINT_NAME)]


def checkpoints_router(context: ApiContext) -> APIRouter:
    """Paths of a run's checkpoints."""
    router = APIRouter(prefix="/v1/runs/{run_id}/checkpoints", tags=["checkpoints"])
    _add_reads(router, context)
    _add_creating(router, context)
    _add_changes(router, context)
    return router


def _add_reads(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    allowed = [Depends(needs(Role.READ))]

    @router.get("", operation_id="list_checkpoints", responses=declared(404, 409), dependencies=allowed)
    async def list_checkpoints(
        run: Found, page_size: PageSize = DEFAULT_PAGE_SIZE, page_token: PageToken = ""
    ) -> CheckpointPage:
        """All of them, damaged ones too, the newest first."""
        found = await context.files_of(run).checkpoints()
        items, token = page_of(found, key=lambda each: each.name, page_size=page_size, page_token=page_token)
        return CheckpointPage(items=[_checkpoint_object(each) for each in items], next_page_token=token)

    @router.get("/{name}", operation_id="get_checkpoint", responses=declared(404, 409), dependencies=allowed)
    async def get_checkpoint(run: Found, name: Name) -> CheckpointObject:
        """One checkpoint."""
        return _checkpoint_object(await context.files_of(run).checkpoint(name))


def _add_creating(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    By = Annotated[Caller, Depends(needs(Role.OPERATE))]

    @router.post("", operation_id="create_checkpoint", status_code=202, responses=declared(404, 409))
    async def create_checkpoint(
        run: Found,
        response: Response,
        caller: By,
        body: CheckpointBody | None = None,
        idempotency_key: IdempotencyKey = "",
    ) -> OperationObject:
        """Commit a checkpoint at the next step border; the operation's result names it."""
        options = (body or CheckpointBody()).model_dump()
        answer = await context.plane.start_task(
            run.record.run_id, OperationKind.CHECKPOINT, options, caller, idempotency_key
        )
        return task_answer(run, answer, response)

    @router.post("/{name}/export", operation_id="export_checkpoint", status_code=202, responses=declared(404, 409))
    async def export_checkpoint(
        run: Found,
        name: Name,
        response: Response,
        caller: By,
        body: ExportBody | None = None,
        idempotency_key: IdempotencyKey = "",
    ) -> OperationObject:
        """Write a checkpoint's policy as a Hugging Face model; the operation's result names the directory."""
        await context.files_of(run).checkpoint(name)
        options = {"checkpoint": name, **(body or ExportBody()).model_dump()}
        answer = await context.plane.start_task(
            run.record.run_id, OperationKind.EXPORT, options, caller, idempotency_key
        )
        return task_answer(run, answer, response)


def _add_changes(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]

    @router.patch(
        "/{name}",
        operation_id="pin_checkpoint",
        responses=declared(404, 409),
        dependencies=[Depends(needs(Role.OPERATE))],
    )
    async def pin_checkpoint(run: Found, name: Name, body: PinBody) -> CheckpointObject:
        """Keep a checkpoint until it is unpinned, or let the run's own limit decide again."""
        return _checkpoint_object(await context.files_of(run).pin_checkpoint(name, is_pinned=body.pinned))

    @router.delete(
        "/{name}",
        operation_id="delete_checkpoint",
        status_code=204,
        response_class=Response,
        responses=declared(404, 409),
        dependencies=[Depends(needs(Role.ADMIN))],
    )
    async def delete_checkpoint(run: Found, name: Name) -> Response:
        """Remove a checkpoint from the disk; the newest whole one, pinned ones and those in use stay."""
        await context.files_of(run).delete_checkpoint(name, in_use=_in_use(run))
        return Response(status_code=204)


def _in_use(run: RunControl) -> frozenset[str]:
    """Checkpoints that the run would go on from, or that an open operation names."""
    named = [run.intent.from_checkpoint, run.record.checkpoint.get("checkpoint"), run.record.launch_from]
    named += [each.request.get("checkpoint") for each in run.open_operations]
    pause = run.latest_operation(OperationKind.PAUSE)
    if pause is not None and not run.life.state.is_terminal:
        named.append(pause.result.get("checkpoint"))
    return frozenset(str(each) for each in named if each)


def _checkpoint_object(found: SavedCheckpoint) -> CheckpointObject:
    return CheckpointObject(
        name=found.name,
        step=found.step,
        policy_version=found.policy_version,
        bytes=found.num_bytes,
        sha256_manifest=found.sha256_manifest,
        complete=found.is_complete,
        pinned=found.is_pinned,
        tag=found.tag,
        created_at=time_or_none(found.created_at),
        problem=found.problem or None,
    )
