"""A deadline around every call to another role, so that a role that hangs ends the run with a name and a cause."""

import asyncio
import itertools
from collections import OrderedDict
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


class EqualDeadlines:
    """`within` for many calls with deadlines of the same length: one timer for all, set for the oldest.

    A timer per call costs more than the rest of a call where thousands are under way.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: OrderedDict[_Call, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    async def within(self, work: Awaitable[T], *, role: str, what: str, key: str, group_id: str = "") -> T:
        """As the function of this name."""
        task = asyncio.current_task()
        assert task is not None
        call = _Call(task, task.cancelling(), task.get_loop().time() + self._seconds)
        self._calls[call] = None
        if self._timer is None:
            self._timer = task.get_loop().call_at(call.ends_at, self._expire, task.get_loop())
        try:
            return await work
        except asyncio.CancelledError as error:
            # As in asyncio.timeout: a cancellation of our own ends here, one from outside goes on.
            if not call.is_late or call.take_back() > call.num_cancelled:
                raise
            late = f"{what} took longer than {self._seconds:g} s ({key})"
            raise DeadlineMissed(role=role, cause=late, group_id=group_id) from error
        except RecordError as error:
            raise RunFailed(role=role, cause=f"{what}: {error}", group_id=group_id) from error
        finally:
            call.take_back()
            self._calls.pop(call, None)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        for call in tuple(itertools.takewhile(lambda each: each.ends_at <= loop.time(), self._calls)):
            del self._calls[call]
            call.is_late = True
            call.task.cancel()
        if self._calls:
            self._timer = loop.call_at(next(iter(self._calls)).ends_at, self._expire, loop)


class _Call:
    """One call under way; compared by identity."""

    __slots__ = ("ends_at", "is_late", "num_cancelled", "task", "was_taken_back")

    def __init__(self, task: "asyncio.Task[object]", num_cancelled: int, ends_at: float) -> None:
        self.task = task
        self.num_cancelled = num_cancelled
        self.ends_at = ends_at
        self.is_late = False
        self.was_taken_back = False

    def take_back(self) -> int:
        """Take our own cancellation back, once; the number of those that are left."""
        if self.is_late and not self.was_taken_back:
            self.was_taken_back = True
            return self.task.uncancel()
        return self.task.cancelling()
