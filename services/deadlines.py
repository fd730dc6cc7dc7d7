"""A deadline around every call to another role, so that a role that hangs ends the run with a name and a cause."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from shaping.errors import DeadlineMissed, RecordError, RunFailed

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T], *, role: str, what: str, key: str, group_id: str = "") -> T:
    """Await a call to another role.

    Args:
        what: what is waited for, for the message.
        key: of the recipe that sets `seconds`.
    Raises:
        DeadlineMissed: it took longer.
        RunFailed: a record that crossed the border broke its rule.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            return await work
    except TimeoutError as error:
        if not deadline.expired():
            raise
        late = f"{what} took longer than {seconds:g} s ({key})"
        raise DeadlineMissed(role=role, cause=late, group_id=group_id) from error
    except RecordError as error:
        raise RunFailed(role=role, cause=f"{what}: {error}", group_id=group_id) from error
