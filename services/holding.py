"""What engines are told of a user's pause: to stand still, to give up what they do, to give memory back.

Weights and pauses have different owners. An engine that the user froze takes weights and stays frozen; whoever tells
engines of either waits for the other's turn, so that a weight sync under way finishes first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum

from rollout.engine import EngineMemory
from services.bell import Bell
from services.deadlines import within
from services.pool import Pool
from services.ports import RolloutPort
from services.publishing import Publisher
from services.reports import ReleaseLevel
from shaping.errors import LessrlError

MEMORY = {
    ReleaseLevel.KV_CACHE: EngineMemory.KV_CACHE,
    ReleaseLevel.ROLLOUT_WEIGHTS: EngineMemory.ROLLOUT_WEIGHTS,
}


class Hold(StrEnum):
    """What the user lets engines do."""

    NONE = "none"
    FREEZE = "freeze"
    ABORT = "abort"


class EngineHold:
    """Brings the engines of a run to what the user wants of them.

    Args:
        publisher: the other one who tells engines to stand still.
        wanted: what they are to do now.
        seconds: for one engine to stop or to go on (run.deadlines.heartbeat_seconds).
        memory_seconds: for one to give memory back or to take it again (run.deadlines.start_seconds).
    """

    def __init__(
        self,
        pool: Pool[RolloutPort],
        publisher: Publisher,
        bell: Bell,
        *,
        wanted: Callable[[], Hold],
        seconds: float,
        memory_seconds: float,
    ) -> None:
        self._pool = pool
        self._publisher = publisher
        self._bell = bell
        self._wanted = wanted
        self._seconds = seconds
        self._memory_seconds = memory_seconds
        self._hold = Hold.NONE
        self._is_moving = False
        self._released = ReleaseLevel.NONE

    @property
    def is_as_wanted(self) -> bool:
        """Whether every engine does what the user wants, and is told nothing else."""
        return not self._is_moving and self._hold is self._wanted()

    @property
    def released(self) -> ReleaseLevel:
        """What the engines gave back."""
        return self._released

    async def follow(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._bell.wait_until(lambda: not self.is_as_wanted)
            if self._wanted() is not Hold.NONE:
                # At once, while a weight sync may still go on.
                self._pool.hold()
            self._is_moving = True
            async with self._publisher.turn:
                await self._bring_to(self._wanted())
            self._is_moving = False
            self._bell.ring()

    async def release(self, level: ReleaseLevel) -> str:
        """Let every engine give back this much; nothing may be under way.

        Returns:
            What went wrong, or "".
        """
        memory, weights = MEMORY[level], level is ReleaseLevel.ROLLOUT_WEIGHTS
        self._pool.hold()
        self._pool.revival.postpone()
        self._released = level
        async with self._publisher.turn:
            failed = await self._tell("release of memory", lambda port: port.release(memory), self._memory_seconds)
        if weights:
            # The weights that an evaluation was asked with are gone: it learns of it once work is given again.
            self._pool.take_back(as_current=False)
            self._pool.hold_back()
        return "; ".join(failed)

    async def wake(self, version: int) -> None:
        """Take everything again, and the learner's weights where they were given back. An engine that cannot is started
        again, as one that died.
        """
        if self._released is ReleaseLevel.NONE:
            return
        self._pool.revival.go_on()
        if self._released is ReleaseLevel.ROLLOUT_WEIGHTS:
            await self._wake(EngineMemory.ROLLOUT_WEIGHTS)
            # Before the KV cache, and so before anything can be sampled.
            await self._publisher.publish(version, asks_canary=False)
        await self._wake(EngineMemory.KV_CACHE)
        self._released = ReleaseLevel.NONE
        if self._hold is Hold.NONE and self.is_as_wanted:
            self._pool.let_go()

    async def _wake(self, memory: EngineMemory) -> None:
        async with self._publisher.turn:
            await self._tell("wake-up", lambda port: port.wake(memory), self._memory_seconds)

    async def _bring_to(self, target: Hold) -> None:
        was_frozen = self._hold is Hold.FREEZE
        if target is Hold.FREEZE:
            self._publisher.is_frozen = True
            self._pool.deadlines.stand_still()
            await self._tell("freeze", lambda port: port.freeze(), self._seconds)
        elif target is Hold.ABORT:
            await self._tell("abort", lambda port: port.abort(), self._seconds)
        if was_frozen and target is not Hold.FREEZE:
            await self._tell("thaw", lambda port: port.thaw(), self._seconds)
            self._pool.deadlines.go_on()
            self._publisher.is_frozen = False
        self._hold = target
        if target is Hold.NONE and self._released is ReleaseLevel.NONE:
            self._pool.let_go()

    async def _tell(self, what: str, ask: Callable[[RolloutPort], Awaitable[None]], seconds: float) -> list[str]:
        """Tell every engine at once; one that fails or is too slow is left out, and started again. Their failures."""
        since = self._pool.num_starts
        answers = await asyncio.gather(*(self._ask(port, what, ask, seconds, since) for port in self._pool.alive))
        return [each for each in answers if each]

    async def _ask(
        self,
        port: RolloutPort,
        what: str,
        ask: Callable[[RolloutPort], Awaitable[None]],
        seconds: float,
        since: int,
    ) -> str:
        key = "run.deadlines.heartbeat_seconds" if seconds == self._seconds else "run.deadlines.start_seconds"
        told = f"{what} of {port.worker_id}"
        try:
            await within(seconds, ask(port), role="rollout", what=told, key=key)
        except LessrlError as failure:
            self._pool.leave_out(port.worker_id, f"{told}: {failure}", since=since)
            return f"{told}: {failure}"
        return ""
