"""Tells the control plane what waits where, and what each worker does, where that has changed."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from rollout.buffer import GroupBuffer
from services.group_loop import BufferedGroup, GroupLoop
from services.idle_time import IdleTime
from services.pauses import Pauses
from services.reports import BufferReport, ControlReport
from services.workers import Workers

TOTALS_EVERY = 2
"""Looks after which totals that rose are told where nothing else has changed. A scrape that saw many seconds at once
would show more idle workers than there are.
"""


class CountTeller:
    """Looks at a run from time to time: changes are many, and nobody needs each of them."""

    def __init__(
        self,
        buffer: GroupBuffer[BufferedGroup],
        workers: Workers,
        pauses: Pauses,
        groups: GroupLoop,
        idle: IdleTime,
        *,
        report: Callable[[ControlReport], Awaitable[None]],
    ) -> None:
        self._buffer = buffer
        self._workers = workers
        self._pauses = pauses
        self._groups = groups
        self._idle = idle
        self._report = report

    async def tell(self, seconds: float) -> None:
        """Every so many seconds, until it is cancelled."""
        told: list[ControlReport] = []
        last: ControlReport | None = None
        num_quiet = 0
        while True:
            await asyncio.sleep(seconds)
            standing = self.standing()
            num_quiet += 1
            for each in standing:
                is_late = isinstance(each, BufferReport) and num_quiet >= TOTALS_EVERY and each != last
                if is_late or _without_totals(each) not in told:
                    await self._report(each)
                    if isinstance(each, BufferReport):
                        last, num_quiet = each, 0
            told = [_without_totals(each) for each in standing]

    async def tell_last(self) -> None:
        """What came after the last look: the loops have ended."""
        counts, *_ = self.standing()
        await self._report(counts)

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
            totals=self._totals(),
        )
        pause = self._pauses.under_way()
        return [counts] if pause is None else [counts, pause]

    def _totals(self) -> dict[str, float]:
        idle = {f"rollout_idle_{cause}_s": seconds for cause, seconds in self._idle.seconds().items()}
        return {"rollout_finished_groups": float(self._groups.num_finished), **idle}


def _without_totals(report: ControlReport) -> ControlReport:
    return replace(report, totals={}) if isinstance(report, BufferReport) else report
