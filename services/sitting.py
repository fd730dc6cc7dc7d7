"""One sitting of a run: its roles from their start to their end, with the files, the live view and the summary.

A run has one sitting, and another one after each pause that gave everything back: the process and the control plane
stay, and the next sitting goes on from the pause's checkpoint.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import psutil

from services.actor_logs import first_error
from services.addresses import HOUSE_ADDRESS
from services.control.machine import Happening
from services.history import RunHistory, summarise
from services.hosting.run_link import RunLink
from services.hosting.signals import RunSignals
from services.hosting.supervisor import Attempt
from services.open_run import OpenRun
from services.pausing import Released, RunCancelled
from services.ports import ControlPort
from services.progress import Progress
from services.recipe import Recipe
from services.reports import Failure, IntentKind, ReleaseLevel, RunEvent, RunReport, RunState, StepReport
from services.run_dir import GROUPS_FILE, HINTS_FILE, LOGS_DIR, POLICY_DIR, REPORT_FILE, RunFiles
from services.run_loggers import open_loggers
from services.run_setup import PreparedRun
from services.session import Broadcast, House, run_session
from shaping.components import import_module_of
from shaping.errors import CheckpointError, DeadlineMissed, GroupLost, RoleDied, RunFailed, UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """Hold it once.

    Args:
        is_first: of this process.
    """

    prepared: PreparedRun
    attempt: Attempt
    run: OpenRun
    link: RunLink
    signals: RunSignals
    is_first: bool

    async def hold(self) -> RunState | Released | None:
        """Until the run ends, or until it is resumed after everything was given back.

        Returns:
            How it ended: PAUSED where the system wanted the process to end; where the next sitting goes on from; None
            where another process is to go on.
        """
        run, files = self.run, self.run.open_files(self.link.address)
        progress = Progress(run.description, run_dir=run.run_dir, api_address=self.link.address)
        with contextlib.closing(files), progress:
            recorder = _Recorder(run.history, files)
            async with open_loggers(run) as loggers:
                control = Broadcast(self.link.link, [recorder, progress, self.signals, loggers])
                self.signals.attach(self.link.link)
                end = await self._end(control, files)
                self.signals.attach(None)
                loggers.end_with(end)
            if isinstance(end, Released):
                end = await self._stay_released(control, end)
            if end is None or isinstance(end, Released) or not end.is_terminal:
                return end
            seconds = recorder.seconds_to_first_step if self.is_first else None
            if run.history.steps:
                figure = import_module_of("services", "report_figure")
                figure.write_report(run.run_dir / REPORT_FILE, run.history, seconds_to_first_step=seconds)
                hints = import_module_of("services", "hint_figure")
                plan = run.recipe.rollout.plan
                hints.write_hints(run.run_dir, run.history, run.run_dir / HINTS_FILE, plan=plan)
            summary = summarise(run.history, state=end, seconds_to_first_step=seconds)
            files.finish(summary)
            progress.finish(summary)
        return end

    async def _end(self, control: ControlPort, files: RunFiles) -> RunState | Released | None:
        """Run, and report how it ended."""
        attempt = self.attempt
        try:
            await self._sit(control, files)
        except Released as released:
            return released
        except (UserError, CheckpointError) as error:
            if attempt.number == 0:
                await _say_last(control, _event(Happening.FAILED.value, str(error), RunState.FAILED, _failure(error)))
                raise
            # What its user got right once is no mistake of the user's now: the run ends with both causes.
            cause = f"the run could not go on: {error}; the process before it ended: {attempt.cause}"
            failure = Failure(role="orchestrator", cause=cause)
            await _say_last(control, _event(Happening.FAILED.value, cause, RunState.FAILED, failure))
            return RunState.FAILED
        except (RunCancelled, asyncio.CancelledError) as error:
            if self.signals.is_preempted and self.signals.paused is not None:
                await _say_last(control, self._paused_for_good(self.signals.paused))
                return RunState.PAUSED
            reason = str(error) or ("its user asked for it" if isinstance(error, RunCancelled) else "interrupted")
            await _say_last(control, _event(Happening.CANCELLED.value, f"Cancelled: {reason}", RunState.CANCELLED))
            return RunState.CANCELLED
        except Exception as error:
            # The border of this process: whatever ended the run, its files and its control plane say so.
            logger.exception("run failed")
            failed = _with_first_print(error if isinstance(error, RunFailed) else _unforeseen(error), self.run)
            may_go_on = isinstance(error, RoleDied | DeadlineMissed | GroupLost) and not attempt.is_last
            kind = "run_interrupted" if may_go_on else Happening.FAILED.value
            failure = Failure(role=failed.role, cause=failed.cause, group_id=failed.group_id)
            await _say_last(control, _event(kind, str(failed), RunState.FAILED, failure))
            if may_go_on:
                attempt.tell(str(failed))
                return None
            return RunState.FAILED
        await _say_last(control, _event(Happening.COMPLETED.value, "All steps are done", RunState.COMPLETED))
        return RunState.COMPLETED

    async def _sit(self, control: ControlPort, files: RunFiles) -> None:
        run, prepared = self.run, self.prepared
        disk = run.disk(files)
        for passed_over in run.found.passed_over if run.found else ():
            message = f"{passed_over.name} is passed over: {passed_over.reason}"
            await control.report(_event("checkpoint_damaged", message, RunState.STARTING))
        if self.attempt.cause:
            message = f"Goes on after: {self.attempt.cause}"
            await control.report(_event("run_restarted", message, RunState.STARTING))
        intent = await control.intent_after(0)
        order = intent.order
        if run.found and intent.kind is IntentKind.PAUSE and order and order.release is ReleaseLevel.ALL:
            # A process that was started again in the middle of such a pause has nothing to start.
            raise Released(checkpoint=run.found.checkpoint.name, operation_id=order.operation_id)
        async with _open_house(prepared, run.recipe) as house:
            await run_session(
                run.recipe,
                prepared.prompts,
                house,
                control,
                disk,
                api_address=self.link.address,
                export_to=str(run.run_dir / POLICY_DIR),
            )

    async def _stay_released(self, control: ControlPort, released: Released) -> RunState | Released:
        """Everything is given back: say so, and wait for what the user wants next."""
        details: dict[str, Any] = {
            "operation_id": released.operation_id,
            "checkpoint": released.checkpoint,
            "released": ReleaseLevel.ALL.value,
            "exactness": "learner_exact",
        }
        message = f"Paused at {released.checkpoint}; every role has ended and its resources are free"
        paused = RunEvent(kind=Happening.PAUSED.value, message=message, state=RunState.PAUSED, details=details)
        if self.signals.is_preempted:
            await _say_last(control, self._paused_for_good(paused))
            return RunState.PAUSED
        await _say_last(control, paused)
        generation = 0
        while True:
            try:
                intent = await control.intent_after(generation)
            except asyncio.CancelledError:
                # Told to end while nothing is under way: what there is to save is saved.
                await _say_last(control, self._paused_for_good(paused))
                return RunState.PAUSED
            generation = intent.generation
            if intent.kind is IntentKind.CANCEL:
                await _say_last(control, _event(Happening.CANCELLED.value, "Cancelled", RunState.CANCELLED))
                return RunState.CANCELLED
            if intent.kind is IntentKind.RUN:
                checkpoint = intent.from_checkpoint or released.checkpoint
                return Released(checkpoint=checkpoint, operation_id=released.operation_id)

    def _paused_for_good(self, paused: RunEvent) -> RunEvent:
        """The run stays paused without a process."""
        message = f"{paused.message}; go on with `lessrl resume {self.run.run_dir}`"
        return dataclasses.replace(paused, message=message, details={**paused.details, "process": "ended"})


class _Recorder:
    """Keeps what is reported for the summary, and writes it down at once."""

    def __init__(self, history: RunHistory, files: RunFiles) -> None:
        self._history = history
        self._files = files
        self.seconds_to_first_step: float | None = None

    def show(self, report: RunReport) -> None:
        if isinstance(report, StepReport) and self.seconds_to_first_step is None:
            self.seconds_to_first_step = time.time() - psutil.Process().create_time()
        self._history.add(report)
        self._files.write(report, at=time.time())


@contextlib.asynccontextmanager
async def _open_house(prepared: PreparedRun, recipe: Recipe) -> AsyncIterator[House]:
    """The roles of a sitting; they are closed again, whatever happens."""
    run_dir, plan = prepared.run_dir, prepared.plan
    if prepared.address == HOUSE_ADDRESS:
        local = import_module_of("services", "local").LocalHouse(recipe, run_dir / GROUPS_FILE)
        try:
            yield local
        finally:
            await local.close()
        return
    cluster = import_module_of("services", "cluster").RayHouse(recipe, run_dir / LOGS_DIR)
    try:
        await cluster.place(plan.total_cpus, plan.total_gpus)
        yield cluster
    finally:
        await cluster.close()


async def _say_last(control: ControlPort, event: RunEvent) -> None:
    """How a sitting ended; a disk that is full does not make it another end."""
    try:
        await control.report(event)
    except OSError as error:
        logger.warning("the end of the run was not told everywhere: %s", error)


def _with_first_print(failed: RunFailed, run: OpenRun) -> RunFailed:
    """The failure with what its role printed first, which often says more."""
    printed = first_error(run.run_dir / LOGS_DIR, failed.role)
    cause = f"{failed.cause}; it printed first: {printed}" if printed else failed.cause
    return RunFailed(role=failed.role, cause=cause, group_id=failed.group_id)


def _failure(error: Exception) -> Failure:
    return Failure(role="orchestrator", cause=str(error))


def _event(kind: str, message: str, state: RunState, failure: Failure | None = None) -> RunEvent:
    return RunEvent(kind=kind, message=message, state=state, failure=failure)


def _unforeseen(error: Exception) -> RunFailed:
    lines = str(error).strip().splitlines() or ["no message"]
    return RunFailed(role="orchestrator", cause=f"{type(error).__name__}: {lines[0]} (logs/driver.log)")
