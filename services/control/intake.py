"""What a run reports, turned into changes of what is known of it.

A report that no longer fits, as a call overtook it, is an event and changes nothing else.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from services.control.draft import TASK_KINDS, Cause, Draft
from services.control.effects import move
from services.control.machine import Happening, OperationKind, Transition, happened, progressed
from services.control.proof import doubt_of
from services.control.records import ConfigGeneration
from services.live.keys import border_of
from services.plain_data import plain_data
from services.reports import (
    BufferReport,
    ControlReport,
    EvaluationReport,
    OperationReport,
    RunEvent,
    RunState,
    StepReport,
)

REWARD_METRIC = "reward_total_value"
CHECKPOINT_SAVED = "checkpoint_saved"

_HAPPENINGS = frozenset(each.value for each in Happening)
_ENDS_OF_PAUSES = (Happening.PAUSED, Happening.PAUSE_FAILED)


async def take_in(draft: Draft, report: ControlReport) -> None:
    """Take one report into a draft."""
    draft.reports.append(report)
    if isinstance(report, RunEvent):
        await _take_event(draft, report)
    else:
        _TAKERS[type(report)](draft, report)


def _take_step(draft: Draft, report: StepReport) -> None:
    record = draft.record
    message = f"step {report.step} of {report.total_steps}"
    draft.record = replace(
        record,
        step=report.step,
        policy_version=report.policy_version,
        tokens_generated=record.tokens_generated + report.num_response_tokens,
        last_step_at=draft.now,
        message=message,
    )
    details = {
        "step": report.step,
        "total_steps": report.total_steps,
        "policy_version": report.policy_version,
        "reward": report.metrics.get(REWARD_METRIC),
        "step_seconds": report.step_seconds,
    }
    draft.log("step_completed", message, details=plain_data(details))
    draft.seen = replace(draft.seen, last_step=report)


def _take_evaluation(draft: Draft, report: EvaluationReport) -> None:
    message = f"held-out accuracy {report.accuracy:.4f} after step {report.step}"
    details = {"step": report.step, "policy_version": report.policy_version, "accuracy": report.accuracy}
    draft.log("eval_completed", message, details=plain_data(details))
    draft.seen = replace(draft.seen, last_evaluation=report)


def _take_progress(draft: Draft, report: OperationReport) -> None:
    operation = draft.open_operation(report.operation_id)
    if operation is None:
        return
    if operation.kind not in TASK_KINDS:
        move(draft, progressed(draft.record.life, operation.kind, report.phase), Cause())
        # The machine has a word in what phase that is.
        operation = draft.open_operation(report.operation_id) or operation
        draft.progress(operation, operation.phase, report.progress, report.inflight_groups)
        return
    draft.progress(operation, report.phase, report.progress, report.inflight_groups)


def _take_buffer(draft: Draft, report: BufferReport) -> None:
    draft.seen = replace(draft.seen, buffer=report)


_TAKERS: dict[type, Callable[[Draft, Any], None]] = {
    StepReport: _take_step,
    EvaluationReport: _take_evaluation,
    OperationReport: _take_progress,
    BufferReport: _take_buffer,
}


async def _take_event(draft: Draft, event: RunEvent) -> None:
    draft.record = replace(draft.record, message=event.message)
    if event.kind in _HAPPENINGS:
        await _take_happening(draft, event, Happening(event.kind))
    else:
        _log(draft, event)
        if taker := _EVENT_TAKERS.get(event.kind):
            taker(draft, event)
    if event.workers:
        workers = {**draft.seen.workers, **{worker.worker_id: worker for worker in event.workers}}
        draft.seen = replace(draft.seen, workers=workers)


async def _take_happening(draft: Draft, event: RunEvent, happening: Happening) -> None:
    details = event.details
    pause, named = draft.open_of(OperationKind.PAUSE), details.get("operation_id")
    if happening in _ENDS_OF_PAUSES and pause is not None and named and named != pause.operation_id:
        # It answers a pause that was withdrawn; the one of now will have its own answer.
        _log(draft, event)
        return
    if happening is Happening.PAUSED and (doubt := await _doubt(draft, details)):
        draft.log("pause_failed", f"the pause failed: {doubt}", details={**plain_data(details), "error": doubt})
        move(draft, happened(draft.record.life, Happening.PAUSE_FAILED, error=doubt), Cause(reason="the pause failed"))
        return
    error = str(details.get("error") or event.message)
    process_ended = details.get("process") == "ended"
    transition = happened(draft.record.life, happening, error=error, process_ended=process_ended)
    if transition.life.state is RunState.FAILED and draft.record.failure is None:
        draft.record = replace(draft.record, failure=event.failure)
    _log(draft, event, transition)
    result = {name: details[name] for name in ("checkpoint", "released", "exactness", "process") if name in details}
    move(draft, transition, Cause(reason=event.message, result=plain_data(result)))


async def _doubt(draft: Draft, details: Mapping[str, Any]) -> str:
    """Why a checkpoint that a pause was to commit, or says it did, is not believed in."""
    name, order = str(details.get("checkpoint", "")), draft.record.intent.order
    if not name and not (order is not None and order.checkpoint):
        return ""
    return await asyncio.to_thread(doubt_of, Path(draft.record.description.run_dir), name)


def _take_checkpoint(draft: Draft, event: RunEvent) -> None:
    if "checkpoint" in event.details:
        facts = {name: value for name, value in event.details.items() if name != "operation_id"}
        draft.record = replace(draft.record, checkpoint={**plain_data(facts), "created_at": draft.now})


def _take_done(draft: Draft, event: RunEvent) -> None:
    if task := draft.open_operation(str(event.details.get("operation_id", ""))):
        draft.end(task, result=plain_data(event.details.get("result") or {}))


def _take_failed(draft: Draft, event: RunEvent) -> None:
    if task := draft.open_operation(str(event.details.get("operation_id", ""))):
        draft.end(task, error=str(event.details.get("error") or event.message))


def _take_applied(draft: Draft, event: RunEvent) -> None:
    config = draft.config(int(event.details.get("generation", 0)))
    if config is not None and "step" in event.details:
        draft.configure(replace(config, at_step=int(event.details["step"])), rises=False)


def _take_recorded(draft: Draft, event: RunEvent) -> None:
    """Changes that the run replays, or made when another store was its control plane's: the next one counts on."""
    for each in event.details.get("changes") or ():
        generation, values = int(each["generation"]), dict(each["values"])
        if draft.config(generation) is None:
            config = ConfigGeneration(
                run_id=draft.record.run_id,
                generation=generation,
                at=draft.now,
                by="recorded",
                values=values,
                applies=dict.fromkeys(values, border_of(values).value),
                at_step=each["step"],
            )
            draft.configure(config, rises=False)


def _take_config_failed(draft: Draft, event: RunEvent) -> None:
    config = draft.config(int(event.details.get("generation", 0)))
    if config is not None:
        draft.configure(replace(config, error=str(event.details.get("error") or event.message)), rises=False)


_EVENT_TAKERS: dict[str, Callable[[Draft, RunEvent], None]] = {
    CHECKPOINT_SAVED: _take_checkpoint,
    "task_done": _take_done,
    "task_failed": _take_failed,
    "config_applied": _take_applied,
    "config_failed": _take_config_failed,
    "config_recorded": _take_recorded,
}

_NAMES = {CHECKPOINT_SAVED: "checkpoint_committed"}


def _log(draft: Draft, event: RunEvent, transition: Transition | None = None) -> None:
    details = plain_data(event.details)
    if event.workers:
        details["workers"] = plain_data([asdict(each) for each in event.workers])
    draft.log(
        _NAMES.get(event.kind, event.kind),
        event.message,
        state=transition.life.state if transition else None,
        failure=event.failure,
        details=details,
    )
