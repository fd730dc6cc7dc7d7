"""The learner's weights on the run's engines: every step's, and those that an engine has missed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from services.bell import Bell
from services.pool import Pool
from services.ports import RolloutPort
from services.sync_phases import LeftOut, SyncPhase
from services.weight_sync import SyncResult, WeightSync


class Publisher:
    """Brings engines to the learner's weights, and tells the pool which of them serve.

    Args:
        give_back: takes back the engines of an evaluation that has ended, see `RunEvaluations.give_back`.
        tell: reports an event: its kind and a message.
        max_canary_nats: difference between engines and learner that is still as expected (run.max_canary_nats).
    """

    def __init__(
        self,
        sync: WeightSync,
        pool: Pool[RolloutPort],
        bell: Bell,
        *,
        give_back: Callable[[int | None], None],
        tell: Callable[[str, str], Awaitable[None]],
        max_canary_nats: float,
    ) -> None:
        self._sync = sync
        self._pool = pool
        self._bell = bell
        self._give_back = give_back
        self._tell = tell
        self.max_canary_nats = max_canary_nats
        # Held by whoever tells engines to take weights, or to stand still: one after the other.
        self.turn = asyncio.Lock()
        self.is_frozen = False

    @property
    def is_syncing(self) -> bool:
        """Whether weights are on their way; the bell rings when that begins, and when engines have them."""
        return self._sync.phase is not SyncPhase.IDLE

    async def publish(
        self, version: int, on_live: Callable[[], None] | None = None, *, asks_canary: bool = True
    ) -> SyncResult:
        """Bring every engine to the learner's weights; waits for a restart where none could take them.

        Args:
            asks_canary: False for engines that cannot sample yet.
        """
        self._give_back(None)
        while True:
            await self._bell.wait_until(lambda: bool(self._pool.serving or self._pool.behind))
            engines = (*self._pool.serving, *self._pool.behind)
            result = await self.publish_to(engines, version, on_live, asks_canary=asks_canary)
            if self._pool.serving:
                return result

    async def publish_to(
        self,
        engines: Sequence[RolloutPort],
        version: int,
        on_live: Callable[[], None] | None = None,
        *,
        asks_canary: bool = True,
    ) -> SyncResult:
        """Those that took the version serve from now on; one that was started again meanwhile has lost it."""
        since = self._pool.num_starts

        def take_over(live: tuple[str, ...], left_out: tuple[LeftOut, ...]) -> None:
            for each in left_out:
                self._pool.leave_out(each.worker_id, str(each), since=since)
            self._pool.admit(live, since=since, version=version)
            if live and on_live is not None:
                on_live()

        async with self.turn:
            self._bell.ring()
            asks = asks_canary and not self.is_frozen
            result = await self._sync.publish(version, engines, on_live=take_over, asks_canary=asks)
        take_over(result.live, result.left_out)
        for abort in result.aborts:
            await self._tell("weight_sync_aborted", abort)
        found, limit = result.canary_difference_nats, self.max_canary_nats
        if found is not None and not found <= limit:
            message = f"engines and learner differ by {found:.3g} nats on the canary prompt at version {version}"
            await self._tell("canary_alarm", f"{message}, at most {limit:g} is expected (run.max_canary_nats)")
        return result
