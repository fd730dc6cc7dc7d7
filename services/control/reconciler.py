"""What is to happen as time passes: deadlines, ends of pauses, lost processes, processes to start and kill, exports.

Calls write what is wanted, and this makes it so. It looks at every run that has not ended, about once a second; the
store has all that it goes by, so that another one goes on where it stopped.
"""

import asyncio
import contextlib
import json
import logging
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from services.control.draft import TASK_KINDS, Cause, Draft
from services.control.effects import move
from services.control.launcher import Exporter, Launch, RunLauncher
from services.control.machine import OperationKind, Transition, deadline_missed, expired, lost
from services.control.plane import ControlPlane
from services.control.records import Operation, StoreError
from services.control.run import RunControl
from services.control.tasks import TASK_SECONDS
from services.reports import RunState
from services.run_lock import is_held
from shaping.errors import LessrlError, UserError

TICK_SECONDS = 1.0
PROBE_SECONDS = 10.0
PRUNE_SECONDS = 600.0

logger = logging.getLogger(__name__)


class Reconciler:
    """Of one control plane. `keep_time` is a task beside its server."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._launcher = plane.launcher
        self._pruned_at = plane.clock()
        self._probed_at: float | None = None
        self._exporter = plane.exporter
        # By run, and by operation: what takes long runs beside the ticks, as deadlines do not wait.
        self._beside: dict[str, asyncio.Task[None]] = {}

    async def keep_time(self, interval_seconds: float = TICK_SECONDS) -> None:
        """Tick for ever; cancel it to stop."""
        while True:
            await self.tick(self._plane.clock())
            await asyncio.sleep(interval_seconds)

    async def tick(self, now: float) -> None:
        """Look at everything once; what fails for one run is logged, and tried again at the next tick."""
        for run in self._plane.unfinished:
            await _guarded(run, self._look_at(run, now))
        if self._exporter is not None:
            self._begin_exports(self._exporter)
        self._plane.ticked_at = now
        if self._probed_at is None or now - self._probed_at >= PROBE_SECONDS:
            self._probed_at = now
            await self._plane.probe()
        if now - self._pruned_at >= PRUNE_SECONDS:
            self._pruned_at = now
            with contextlib.suppress(StoreError):
                await self._plane.prune()

    async def settle(self) -> None:
        """Until every process that is being started has been, and every export is done."""
        while self._beside:
            await asyncio.wait(self._beside.values())

    async def _look_at(self, run: RunControl, now: float) -> None:
        run.count_paused_time()
        if run.record.launch_from is not None and self._launcher is not None:
            self._begin(run.record.run_id, run, partial(self._launch, run, self._launcher))
        if _has_missed(run, now):
            await self._miss_deadlines(run, now)
        until = run.record.paused_until
        if until is not None and now >= until:
            await _move(run, lambda draft: expired(draft.record.life), "the pause has lasted as long as it was to")
        is_silent = now - run.heard_at >= run.record.lease_seconds
        # A question that nobody answers yet is no sign of life: who asked may have gone since.
        if is_silent and run.record.launch_from is None and await self._is_gone(run):
            await _move(run, lambda draft: lost(draft.record.life), "the process is gone")

    def _begin(self, name: str, run: RunControl, work: Callable[[], Awaitable[None]]) -> None:
        """Do something beside the ticks; once at a time."""
        if name not in self._beside:
            self._beside[name] = asyncio.create_task(_guarded(run, work()))
            self._beside[name].add_done_callback(lambda _: self._beside.pop(name))

    async def _launch(self, run: RunControl, launcher: RunLauncher) -> None:
        run_dir, wanted = Path(run.description.run_dir), run.record.launch_from
        refused = ""
        # One that was started before this control plane was is not started twice.
        if not await asyncio.to_thread(launcher.is_alive, run_dir):
            overrides = [f"{key}={json.dumps(value)}" for key, value in run.record.launch_overrides.items()]
            launch = Launch(run_id=run.record.run_id, run_dir=run_dir, checkpoint=wanted or "", overrides=overrides)
            try:
                await asyncio.to_thread(launcher.launch, launch)
            except UserError as error:
                refused = str(error)
        run.hear()

        async def work(draft: Draft) -> None:
            if draft.record.launch_from != wanted:
                return
            draft.record = replace(draft.record, launch_from=None, launch_overrides={})
            if refused:
                draft.log("launch_failed", f"no process could be started: {refused}")
                gone = lost(draft.record.life)
                move(draft, replace(gone, failure=refused), Cause(reason="no process could be started"))
            else:
                draft.log("process_started", "a process of the run was started")

        await run.decide(work)

    def _begin_exports(self, exporter: Exporter) -> None:
        for run in self._plane.runs():
            for each in run.open_operations:
                if each.kind is OperationKind.EXPORT:
                    self._begin(each.operation_id, run, partial(_export, run, each, exporter))

    async def _miss_deadlines(self, run: RunControl, now: float) -> None:
        async def work(draft: Draft) -> bool:
            for operation in draft.facts.open_operations:
                if operation.deadline_at is None or now < operation.deadline_at:
                    continue
                # An earlier one of these may have ended this one.
                open_still = draft.open_operation(operation.operation_id)
                if open_still is None:
                    continue
                if operation.kind not in TASK_KINDS:
                    missed = deadline_missed(draft.record.life, operation.kind, operation.phase)
                    move(draft, missed, Cause(reason="deadline missed"))
                elif draft.record.life.state is not RunState.PAUSED:
                    draft.end(open_still, error=f"deadline missed in phase {operation.phase}")
            return draft.must_kill

        must_kill, _ = await run.decide(work)
        if must_kill and self._launcher is not None:
            await asyncio.to_thread(self._launcher.kill, Path(run.description.run_dir))
            if await self._is_gone(run):
                await _move(run, lambda draft: lost(draft.record.life), "the process was killed")

    async def _is_gone(self, run: RunControl) -> bool:
        """Whether its process has certainly ended; where this host cannot tell, it has not."""
        ask = self._launcher.is_alive if self._launcher is not None else is_held
        return await asyncio.to_thread(ask, Path(run.description.run_dir)) is False


async def _export(run: RunControl, operation: Operation, exporter: Exporter) -> None:
    name, result, error = str(operation.request["checkpoint"]), {}, ""
    run_dir = Path(run.description.run_dir)
    try:
        directory = await asyncio.to_thread(exporter.export, run_dir, name, timeout_seconds=TASK_SECONDS)
        result = {"checkpoint": name, "directory": directory}
    except (LessrlError, OSError, subprocess.SubprocessError) as failure:
        error = str(failure)

    async def work(draft: Draft) -> None:
        if (still_open := draft.open_operation(operation.operation_id)) is not None:
            draft.end(still_open, error=error, result=result)

    await run.decide(work)


async def _guarded(run: RunControl, work: Awaitable[None]) -> None:
    """A border: the other runs have deadlines too."""
    try:
        await work
    except StoreError as error:
        logger.warning("run_id=%s waits for the control store: %s", run.record.run_id, error)
    except Exception:
        logger.exception("run_id=%s could not be looked after", run.record.run_id)


def _has_missed(run: RunControl, now: float) -> bool:
    return any(each.deadline_at is not None and now >= each.deadline_at for each in run.open_operations)


async def _move(run: RunControl, decision: Callable[[Draft], Transition], reason: str) -> None:
    async def work(draft: Draft) -> None:
        move(draft, decision(draft), Cause(reason=reason))

    await run.decide(work)
