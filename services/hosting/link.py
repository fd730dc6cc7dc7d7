"""How the process of a run reaches its control plane: reports leave in order and exactly once, intents come back.

Training never waits for the control plane. While that is away, reports wait here; when it is back it gets them, and
those that it had taken in before are told by their numbers.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from services.bell import Bell
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.reports import ControlReport, Intent, RunDescription, RunReport

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 5.0
MAX_BATCH = 500
MAX_WAITING = 200_000

T = TypeVar("T")

logger = logging.getLogger(__name__)


class ControlAway(Exception):
    """The control plane does not answer now: it may be restarting."""


class RunUnknown(Exception):
    """The control plane answers, and knows no such run: it has lost its store."""


class Transport(Protocol):
    """The calls of a control plane that a run's process makes. Each may raise ControlAway, and RunUnknown."""

    async def register(self, description: RunDescription, link_id: str, *, resumed: bool) -> None:
        """A process of the run begins; the same one again changes nothing."""
        ...

    async def remember(self, run_id: str, reports: Sequence[RunReport]) -> None: ...

    async def report(self, run_id: str, link_id: str, first_sequence: int, reports: Sequence[ControlReport]) -> int:
        """Returns the sequence number that must come next."""
        ...

    async def intent_after(self, run_id: str, generation: int) -> Intent: ...

    async def pause(self, run_id: str, request: PauseRequest, caller: str) -> str:
        """Returns "" or why it is refused."""
        ...

    async def resume(self, run_id: str, request: ResumeRequest, caller: str) -> str: ...

    async def cancel(self, run_id: str, request: CancelRequest, caller: str) -> str: ...

    async def close(self) -> None: ...


class ControlLink:
    """ControlPort of one run, over any transport. Make it, `open` it, and `close` it at the end.

    Args:
        resumed: whether an earlier process of this run has trained.
    """

    def __init__(self, transport: Transport, description: RunDescription, *, resumed: bool) -> None:
        self._transport = transport
        self._description = description
        self._resumed = resumed
        self._history: tuple[RunReport, ...] = ()
        self._link_id = secrets.token_hex(8)
        # In order; the first has the number `_first`, counted from 1 over the life of this link.
        self._waiting: deque[ControlReport] = deque()
        self._first = 1
        self._bell = Bell()
        self._sender: asyncio.Task[None] | None = None
        self._is_away = False
        self._registering: asyncio.Task[None] | None = None

    async def open(self, history: Sequence[RunReport], *, seconds: float) -> None:
        """Register the run, with what its earlier processes reported.

        Raises:
            ControlAway: no answer within the seconds.
        """
        self._history = tuple(history)
        try:
            async with asyncio.timeout(seconds):
                await self._patiently(self._register, registers=True)
        except TimeoutError as error:
            raise ControlAway(f"the control plane gave no answer within {seconds:g} s") from error
        self._sender = asyncio.create_task(self._send_for_ever())

    async def report(self, report: ControlReport) -> None:
        """Hand over; returns at once."""
        if len(self._waiting) >= MAX_WAITING:
            # The run's own files have what is lost here.
            self._waiting.popleft()
            self._first += 1
        self._waiting.append(report)
        self._bell.ring()

    async def intent_after(self, generation: int) -> Intent:
        """The intent once its generation is above the given one; waits, also for a control plane that is away."""
        return await self._patiently(lambda: self._transport.intent_after(self._description.run_id, generation))

    async def pause(self, request: PauseRequest, caller: str) -> str:
        """Ask for a pause on behalf of this process; "" or why it is refused.

        Raises:
            ControlAway: it does not answer now.
        """
        return await self._transport.pause(self._description.run_id, request, caller)

    async def resume(self, request: ResumeRequest, caller: str) -> str:
        """Ask for the end of a pause, likewise."""
        return await self._transport.resume(self._description.run_id, request, caller)

    async def cancel(self, request: CancelRequest, caller: str) -> str:
        """Ask for the end, likewise."""
        return await self._transport.cancel(self._description.run_id, request, caller)

    async def close(self, *, seconds: float) -> None:
        """Hand over what waits, for at most so long, and leave; harmless when repeated."""
        if self._sender is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait_until(lambda: not self._waiting)
        if self._waiting:
            logger.warning("the control plane was not told the last %d reports", len(self._waiting))
        tasks = [each for each in (self._sender, self._registering) if each is not None]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sender = None
        await self._transport.close()

    async def _register(self) -> None:
        await self._transport.register(self._description, self._link_id, resumed=self._resumed)
        if self._history:
            await self._transport.remember(self._description.run_id, self._history)

    async def _register_again(self) -> None:
        """Once for all calls that learn together that the run is unknown: what is remembered is counted."""
        if self._registering is None or self._registering.done():
            self._registering = asyncio.create_task(self._patiently(self._register, registers=True))
        await asyncio.shield(self._registering)

    async def _send_for_ever(self) -> None:
        while True:
            await self._bell.wait_until(lambda: bool(self._waiting))
            batch = list(itertools.islice(self._waiting, MAX_BATCH))
            first = self._first
            following = await self._patiently(functools.partial(self._send, first, batch))
            while self._waiting and self._first < following:
                self._waiting.popleft()
                self._first += 1
            self._bell.ring()

    async def _send(self, first: int, batch: Sequence[ControlReport]) -> int:
        return await self._transport.report(self._description.run_id, self._link_id, first, batch)

    async def _patiently(self, call: Callable[[], Awaitable[T]], *, registers: bool = False) -> T:
        """Repeat a call until the control plane answers it.

        Args:
            registers: whether the call itself makes the run known.
        """
        wait = FIRST_WAIT_SECONDS
        while True:
            try:
                answer = await call()
            except ControlAway as away:
                if not self._is_away:
                    logger.warning("the control plane is away, training goes on: %s", away)
                self._is_away = True
                await asyncio.sleep(wait)
                wait = min(2 * wait, MAX_WAIT_SECONDS)
            except RunUnknown:
                logger.warning("the control plane does not know run %s, it is told again", self._description.run_id)
                if not registers:
                    await self._register_again()
            else:
                if self._is_away:
                    logger.warning("the control plane is back")
                self._is_away = False
                return answer
