"""Events of a run: in pages, and as they happen."""

import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.api.auth import Role
from services.api.context import ApiContext
from services.api.gate import needs
from services.api.limits import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from services.api.parameters import PageSize
from services.api.problems import declared
from services.api.run_objects import event_object
from services.api.schemas.base import MAX_COUNT
from services.api.schemas.events import EventPage
from services.api.streams import RETRY_MS, Ticket, stream_slot
from services.control.records import StoreError
from services.control.run import RunControl

After = Annotated[int, Query(ge=0, le=MAX_COUNT, description="only events with a larger id")]
Types = Annotated[
    list[str], Query(alias="type", max_length=32, description="only events of this type; may be repeated")
]


def events_router(context: ApiContext) -> APIRouter:
    """Paths of a run's events."""
    router = APIRouter(prefix="/v1/runs/{run_id}/events", tags=["events"])
    Found = Annotated[RunControl, Depends(context.find())]
    allowed = [Depends(needs(Role.READ))]

    @router.get("", operation_id="list_events", responses=declared(404), dependencies=allowed)
    async def list_events(
        run: Found,
        types: Types = [],  # noqa: B006 - pydantic copies it
        after: After = 0,
        page_size: PageSize = DEFAULT_PAGE_SIZE,
    ) -> EventPage:
        """What happened to a run, oldest first."""
        found = await context.plane.events_after(run.record.run_id, after, types, page_size + 1)
        shown = [event_object(event) for event in found[:page_size]]
        return EventPage(items=shown, next_page_token=str(shown[-1].id) if len(found) > page_size else None)

    @router.get(
        "/stream",
        operation_id="stream_events",
        response_class=EventSourceResponse,
        responses=declared(404),
        dependencies=[*allowed, Depends(stream_slot(context.slots))],
    )
    async def stream_events(
        run: Found,
        types: Types = [],  # noqa: B006
        after: Annotated[
            int | None, Query(ge=0, le=MAX_COUNT, description="begin behind this id; null: with what happens next")
        ] = None,
        last_event_id: Annotated[
            str, Header(alias="Last-Event-ID", max_length=32, description="of a stream that broke; goes before `after`")
        ] = "",
        ticket: Ticket = "",
    ) -> AsyncIterator[ServerSentEvent]:
        """Events as they happen, as server-sent events: `id` is the event's, `event` its type, `data` the event."""
        del ticket
        start = int(last_event_id) if last_event_id.isdecimal() and last_event_id.isascii() else after
        async for event in _follow(context, run, types, min(start, MAX_COUNT) if start is not None else None):
            yield event

    return router


async def _follow(
    context: ApiContext, run: RunControl, types: list[str], start: int | None
) -> AsyncIterator[ServerSentEvent]:
    plane, run_id = context.plane, run.record.run_id
    seen = plane.last_sequence if start is None else start
    yield ServerSentEvent(retry=RETRY_MS, comment="events")
    try:
        while plane.run(run_id) is not None:
            found = await plane.events_after(run_id, seen, (), MAX_PAGE_SIZE)
            for event in found:
                seen = event.sequence
                if not types or event.kind in types:
                    data = json.dumps(event_object(event).model_dump(mode="json"))
                    yield ServerSentEvent(id=str(seen), event=event.kind, raw_data=data)
            if not found:
                await plane.wait_for_events(run_id, seen)
    except StoreError:
        # The client comes back with the last id that it has; nothing is lost.
        yield ServerSentEvent(event="stream_broken", raw_data="{}")
