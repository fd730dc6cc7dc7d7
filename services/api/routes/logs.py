"""Logs of a run's parts: the last lines, and new ones as they come. Control characters are escaped, secrets masked."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.problems import declared
from services.api.run_objects import time_or_none
from services.api.schemas.events import LogLine, LogLines
from services.api.streams import RETRY_MS, Ticket, stream_slot
from services.control.run import RunControl
from services.run_view.log_lines import LogLine as FoundLine
from services.run_view.logs import MAX_LINES

MAX_POSITION_CHARS = 8 << 10
"""Beyond it, with some hundreds of workers, a position is no id: clients could not send it back in a header."""

Component = Annotated[str, Query(max_length=64, description="driver, rollout, learner or shaping; empty: all")]
Worker = Annotated[str, Query(max_length=64, description="by its name; empty: all")]
Level = Annotated[
    Literal["", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], Query(description="this one or a graver one")
]
Search = Annotated[str, Query(max_length=256, description="part of the text, capital or small")]


def logs_router(context: ApiContext) -> APIRouter:
    """Paths of a run's logs."""
    router = APIRouter(
        prefix="/v1/runs/{run_id}/logs",
        tags=["logs"],
        dependencies=[Depends(needs(Role.READ))],
        responses=declared(404, 409),
    )
    Found = Annotated[RunControl, Depends(context.find())]

    @router.get("", operation_id="list_logs")
    async def list_logs(
        run: Found,
        component: Component = "",
        worker: Worker = "",
        level: Level = "",
        since_seconds: Annotated[
            float | None, Query(ge=0, le=1e10, allow_inf_nan=False, description="of the last so many seconds alone")
        ] = None,
        search: Search = "",
        tail: Annotated[int, Query(ge=0, le=MAX_LINES, description="most lines: the last ones")] = 200,
    ) -> LogLines:
        """The last lines that pass."""
        found = await context.files_of(run).logs(
            component=component, worker=worker, level=level, since_seconds=since_seconds, search=search, tail=tail
        )
        return LogLines(
            items=[_line(each) for each in found.lines], position=found.position, complete=found.is_complete
        )

    @router.get(
        "/stream",
        operation_id="stream_logs",
        response_class=EventSourceResponse,
        dependencies=[Depends(stream_slot(context.slots))],
    )
    async def stream_logs(
        run: Found,
        component: Component = "",
        worker: Worker = "",
        level: Level = "",
        search: Search = "",
        after: Annotated[
            str, Query(max_length=MAX_POSITION_CHARS, description="position of an answer; empty: from now on")
        ] = "",
        last_event_id: Annotated[
            str, Header(alias="Last-Event-ID", description="of a stream that broke; goes before `after`")
        ] = "",
        ticket: Ticket = "",
    ) -> AsyncIterator[ServerSentEvent]:
        """New lines as they come: event `log` with one line each; the id of a batch's last line is the position."""
        del ticket
        options = {"component": component, "worker": worker, "level": level, "search": search}
        async for event in _follow(context, run, last_event_id or after, options):
            yield event

    return router


async def _follow(
    context: ApiContext, run: RunControl, start: str, options: dict[str, Any]
) -> AsyncIterator[ServerSentEvent]:
    view = context.files_of(run)
    position = start or (await view.logs(tail=0)).position
    yield ServerSentEvent(retry=RETRY_MS, comment="logs")
    async for found in view.follow_logs(position, **options):
        is_short = len(found.position) <= MAX_POSITION_CHARS
        for number, line in enumerate(found.lines, start=1):
            is_last = number == len(found.lines)
            data = json.dumps(_line(line).model_dump(mode="json"))
            yield ServerSentEvent(id=found.position if is_last and is_short else None, event="log", raw_data=data)


def _line(line: FoundLine) -> LogLine:
    return LogLine(
        at=time_or_none(line.at), component=line.component, worker=line.worker, level=line.level, text=line.text
    )
