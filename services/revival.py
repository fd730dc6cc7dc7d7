"""How workers of a role come back: those that went out are started again, and those that died silently are found."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic

from services.deadlines import within
from services.reports import RunEvent, RunState, WorkerReport
from services.roster import P, Roster, Standing
from shaping.errors import LessrlError, RunFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """Deadlines of a pool in seconds, and how often one piece of work is tried.

    Args:
        call_seconds: one call (run.deadlines.group_seconds).
        attempts: failures of one piece of work before the run ends; work of a worker that died is not counted.
    """

    call_seconds: float
    start_seconds: float
    heartbeat_seconds: float
    attempts: int


class RestartBudget:
    """Restarts of workers that a run may spend, over all roles (run.max_worker_restarts)."""

    def __init__(self, limit: int, *, spent: int = 0) -> None:
        self.limit = limit
        self.spent = spent

    def take(self) -> bool:
        """Spend one; False when none is left."""
        if self.spent >= self.limit:
            return False
        self.spent += 1
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Out:
    """A worker that went out. One whose user asked for it costs nothing of the budget."""

    name: str
    cause: str
    is_asked: bool


class Revival(Generic[P]):
    """Starts workers of one role again.

    Args:
        joins_at_once: whether a restarted worker may serve as it is; otherwise it is behind.
        report: tells the control plane.
        on_change: called when a worker has left or is ready.
    """

    def __init__(
        self,
        roster: Roster[P],
        *,
        role: str,
        config: PoolConfig,
        budget: RestartBudget,
        joins_at_once: Callable[[], bool],
        report: Callable[[RunEvent], Awaitable[None]],
        on_change: Callable[[], None],
    ) -> None:
        self._roster = roster
        self._role = role
        self._config = config
        self._budget = budget
        self._joins_at_once = joins_at_once
        self._report = report
        self._on_change = on_change
        self._out: asyncio.Queue[_Out] = asyncio.Queue()
        self._may_start = asyncio.Event()
        self._may_start.set()

    def take_out(self, name: str, cause: str, *, is_asked: bool = False) -> None:
        """This worker gets no more work, and is started again."""
        self._roster.move(name, Standing.OUT)
        self._out.put_nowait(_Out(name=name, cause=cause, is_asked=is_asked))
        self._on_change()

    def postpone(self) -> None:
        """Start none for now: what it would run on was given back."""
        self._may_start.clear()

    def go_on(self) -> None:
        self._may_start.set()

    async def supervise(self, alive: Callable[[], tuple[P, ...]], leave_out: Callable[[str, str], None]) -> None:
        """Until it is cancelled.

        Raises:
            RunFailed: the last worker is lost.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(alive, leave_out))
            while True:
                tasks.create_task(self._revive(await self._out.get()))

    async def say(self, kind: str, message: str, *workers: WorkerReport) -> None:
        await self._report(RunEvent(kind=kind, message=message, state=RunState.RUNNING, workers=workers))

    async def _watch(self, alive: Callable[[], tuple[P, ...]], leave_out: Callable[[str, str], None]) -> None:
        while True:
            await asyncio.sleep(self._config.heartbeat_seconds)
            await asyncio.gather(*(self._beat(port, leave_out) for port in alive()))

    async def _beat(self, port: P, leave_out: Callable[[str, str], None]) -> None:
        try:
            await within(
                self._config.heartbeat_seconds,
                port.ping(),
                role=self._role,
                what=f"a heartbeat of {port.worker_id}",
                key="run.deadlines.heartbeat_seconds",
            )
        except RunFailed as failure:
            leave_out(port.worker_id, failure.cause)

    async def _revive(self, out: _Out) -> None:
        name, cause, is_free = out.name, out.cause, out.is_asked
        while True:
            await self._may_start.wait()
            if not is_free and not self._budget.take():
                await self._lose(name, cause)
                return
            began = asyncio.get_running_loop().time()
            count = f"restart {self._budget.spent} of {self._budget.limit} (run.max_worker_restarts)"
            message = f"{name} is out and started again, {'as was asked' if is_free else count}: {cause}"
            is_free = False
            await self.say("worker_left_out", message, self._worker(name, "failed", cause, 0.0))
            try:
                await within(
                    self._config.start_seconds,
                    self._begin(self._roster.ports[name]),
                    role=self._role,
                    what=f"restart of {name}",
                    key="run.deadlines.start_seconds",
                )
            except LessrlError as failure:
                cause = str(failure)
                continue
            self._roster.has_started(name)
            self._roster.move(name, Standing.SERVING if self._joins_at_once() else Standing.BEHIND)
            seconds = asyncio.get_running_loop().time() - began
            ready = self._worker(name, "ready", "started again", seconds)
            await self.say("worker_restarted", f"{name} is ready again after {seconds:.0f} s", ready)
            self._on_change()
            return

    @staticmethod
    async def _begin(port: P) -> None:
        await port.restart()
        await port.start()

    async def _lose(self, name: str, cause: str) -> None:
        self._roster.move(name, Standing.LOST)
        if len(self._roster.at(Standing.LOST)) == len(self._roster.ports):
            raise RunFailed(
                role=self._role,
                cause=f"no worker is left: {name} went out and no restart remains of {self._budget.limit} "
                f"(run.max_worker_restarts); its cause: {cause}",
            )
        lost = self._worker(name, "stopped", cause, 0.0)
        await self.say("worker_lost", f"{name} is lost, the others go on: {cause}", lost)
        self._on_change()

    def _worker(self, name: str, state: str, description: str, seconds: float) -> WorkerReport:
        return WorkerReport(
            worker_id=name,
            role=self._role,
            state=state,
            description=description,
            start_seconds=seconds,
            restarts=self._roster.restarts(name),
        )
