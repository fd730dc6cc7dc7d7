"""What a run wrote down of its training: curves, distributions, groups."""

import asyncio
import gzip
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE
from services.api.parameters import PageSize, PageToken
from services.api.problems import declared
from services.api.schemas.files import (
    DistributionObject,
    GroupObject,
    GroupPage,
    GroupSummary,
    OutcomesObject,
    SeriesNames,
    SeriesObject,
)
from services.control.run import RunControl
from services.run_view.distributions import KINDS

MAX_STEP = 2**31 - 1
MIN_ZIPPED_BYTES = 64 << 10

Step = Annotated[int | None, Query(ge=0, le=MAX_STEP)]


def files_router(context: ApiContext) -> APIRouter:
    """What is read from the files of a run."""
    router = APIRouter(
        prefix="/v1/runs/{run_id}",
        tags=["training"],
        dependencies=[Depends(needs(Role.READ))],
        responses=declared(404, 409),
    )
    _add_numbers(router, context)
    _add_groups(router, context)
    return router


def _add_numbers(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]

    @router.get("/series/names", operation_id="list_series")
    async def list_series(run: Found) -> SeriesNames:
        """Names of all numbers that the run has reported so far."""
        return SeriesNames(names=list(await context.files_of(run).series_names()))

    @router.get("/series", operation_id="get_series")
    async def get_series(
        run: Found,
        names: Annotated[
            list[str], Query(min_length=1, max_length=64, description="of the metric catalogue; commas or repeated")
        ],
        min_step: Step = None,
        max_step: Step = None,
        max_points: Annotated[
            int, Query(ge=2, le=20_000, description="each window keeps its smallest and its largest value")
        ] = 1000,
    ) -> SeriesObject:
        """Curves over learner steps."""
        asked = [each for name in names for each in name.split(",") if each]
        found = await context.files_of(run).series(asked, min_step=min_step, max_step=max_step, max_points=max_points)
        return SeriesObject(**found)

    @router.get("/distributions", operation_id="get_distribution")
    async def get_distribution(
        run: Found,
        kind: Annotated[str, Query(max_length=64, description=", ".join(KINDS))],
        step: Annotated[
            int | None, Query(ge=0, le=MAX_STEP, description="null: the newest with a group that was written down")
        ] = None,
    ) -> DistributionObject:
        """A histogram over the groups of a step that were written down; edges are the same in every run."""
        return DistributionObject(**await context.files_of(run).distribution(kind, step))

    @router.get("/outcomes", operation_id="get_outcomes")
    async def get_outcomes(run: Found, step: Step = None) -> OutcomesObject:
        """How many groups ended how, in one step or in the whole run."""
        return OutcomesObject(step=step, groups=await context.files_of(run).outcomes(step))


def _add_groups(router: APIRouter, context: ApiContext) -> None:
    Found = Annotated[RunControl, Depends(context.find())]

    @router.get("/groups", operation_id="list_groups")
    async def list_groups(
        run: Found,
        step: Step = None,
        outcome: Annotated[
            str | None,
            Query(max_length=64, description="trained, dropped_<reason>, mixed, all_correct or all_incorrect"),
        ] = None,
        page_size: PageSize = DEFAULT_PAGE_SIZE,
        page_token: PageToken = "",
    ) -> GroupPage:
        """Groups that ended, the last to end first."""
        found = await context.files_of(run).groups(
            step=step, outcome=outcome, page_size=page_size, page_token=page_token or None
        )
        items = [GroupSummary.model_validate(each, from_attributes=True) for each in found.items]
        return GroupPage(items=items, next_page_token=found.next_page_token)

    @router.get("/groups/{group_id}", operation_id="get_group", response_model=GroupObject)
    async def get_group(
        run: Found,
        group_id: Annotated[str, Path(max_length=256)],
        accept_encoding: Annotated[str, Header()] = "",
    ) -> Response:
        """One group that was written down, token by token."""
        text = await context.files_of(run).group(group_id)
        headers = {"Vary": "Accept-Encoding"}
        if len(text) >= MIN_ZIPPED_BYTES and "gzip" in accept_encoding:
            text = await asyncio.to_thread(gzip.compress, text, 5)
            headers["Content-Encoding"] = "gzip"
        return Response(text, media_type="application/json", headers=headers)
