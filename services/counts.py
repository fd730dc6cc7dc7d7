"""Tells the control plane what waits where, and what each worker does, where that has changed."""

import asyncio
from collections.abc import Awaitable, Callable

from rollout.buffer import GroupBuffer
from services.group_loop import BufferedGroup
from services.pauses import Pauses
from services.reports import BufferReport, ControlReport
from services.workers import Workers


class CountTeller:
    """Looks at a run from time to time: changes are many, and nobody needs each of them."""

    def __init__(
        self,
        buffer: GroupBuffer[BufferedGroup],
        workers: Workers,
        pauses: Pauses,
        *,
        report: Callable[[ControlReport], Awaitable[None]],
    ) -> None:
        self._buffer = buffer
        self._workers = workers
        self._pauses = pauses
        self._report = report

    async def tell(self, seconds: float) -> None:
        """Every so many seconds, until it is cancelled."""
        told: list[ControlReport] = []
        while True:
            await asyncio.sleep(seconds)
            standing = self.standing()
            for each in standing:
                if each not in told:
                    await self._report(each)
            told = standing

    def standing(self) -> list[ControlReport]:
        """The run as it is now; with a pause under way how far that is."""
        buffer, workers = self._buffer, self._workers
        may_wait, may_be_asked = buffer.limits
        queues = {
            "in_flight": (buffer.num_in_flight, may_be_asked),
            "buffered": (buffer.num_buffered, may_wait),
            "rollout": (workers.rollout.num_asked, may_be_asked),
            "shaping": (workers.shaping.num_asked, may_be_asked),
        }
        counts = BufferReport(
            queues=queues,
            version=buffer.version,
            lent=tuple(each.worker_id for each in workers.rollout.lent),
            workers=(*workers.rollout.statuses(), *workers.shaping.statuses()),
        )
        pause = self._pauses.under_way()
        return [counts] if pause is None else [counts, pause]
