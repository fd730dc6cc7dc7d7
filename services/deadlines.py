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

    A timer per call costs more than the rest of a call where thousands are under way. They can stand still together:
    a call that a user froze for an hour is not an hour late.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._calls: OrderedDict[_Call, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._still_since: float | None = None
        # How long they have stood still so far: a deadline is that much later on the loop's clock.
        self._stood_s = 0.0

    def stand_still(self) -> None:
        """Time passes for no call from now on, nor for one that begins meanwhile; twice is once."""
        if self._still_since is None:
            self._still_since = asyncio.get_running_loop().time()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def go_on(self) -> None:
        """Time passes again."""
        if self._still_since is not None:
            loop = asyncio.get_running_loop()
            self._stood_s += loop.time() - self._still_since
            self._still_since = None
            self._set_timer(loop)

    async def within(self, work: Awaitable[T], *, role: str, what: str, key: str, group_id: str = "") -> T:
        """As the function of this name."""
        task = asyncio.current_task()
        assert task is not None
        loop = task.get_loop()
        now = loop.time() if self._still_since is None else self._still_since
        call = _Call(task, task.cancelling(), now - self._stood_s + self._seconds)
        self._calls[call] = None
        self._set_timer(loop)
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

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None and self._still_since is None and self._calls:
            self._timer = loop.call_at(next(iter(self._calls)).ends_at + self._stood_s, self._expire, loop)

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for call in tuple(itertools.takewhile(lambda each: each.ends_at + self._stood_s <= now, self._calls)):
            del self._calls[call]
            call.is_late = True
            call.task.cancel()
        self._set_timer(loop)


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
