"""What streams of server-sent events share: how many may be open, how soon a client comes back."""

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import Query

from services.api.limits import StreamSlots
from services.api.problems import Problem

RETRY_MS = 3000

Ticket = Annotated[
    str, Query(max_length=128, description="of POST /v1/stream-tickets, for a client that cannot send a header")
]


def stream_slot(slots: StreamSlots) -> Callable[[], AsyncIterator[None]]:
    """A dependency: one of the streams that may be open, until the stream ends.

    Raises:
        Problem: 429.
    """

    async def hold_slot() -> AsyncIterator[None]:
        if not slots.take():
            detail = f"at most {slots.max_streams} streams may be open, and as many are; close one"
            raise Problem(429, "rate-limited", detail, headers={"Retry-After": "5"})
        try:
            yield
        finally:
            slots.give_back()

    return hold_slot
