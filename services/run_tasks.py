"""What a run is asked to do beside training, once: a checkpoint, an evaluation, a worker started again.

Checkpoints and evaluations are done at a step border, by the training loop; workers are seen to beside it. Each is
answered by one event, `task_done` or `task_failed`, that names its operation.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from services.bell import Bell
from services.pool import Pool
from services.reports import RunEvent, RunState, RunTask, TaskKind
from services.workers import Workers

AT_BORDER = (TaskKind.CHECKPOINT, TaskKind.EVAL)


class TaskFailed(Exception):
    """What was asked for cannot be done, and why."""


BorderTask = Callable[[RunTask], Awaitable[Awaitable[Mapping[str, Any]]]]
"""Does the part of the training loop, and gives what is left to wait for beside it: the result."""


class RunTasks:
    """Tasks that are not done, in the order in which they came.

    Args:
        is_open: whether the user wants the run to go on: nothing is begun in a pause, but for workers.
        at_border: how a checkpoint and an evaluation are done; raises TaskFailed.
        report: tells the control plane.
    """

    def __init__(
        self,
        workers: Workers,
        bell: Bell,
        *,
        is_open: Callable[[], bool],
        at_border: Mapping[TaskKind, BorderTask],
        report: Callable[[RunEvent], Awaitable[None]],
    ) -> None:
        self._workers = workers
        self._bell = bell
        self._is_open = is_open
        self._at_border = at_border
        self._report = report
        self._known: set[str] = set()
        self._waiting: list[RunTask] = []
        self._beside: asyncio.Queue[tuple[RunTask, Awaitable[Mapping[str, Any]]]] = asyncio.Queue()

    def take(self, tasks: Iterable[RunTask]) -> None:
        """Hear of tasks; one that is known changes nothing."""
        for task in tasks:
            if task.operation_id in self._known:
                continue
            self._known.add(task.operation_id)
            if task.kind in AT_BORDER:
                self._waiting.append(task)
            else:
                self._beside.put_nowait((task, self._renew(task)))

    def is_due(self) -> bool:
        """Whether something is to be done at this border."""
        return bool(self._waiting) and self._is_open()

    async def attend(self) -> None:
        """Do what came first."""
        task = self._waiting.pop(0)
        try:
            rest = await self._at_border[task.kind](task)
        except TaskFailed as failure:
            await self._say_failed(task, failure)
            return
        self._beside.put_nowait((task, rest))

    async def see_through(self) -> None:
        """What needs no border, and what is left of the others; until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    tasks.create_task(self._see_through(*await self._beside.get()))
        finally:
            while not self._beside.empty():
                _, rest = self._beside.get_nowait()
                if inspect.iscoroutine(rest):
                    rest.close()

    async def _see_through(self, task: RunTask, rest: Awaitable[Mapping[str, Any]]) -> None:
        try:
            result = await rest
        except TaskFailed as failure:
            await self._say_failed(task, failure)
            return
        details = {"operation_id": task.operation_id, "result": dict(result)}
        named = ", ".join(f"{name} {value}" for name, value in result.items())
        await self._say("task_done", f"{task.kind} is done: {named}", details)

    async def _renew(self, task: RunTask) -> Mapping[str, Any]:
        """Start a worker again, drained first where that is asked for."""
        name = str(task.options.get("worker_id", ""))
        pools: tuple[Pool[Any], ...] = (self._workers.rollout, self._workers.shaping)
        pool = next((each for each in pools if name in each), None)
        if pool is None:
            raise TaskFailed(f"worker_id must name a rollout or shaping worker, got {name!r}; the learner is one group")
        before = pool.restarts(name)

        def is_back() -> bool:
            return pool.restarts(name) > before or pool.is_lost(name)

        if task.kind is TaskKind.DRAIN_WORKER:
            pool.drain(name)
            await self._bell.wait_until(lambda: pool.is_idle(name) or is_back())
        if not is_back():
            pool.renew(name, f"{task.kind} of {task.operation_id}")
        await self._bell.wait_until(is_back)
        if pool.restarts(name) == before:
            raise TaskFailed(f"{name} could not be started again, and no restart is left (run.max_worker_restarts)")
        return {"worker_id": name, "restarts": pool.restarts(name)}

    async def _say_failed(self, task: RunTask, failure: TaskFailed) -> None:
        details = {"operation_id": task.operation_id, "error": str(failure)}
        await self._say("task_failed", f"{task.kind} failed: {failure}", details)

    async def _say(self, kind: str, message: str, details: Mapping[str, Any]) -> None:
        await self._report(RunEvent(kind=kind, message=message, state=RunState.RUNNING, details=details))
