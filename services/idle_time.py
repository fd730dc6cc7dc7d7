"""How long rollout workers had nothing to do, by what kept work from them: exact at every change, read now and then."""

from collections.abc import Callable
from enum import StrEnum

from services.bell import Bell
from services.stopwatch import Clock


class IdleCause(StrEnum):
    """What keeps work from a worker; of several that hold the first.

    WEIGHTS: a weight sync is under way. PAUSE: a user wants the run to stand still. BACK_PRESSURE: the buffer admits no
    more groups. NO_WORK: anything else.
    """

    WEIGHTS = "weights"
    PAUSE = "pause"
    BACK_PRESSURE = "back_pressure"
    NO_WORK = "no_work"


class IdleTime:
    """Adds up worker-seconds. Nobody is idle before the first look.

    Args:
        num_idle: workers that live and have no request under way, now.
        is_syncing, is_paused, is_full: whether the cause of that name holds now; asked in this order.
    """

    def __init__(
        self,
        clock: Clock,
        bell: Bell,
        *,
        num_idle: Callable[[], int],
        is_syncing: Callable[[], bool],
        is_paused: Callable[[], bool],
        is_full: Callable[[], bool],
    ) -> None:
        self._clock = clock
        self._bell = bell
        self._count = num_idle
        self._causes = (
            (IdleCause.WEIGHTS, is_syncing),
            (IdleCause.PAUSE, is_paused),
            (IdleCause.BACK_PRESSURE, is_full),
        )
        self._seconds = dict.fromkeys(IdleCause, 0.0)
        # As of the last look, and so until the next one.
        self._since, self._num_idle, self._cause = clock(), 0, IdleCause.NO_WORK

    def look(self) -> None:
        """Right after each change of how many are idle, or why."""
        now = self._clock()
        self._seconds[self._cause] += self._num_idle * (now - self._since)
        self._since, self._num_idle, self._cause = now, self._count(), self._cause_now()

    def seconds(self) -> dict[IdleCause, float]:
        """Worker-seconds until now."""
        self.look()
        return dict(self._seconds)

    async def follow(self) -> None:
        """Look whenever the bell tells of another cause, until cancelled."""
        self.look()
        while True:
            await self._bell.wait_until(lambda: self._cause_now() is not self._cause)
            self.look()

    def _cause_now(self) -> IdleCause:
        return next((cause for cause, holds in self._causes if holds()), IdleCause.NO_WORK)
