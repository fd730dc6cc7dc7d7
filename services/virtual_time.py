"""An event loop whose clock jumps to the next timer as soon as nothing is ready: hours of waiting in no time.

Coroutines run as they do on the real loop, in the same order every time. Threads and sockets do not exist here, so a
wait that no task and no timer will ever end is certain to be one: it is an error that names who waits, not a hang.
"""

import asyncio
import inspect
import selectors
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

MAX_NAMED = 8


class EndlessWait(RuntimeError):
    """Every task waits, and no timer is set: nothing can ever happen."""


def run_virtual(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual clock that starts at 0.

    Raises:
        EndlessWait: nothing can ever wake what is waited for.
    """
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(coroutine)


def virtual_clock() -> float:
    """Seconds of the running loop: a `Clock` on the virtual loop, the monotonic one on another."""
    return asyncio.get_running_loop().time()


class _VirtualLoop(asyncio.SelectorEventLoop):
    """Only what is asked of time differs from asyncio's own loop."""

    def __init__(self) -> None:
        self._virtual_seconds = 0.0
        super().__init__(_JumpingSelector(self))
        # asyncio runs timers before time() + resolution, and a float of months swallows the nanosecond of a real clock.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._virtual_seconds

    def jump(self, seconds: float | None) -> None:
        """What the loop would sleep, passes; None is a sleep without end."""
        if seconds is None:
            waits = sorted(_waits_at(task) for task in asyncio.all_tasks(self))
            more = f" and {len(waits) - MAX_NAMED} more" if len(waits) > MAX_NAMED else ""
            raise EndlessWait(
                f"a wait must end by a task or a timer, but at {self._virtual_seconds:g} s every task waits and no "
                f"timer is set: {'; '.join(waits[:MAX_NAMED])}{more} (run_virtual)"
            )
        self._virtual_seconds += seconds


class _JumpingSelector(selectors.SelectSelector):
    """Asked to wait for files, it lets time pass instead."""

    def __init__(self, loop: _VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.jump(timeout)
        return []


def _waits_at(task: asyncio.Task[Any]) -> str:
    """Name of a task, and the functions it waits in, outermost first."""
    return f"{task.get_name()} in {' > '.join(_calls_of(task.get_coro()))}"


def _calls_of(awaited: Any) -> Iterator[str]:
    while inspect.iscoroutine(awaited) and awaited.cr_frame is not None:
        yield f"{awaited.__qualname__}:{awaited.cr_frame.f_lineno}"
        awaited = awaited.cr_await
