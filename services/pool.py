"""The workers of one role: who serves, who gets the next piece of work, who is started again.

    serving --(process ended, call too late, heartbeat missed)--> out --(restarted, started)--> behind --> serving
       |                                                           |                              ^
       |                                                           +--(no restart is left)--> lost|
       +--(lent)--> lent --(given back)-----------------------------------------------------------+
       +--(drained)--> draining --(idle)--> out

A worker that is behind has other weights than the current ones and must be brought to the current policy version before
it gets work; whoever syncs weights admits it. A worker that is lent keeps its weights and gets no work of this pool: an
evaluation asks it, at the version it had. Work of a worker that went out is given to another one.

A pool that is held gives no work to anybody: what is asked for waits, and so does work that was given up on a user's
order, which then goes back as if it had never been begun.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

from services.deadlines import EqualDeadlines
from services.reports import RunEvent, WorkerStatus
from services.revival import PoolConfig, RestartBudget, Revival
from services.roster import ALIVE, P, Roster, Standing, Worker
from shaping.errors import DeadlineMissed, RoleDied, RolloutAborted, RunFailed

__all__ = ["P", "Pool", "PoolConfig", "RestartBudget", "Standing", "Worker"]

T = TypeVar("T")


class Pool(Generic[P]):
    """Gives work to the serving worker with the least to do, and starts workers again.

    Args:
        joins_at_once: whether a restarted worker may serve as it is; otherwise it is behind until `admit`.
        report: tells the control plane.
        on_change: called when a worker has left or is ready, and at the end of calls while a pause waits for that.
        on_idle: called after `num_idle` has changed.
    """

    def __init__(
        self,
        ports: Sequence[P],
        *,
        role: str,
        config: PoolConfig,
        budget: RestartBudget,
        joins_at_once: Callable[[], bool],
        report: Callable[[RunEvent], Awaitable[None]],
        on_change: Callable[[], None],
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self._roster = Roster(ports, on_idle)
        self._role = role
        self._config = config
        self._on_change = on_change
        self._ready = asyncio.Event()
        self.deadlines = EqualDeadlines(config.call_seconds)
        self.revival = Revival(
            self._roster,
            role=role,
            config=config,
            budget=budget,
            joins_at_once=joins_at_once,
            report=report,
            on_change=self._has_changed,
        )
        self._num_asked = 0
        self._num_under_way = 0
        self._is_held = False
        self._is_awaited = False

    @property
    def num_starts(self) -> int:
        """Workers started again so far: a moment, to ask later who was started again since."""
        return self._roster.num_starts

    @property
    def num_asked(self) -> int:
        """Pieces of work that were asked for and have not ended, those that wait for a worker included."""
        return self._num_asked

    @property
    def num_under_way(self) -> int:
        """Pieces of work that a worker has."""
        return self._num_under_way

    @property
    def num_idle(self) -> int:
        """Workers that live and have nothing to do."""
        return self._roster.num_idle

    @property
    def serving(self) -> tuple[P, ...]:
        return self._roster.at(Standing.SERVING)

    @property
    def behind(self) -> tuple[P, ...]:
        return self._roster.at(Standing.BEHIND)

    @property
    def lent(self) -> tuple[P, ...]:
        return self._roster.at(Standing.LENT)

    @property
    def alive(self) -> tuple[P, ...]:
        """Whoever may have work."""
        return self._roster.at(*ALIVE)

    def statuses(self) -> tuple[WorkerStatus, ...]:
        """Every worker as it stands."""
        roster = self._roster
        return tuple(
            WorkerStatus(
                worker_id=name,
                role=self._role,
                standing=roster.standing(name).value,
                inflight=roster.load(name),
                restarts=roster.restarts(name),
                policy_version=roster.versions.get(name),
            )
            for name in roster.ports
        )

    def hold_back(self) -> None:
        """No worker serves before it is admitted: its engine has other weights than the current ones, or none."""
        self._roster.move_all(self.serving, Standing.BEHIND)

    def admit(self, worker_ids: Iterable[str], *, since: int, version: int | None = None) -> None:
        """These workers have the current version: of those that were behind, every one gets work from now on.

        Args:
            since: `num_starts` when they were asked to take it; one that was started again afterwards has lost it.
            version: the one that they have, for `statuses`.
        """
        for name in worker_ids:
            if self._roster.is_new(name, since):
                continue
            if version is not None:
                self._roster.versions[name] = version
            if self._roster.standing(name) is Standing.BEHIND:
                self._roster.move(name, Standing.SERVING)
        self._has_changed()

    def lend(self, num_workers: int) -> tuple[P, ...]:
        """Give the serving workers with the least to do to somebody else; at least one goes on serving.

        What they are doing they finish. They are watched as all are, and started again when they die: whoever borrowed
        them sees that they are not `lent` any more.
        """
        num_workers = min(num_workers, len(self.serving) - 1)
        chosen: list[str] = []
        for _ in range(num_workers):
            chosen.append(self._roster.loads.pick(avoid=chosen))
        lent = tuple(self._roster.ports[name] for name in chosen)
        self._roster.move_all(lent, Standing.LENT)
        return lent

    def take_back(self, *, as_current: bool) -> None:
        """All that are lent serve again, at once where they have the current version, otherwise once it is admitted."""
        self._roster.move_all(self.lent, Standing.SERVING if as_current else Standing.BEHIND)
        self._has_changed()

    def leave_out(self, worker_id: str, cause: str, *, since: int | None = None) -> None:
        """Give a worker no more work and start it again. Harmless for one that is out already.

        Args:
            since: `num_starts` when it was asked for what it failed in: nothing is known of one that is newer.
        """
        if since is not None and self._roster.is_new(worker_id, since):
            return
        if self._roster.standing(worker_id) in ALIVE:
            self.revival.take_out(worker_id, cause)

    # -- on a user's order --------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Give no work to anybody from now on; twice is once."""
        self._is_held = True

    def let_go(self) -> None:
        """Give work again."""
        self._is_held = False
        self._ready.set()

    def tell_ends(self, is_awaited: bool) -> None:
        """Whether somebody waits for the calls under way to end. Otherwise none is told: there are many."""
        self._is_awaited = is_awaited

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._roster.ports

    def restarts(self, worker_id: str) -> int:
        """How often a worker was started again."""
        return self._roster.restarts(worker_id)

    def is_lost(self, worker_id: str) -> bool:
        return self._roster.standing(worker_id) is Standing.LOST

    def is_idle(self, worker_id: str) -> bool:
        """Whether a worker has nothing to do."""
        return not self._roster.load(worker_id)

    def drain(self, worker_id: str) -> None:
        """Give a worker no more work; it finishes what it has. Harmless for one that is out."""
        if self._roster.standing(worker_id) in ALIVE:
            self._roster.move(worker_id, Standing.DRAINING)
            self._has_changed()

    def renew(self, worker_id: str, cause: str) -> None:
        """Start a worker again that is well, at no cost to the budget. Harmless for one that is out."""
        if self._roster.standing(worker_id) in ALIVE:
            self.revival.take_out(worker_id, cause, is_asked=True)

    # -- work ---------------------------------------------------------------------------------------------------------

    async def call(
        self,
        work: Callable[[P], Awaitable[T]],
        *,
        what: str,
        group_id: str,
        amount: int = 1,
        retries: bool = True,
        lent: bool = False,
    ) -> T:
        """Have a worker do a piece of work; waits while none serves, and while the pool is held.

        Args:
            amount: of work, in the unit in which this role's load is counted.
            retries: whether an error of the worker is tried again elsewhere, as its death and a missed deadline are.
            lent: ask those that are lent, and wait for none.
        Raises:
            RunFailed: tried `attempts` times, or no worker is left.
        """
        failed: list[str] = []
        self._num_asked += 1
        try:
            while True:
                name = await self._next(failed, group_id, lent=lent)
                self._roster.add_load(name, amount, lent=lent)
                self._num_under_way += 1
                since = self.num_starts
                try:
                    return await self.deadlines.within(
                        work(self._roster.ports[name]),
                        role=self._role,
                        what=f"{what} by {name}",
                        key="run.deadlines.group_seconds",
                        group_id=group_id,
                    )
                except RolloutAborted:
                    # Asked for again, whoever serves then; nobody failed.
                    continue
                except RoleDied as death:
                    self.leave_out(name, death.cause, since=since)
                    message = f"group {group_id} is asked for again, {name} is gone: {death.cause}"
                    await self.revival.say("group_retried", message)
                except RunFailed as failure:
                    failed.append(name)
                    if len(failed) >= self._config.attempts or not (retries or isinstance(failure, DeadlineMissed)):
                        raise
                    if isinstance(failure, DeadlineMissed):
                        self.leave_out(name, failure.cause, since=since)
                    message = f"attempt {len(failed)} of group {group_id}: {failure.cause}"
                    await self.revival.say("group_retried", message)
                finally:
                    self._num_under_way -= 1
                    self._roster.add_load(name, -amount, lent=lent)
                    self._tell_end()
        finally:
            self._num_asked -= 1
            self._tell_end()

    async def supervise(self) -> None:
        """Start workers again that went out, and find those that died silently; runs until it is cancelled.

        Raises:
            RunFailed: the last worker is lost.
        """
        await self.revival.supervise(lambda: self.alive, self.leave_out)

    async def _next(self, avoid: Sequence[str], group_id: str, *, lent: bool) -> str:
        loads = self._roster.lent_loads if lent else self._roster.loads
        while self._is_held or not (lent or len(loads)):
            self._ready.clear()
            await self._ready.wait()
        if not len(loads):
            raise RunFailed(role=self._role, cause="no worker is left of those that were lent", group_id=group_id)
        return loads.pick(avoid=avoid)

    def _tell_end(self) -> None:
        if self._is_awaited:
            self._on_change()

    def _has_changed(self) -> None:
        if self.serving and not self._is_held:
            self._ready.set()
        self._on_change()
