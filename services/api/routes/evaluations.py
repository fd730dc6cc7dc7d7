"""Evaluations of a run: ask for one, look at those there are."""

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
from services.api.schemas.files import EvalBody, EvaluationObject, EvaluationPage
from services.control.machine import OperationKind
from services.control.records import Caller
from services.control.run import RunControl
from services.plain_data import plain_data
from services.run_view.evaluations import StoredEvaluation


def evaluations_router(context: ApiContext) -> APIRouter:
    """Paths of a run's evaluations."""
    router = APIRouter(prefix="/v1/runs/{run_id}/evals", tags=["evaluations"])
    Found = Annotated[RunControl, Depends(context.find())]
    allowed = [Depends(needs(Role.READ))]

    @router.get("", operation_id="list_evaluations", responses=declared(404, 409), dependencies=allowed)
    async def list_evaluations(
        run: Found, page_size: PageSize = DEFAULT_PAGE_SIZE, page_token: PageToken = ""
    ) -> EvaluationPage:
        """Those that the run made, and those of `lessrl evaluate`, the newest first."""
        found = await context.files_of(run).evaluations()
        items, token = page_of(found, key=lambda each: each.name, page_size=page_size, page_token=page_token)
        return EvaluationPage(items=[_evaluation_object(each) for each in items], next_page_token=token)

    @router.get("/{name}", operation_id="get_evaluation", responses=declared(404, 409), dependencies=allowed)
    async def get_evaluation(run: Found, name: Annotated[str, Path(max_length=256)]) -> EvaluationObject:
        """One evaluation."""
        return _evaluation_object(await context.files_of(run).evaluation(name))

    @router.post("", operation_id="create_evaluation", status_code=202, responses=declared(404, 409))
    async def create_evaluation(
        run: Found,
        response: Response,
        caller: Annotated[Caller, Depends(needs(Role.OPERATE))],
        body: EvalBody | None = None,
        idempotency_key: IdempotencyKey = "",
    ) -> OperationObject:
        """Evaluate at the next step border as the run's config says."""
        options = (body or EvalBody()).model_dump()
        answer = await context.plane.start_task(run.record.run_id, OperationKind.EVAL, options, caller, idempotency_key)
        return task_answer(run, answer, response)

    return router


def _evaluation_object(found: StoredEvaluation) -> EvaluationObject:
    return EvaluationObject(
        id=found.name,
        step=found.step,
        created_at=time_or_none(found.created_at),
        complete=found.is_complete,
        benchmarks=plain_data(found.benchmarks),
        details=plain_data(found.details),
    )
