"""The workers of a run and the places where its groups wait, as they were last reported."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response

from services.api.answers import task_answer
from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.parameters import ID_PATTERN
from services.api.problems import declared
from services.api.schemas.calls import OperationObject
from services.api.schemas.files import QueueObject, QueuePage, WorkerObject, WorkerPage
from services.control.machine import OperationKind
from services.control.records import Caller
from services.control.run import RunControl
from services.reports import WorkerReport, WorkerStatus

WorkerId = Annotated[str, Path(pattern=ID_PATTERN)]


def workers_router(context: ApiContext) -> APIRouter:
    """Workers and queues of a run."""
    router = APIRouter(prefix="/v1/runs/{run_id}", tags=["workers"])
    _add_reads(router, context)
    _add_calls(router, context)
    return router


def _add_reads(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    allowed = [Depends(needs(Role.READ))]

    @router.get("/workers", operation_id="list_workers", responses=declared(404), dependencies=allowed)
    async def list_workers(run: Found) -> WorkerPage:
        """All of them, by role and name."""
        now = {each.worker_id: each for each in run.buffer.workers} if run.buffer else {}
        workers = sorted(run.workers.values(), key=lambda each: (each.role, each.worker_id))
        items = [_worker_object(each, now.get(each.worker_id)) for each in workers]
        return WorkerPage(items=items, next_page_token=None)

    @router.get("/queues", operation_id="list_queues", responses=declared(404), dependencies=allowed)
    async def list_queues(run: Found) -> QueuePage:
        """Where groups wait."""
        queues = run.buffer.queues if run.buffer else {}
        items = [
            QueueObject(name=name, depth=depth, capacity=capacity or None)
            for name, (depth, capacity) in sorted(queues.items())
        ]
        return QueuePage(items=items)


def _add_calls(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]
    By = Annotated[Caller, Depends(needs(Role.ADMIN))]

    @router.post(
        "/workers/{worker_id}/restart", operation_id="restart_worker", status_code=202, responses=declared(404, 409)
    )
    async def restart_worker(run: Found, worker_id: WorkerId, response: Response, caller: By) -> OperationObject:
        """End a worker's process and start another in its place; its groups are sampled again."""
        answer = await run.start_task(OperationKind.RESTART_WORKER, {"worker_id": worker_id}, caller)
        return task_answer(run, answer, response)

    @router.post(
        "/workers/{worker_id}/drain", operation_id="drain_worker", status_code=202, responses=declared(404, 409)
    )
    async def drain_worker(run: Found, worker_id: WorkerId, response: Response, caller: By) -> OperationObject:
        """Let a worker finish what it has, then start another in its place."""
        answer = await run.start_task(OperationKind.DRAIN_WORKER, {"worker_id": worker_id}, caller)
        return task_answer(run, answer, response)


def _worker_object(worker: WorkerReport, now: WorkerStatus | None) -> WorkerObject:
    return WorkerObject(
        id=worker.worker_id,
        role=worker.role,
        state=worker.state,
        standing=now.standing if now else None,
        inflight=now.inflight if now else None,
        restarts=max(worker.restarts, now.restarts if now else 0),
        policy_version=now.policy_version if now else None,
        description=worker.description,
        start_seconds=worker.start_seconds,
    )
