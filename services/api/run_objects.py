"""A run of the control plane in the shapes that the API answers. From memory alone: no disk, no other process."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from services.api.schemas.calls import OperationObject
from services.api.schemas.events import EventObject
from services.api.schemas.runs import (
    CheckpointMark,
    EvaluationMark,
    FailureObject,
    LiveStatusObject,
    PauseObject,
    QueueMark,
    RunLinks,
    RunObject,
    SpecObject,
    StatusObject,
    WorkerCounts,
)
from services.control.machine import OperationKind
from services.control.records import LoggedEvent, Operation
from services.control.run import RunControl
from services.history import seconds_left
from services.reports import EvaluationReport, Failure, IntentKind, RunState

_DESIRED = {IntentKind.RUN: "running", IntentKind.PAUSE: "paused", IntentKind.CANCEL: "cancelled"}
_STEPPING = (RunState.RUNNING, RunState.PAUSING)


Mask = Callable[[str], str]
"""Takes secrets out of a text that leaves. What a run says is masked before it is kept; what it was made of is not."""


def run_object(run: RunControl, mask: Mask) -> RunObject:
    """The run as it is now."""
    record, description = run.record, run.description
    path = f"/v1/runs/{description.run_id}"
    return RunObject(
        id=description.run_id,
        name=mask(description.name),
        labels={mask(name): mask(value) for name, value in record.labels.items()},
        notes=mask(record.notes),
        created_at=time_of(record.created_at),
        started_at=time_or_none(record.started_at),
        finished_at=time_or_none(record.finished_at),
        run_dir=description.run_dir,
        spec=SpecObject(
            generation=run.intent.generation,
            config_generation=record.config_generation,
            desired_state=_DESIRED[run.life.desired],
            model=mask(description.model),
            algorithm=description.algorithm,
            shaping=description.shaping,
            seed=description.seed,
            config_hash=description.recipe_hash,
        ),
        status=_status(run),
        links=RunLinks(
            self=path,
            status=f"{path}/status",
            events=f"{path}/events",
            operations=f"{path}/operations",
            config=f"{path}/config",
            ui=f"/#/runs/{description.run_id}",
        ),
    )


def live_status_object(run: RunControl, mask: Mask, *, now: float) -> LiveStatusObject:
    """The small answer for whoever looks once a second."""
    record, step, description = run.record, run.last_step, run.description
    is_stepping = run.life.state in _STEPPING
    return LiveStatusObject(
        id=description.run_id,
        name=mask(description.name),
        state=run.life.state,
        reason=record.reason,
        message=record.message,
        desired_state=_DESIRED[run.life.desired],
        step=record.step,
        total_steps=description.total_steps,
        policy_version=record.policy_version,
        rollout_policy_version=_served(run),
        tokens_generated=record.tokens_generated,
        last_step_at=time_or_none(record.last_step_at),
        last_step_age_seconds=None if record.last_step_at is None else max(0.0, now - record.last_step_at),
        eta_seconds=seconds_left(step) if step and is_stepping else None,
        step_seconds=step.step_seconds if step else None,
        phase_seconds=_finite(step.phase_seconds) if step else {},
        tokens_per_second=step.num_response_tokens / step.step_seconds if step and step.step_seconds > 0 else None,
        groups=dict(step.groups) if step else {},
        queues=_queues(run),
        metrics=_finite(step.metrics) if step else {},
        evaluation=_evaluation(run.last_evaluation),
        checkpoint=_checkpoint(record.checkpoint),
        pause=_pause(run),
        allowed_actions=list(run.allowed_actions),
        workers=_worker_counts(run),
        restarts_total=_restarts(run),
        attempt=record.attempt,
        generation=run.intent.generation,
        config_generation=record.config_generation,
        failure=_failure(record.failure),
    )


def operation_object(operation: Operation) -> OperationObject:
    """An operation as the API shows it."""
    return OperationObject(
        id=operation.operation_id,
        run_id=operation.run_id,
        kind=operation.kind,
        phase=operation.phase,
        state=operation.state,
        progress=operation.progress,
        inflight_groups=operation.inflight_groups,
        reason=operation.reason,
        requested_by=operation.requested_by,
        requested_at=time_of(operation.requested_at),
        deadline_at=time_or_none(operation.deadline_at),
        ended_at=time_or_none(operation.ended_at),
        error=operation.error or None,
        request=dict(operation.request),
        result=dict(operation.result),
    )


def event_object(event: LoggedEvent) -> EventObject:
    """An event as the API shows it."""
    return EventObject(
        id=event.sequence,
        at=time_of(event.at),
        type=event.kind,
        message=event.message,
        state=event.state,
        failure=_failure(event.failure),
        details=dict(event.details),
    )


def _status(run: RunControl) -> StatusObject:
    record, step = run.record, run.last_step
    is_stepping = run.life.state in _STEPPING
    return StatusObject(
        observed_generation=record.observed_generation,
        state=run.life.state,
        reason=record.reason,
        message=record.message,
        step=record.step,
        total_steps=run.description.total_steps,
        policy_version=record.policy_version,
        rollout_policy_version=_served(run),
        tokens_generated=record.tokens_generated,
        last_step_at=time_or_none(record.last_step_at),
        eta_seconds=seconds_left(step) if step and is_stepping else None,
        metrics=_finite(step.metrics) if step else {},
        evaluation=_evaluation(run.last_evaluation),
        checkpoint=_checkpoint(record.checkpoint),
        pause=_pause(run),
        allowed_actions=list(run.allowed_actions),
        workers=_worker_counts(run),
        attempt=record.attempt,
        restarts_total=_restarts(run),
        failure=_failure(record.failure),
    )


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """JSON has no NaN."""
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _evaluation(report: EvaluationReport | None) -> EvaluationMark | None:
    if report is None:
        return None
    return EvaluationMark(
        step=report.step,
        policy_version=report.policy_version,
        accuracy_ratio=report.accuracy,
        problems=report.num_problems,
        answers=report.num_answers,
        decided=report.num_decided,
        mean_response_tokens=report.mean_response_tokens,
        metrics=_finite(report.metrics),
    )


def _checkpoint(found: Mapping[str, object]) -> CheckpointMark | None:
    name, step, at = found.get("checkpoint"), found.get("step"), found.get("created_at")
    if not isinstance(name, str):
        return None
    return CheckpointMark(
        latest=name,
        step=step if isinstance(step, int) else None,
        created_at=time_of(at) if isinstance(at, int | float) else None,
    )


def _pause(run: RunControl) -> PauseObject | None:
    request, operation = run.life.pause, run.latest_operation(OperationKind.PAUSE)
    if request is None or operation is None:
        return None
    is_paused = run.life.state is RunState.PAUSED
    result = operation.result
    return PauseObject(
        operation_id=operation.operation_id,
        mode=request.mode,
        release=request.release,
        requested_by=operation.requested_by,
        reason=operation.reason,
        requested_at=time_of(operation.requested_at),
        deadline_at=time_or_none(operation.deadline_at),
        phase=operation.phase,
        progress=operation.progress,
        inflight_groups=operation.inflight_groups,
        checkpoint=_word(result.get("checkpoint")),
        released=_word(result.get("released")) if is_paused else None,
        exactness=_word(result.get("exactness")) if is_paused else None,
        expires_at=time_or_none(run.record.paused_until),
    )


def _word(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _queues(run: RunControl) -> dict[str, QueueMark]:
    found = run.buffer.queues if run.buffer else {}
    return {name: QueueMark(depth=depth, capacity=capacity) for name, (depth, capacity) in found.items()}


def _worker_counts(run: RunControl) -> dict[str, WorkerCounts]:
    counts: dict[str, WorkerCounts] = {}
    for worker in run.workers.values():
        found = counts.setdefault(worker.role, WorkerCounts(ready=0, total=0))
        found.total += 1
        found.ready += worker.state == "ready"
    return counts


def _restarts(run: RunControl) -> int:
    restarts = {each.worker_id: each.restarts for each in run.workers.values()}
    # An event tells of a restart at once, what a worker does now is told once a second.
    for each in run.buffer.workers if run.buffer else ():
        restarts[each.worker_id] = max(each.restarts, restarts.get(each.worker_id, 0))
    return sum(restarts.values())


def _failure(failure: Failure | None) -> FailureObject | None:
    if failure is None:
        return None
    return FailureObject(role=failure.role, cause=failure.cause, group_id=failure.group_id or None)


def time_of(seconds: float) -> datetime:
    """Seconds since the epoch as the API shows them."""
    return datetime.fromtimestamp(seconds, UTC)


def time_or_none(seconds: float | None) -> datetime | None:
    """The same where there may be no time."""
    return None if seconds is None else time_of(seconds)


def _served(run: RunControl) -> int | None:
    """A step is reported once its version is live, and the buffer at most once a second."""
    said = [run.buffer.version] if run.buffer else []
    said += [run.record.policy_version] if run.record.step else []
    return max(said, default=None)
