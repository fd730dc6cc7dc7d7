"""The control plane of one run: what was asked, what is, and what happened, on one event loop.

Users call in (the HTTP handlers), the run reports in; calls only write an intent, which the orchestrator fetches and
acts on. Which call is in order when is decided in run_state; this shell keeps the records and the clock. It knows
neither HTTP nor Ray.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice

from services.metrics import RunMetrics
from services.reports import (
    EvaluationReport,
    Failure,
    Intent,
    IntentKind,
    RunDescription,
    RunEvent,
    RunReport,
    RunState,
    StepReport,
    WorkerReport,
)
from services.run_calls import CancelRequest, PauseRequest
from services.run_state import (
    Accepted,
    AdvanceOperation,
    Announce,
    Effect,
    EndOperation,
    Happening,
    OpenOperation,
    OperationKind,
    Refused,
    RunLife,
    Transition,
    WriteIntent,
    allowed_actions,
    cancel,
    deadline_missed,
    happened,
    pause,
    resume,
)

MAX_EVENTS = 10_000
MAX_OPERATIONS = 1_000
TICK_SECONDS = 1.0
MAX_TICK_SECONDS = 3 * TICK_SECONDS

logger = logging.getLogger(__name__)


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a user that takes time. Times in seconds since the epoch.

    Args:
        deadline_at: none while the phase waits for something that has no deadline of its own.
        error: why it failed; "" otherwise.
    """

    operation_id: str
    kind: OperationKind
    phase: str
    state: OperationState
    reason: str
    requested_at: float
    deadline_at: float | None = None
    ended_at: float | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event as kept: sequence numbers rise by one from 1, `at` in seconds since the epoch, state after it."""

    sequence: int
    at: float
    kind: str
    message: str
    state: RunState
    failure: Failure | None = None


class ControlPlane:
    """What is known of one run. Satisfies ControlPort; not thread-safe: use it on one event loop.

    Args:
        metrics: fed with every report.
        clock: seconds since the epoch.
    """

    def __init__(self, description: RunDescription, *, metrics: RunMetrics, clock: Callable[[], float]) -> None:
        self.description = description
        self.life = RunLife()
        self.intent = Intent(generation=1, kind=IntentKind.RUN)
        self.observed_generation = 0
        self.created_at = clock()
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.last_step: StepReport | None = None
        self.last_step_at: float | None = None
        self.last_evaluation: EvaluationReport | None = None
        self.tokens_generated = 0
        self.failure: Failure | None = None
        self.message = ""
        self.workers: dict[str, WorkerReport] = {}
        self._ticked_at: float | None = None
        self._metrics = metrics
        self._clock = clock
        self._operations: dict[str, Operation] = {}
        self._num_operations = 0
        self._latest: dict[OperationKind, str] = {}
        self._events: deque[LoggedEvent] = deque(maxlen=MAX_EVENTS)
        self._num_events = 0
        self._intent_changed = asyncio.Event()
        self._paused_counted_to: float | None = None
        metrics.observe_state(self.life.state)

    def pause(self, request: PauseRequest) -> Accepted | Refused:
        """Ask the run to pause; the operation of kind PAUSE says how it goes."""
        return self._call(pause(self.life, request), request.reason)

    def resume(self, reason: str = "") -> Accepted | Refused:
        """Ask the run to go on."""
        return self._call(resume(self.life, reason), reason)

    def cancel(self, request: CancelRequest) -> Accepted | Refused:
        """Ask the run to end."""
        return self._call(cancel(self.life, request), request.reason)

    async def report(self, report: RunReport) -> None:
        """Take in what the run says of itself."""
        self._metrics.observe(report)
        if isinstance(report, StepReport):
            self.last_step, self.last_step_at = report, self._clock()
            self.tokens_generated += report.num_response_tokens
            self.message = f"step {report.step} of {report.total_steps}"
        elif isinstance(report, EvaluationReport):
            self.last_evaluation = report
            self._log("eval_completed", f"held-out accuracy {report.accuracy:.4f} after step {report.step}")
        else:
            self._take_event(report)

    def remember(self, reports: Sequence[RunReport]) -> None:
        """Take in what an earlier process of this run reported: counters and curves go on, its events do not return."""
        for report in reports:
            if isinstance(report, StepReport):
                self._metrics.observe(report)
                self.last_step = report
                self.tokens_generated += report.num_response_tokens
            elif isinstance(report, EvaluationReport):
                self._metrics.observe(report)
                self.last_evaluation = report
            elif not report.workers:
                self._metrics.observe(report)

    async def intent_after(self, generation: int) -> Intent:
        """The current intent once its generation is above the given one, which counts as observed; waits."""
        self.observed_generation = max(self.observed_generation, min(generation, self.intent.generation))
        while self.intent.generation <= generation:
            await self._intent_changed.wait()
        return self.intent

    def tick(self, now: float) -> None:
        """Let time pass: operations past their deadline fail. Call about once a second."""
        self._ticked_at = now
        self._count_paused(now)
        for kind in OperationKind:
            operation = self.latest_operation(kind)
            if operation is None or operation.state is not OperationState.RUNNING or operation.deadline_at is None:
                continue
            if now >= operation.deadline_at:
                self._move(deadline_missed(self.life, kind, operation.phase), reason="deadline missed")

    async def keep_time(self, interval_seconds: float = TICK_SECONDS) -> None:
        """Tick for ever; run it as a task beside the server and cancel it to stop."""
        while True:
            self.tick(self._clock())
            await asyncio.sleep(interval_seconds)

    @property
    def allowed_actions(self) -> tuple[str, ...]:
        return allowed_actions(self.life)

    @property
    def checks(self) -> dict[str, Callable[[], str]]:
        """What must hold for calls to have an effect: "" or what is wrong, by name."""
        return {"deadlines": self._check_deadlines}

    def latest_operation(self, kind: OperationKind) -> Operation | None:
        operation_id = self._latest.get(kind)
        return self._operations.get(operation_id) if operation_id else None

    def operation(self, operation_id: str) -> Operation | None:
        return self._operations.get(operation_id)

    def operations(self) -> list[Operation]:
        """Oldest first; the oldest of more than MAX_OPERATIONS are forgotten."""
        return list(self._operations.values())

    def events(self, *, after: int = 0, kind: str | None = None, limit: int) -> list[LoggedEvent]:
        """Events numbered above `after`, oldest first; the oldest of more than MAX_EVENTS are forgotten."""
        chosen = (each for each in self._events if each.sequence > after and kind in (None, each.kind))
        return list(islice(chosen, limit))

    def _check_deadlines(self) -> str:
        if self._ticked_at is None:
            return "deadlines are not watched yet"
        late = self._clock() - self._ticked_at
        return "" if late <= MAX_TICK_SECONDS else f"deadlines were last looked at {late:.0f} s ago"

    def _call(self, answer: Accepted | Refused, reason: str) -> Accepted | Refused:
        if isinstance(answer, Accepted):
            self._move(answer, reason=reason)
        return answer

    def _take_event(self, event: RunEvent) -> None:
        self.message = event.message
        self.workers.update({worker.worker_id: worker for worker in event.workers})
        is_happening = event.kind in set(Happening)
        transition = happened(self.life, Happening(event.kind)) if is_happening else Transition(life=self.life)
        if transition.life.state is RunState.FAILED and self.failure is None:
            self.failure = event.failure
        self._log(event.kind, event.message, state=transition.life.state, failure=event.failure)
        self._move(transition, reason=event.message)

    def _move(self, transition: Transition, *, reason: str) -> None:
        before, after, now = self.life.state, transition.life.state, self._clock()
        self._count_paused(now)
        self.life = transition.life
        for effect in transition.effects:
            self._carry_out(effect, reason, now)
        if after is before:
            return
        if after in (RunState.RUNNING, RunState.PAUSING) and self.started_at is None:
            self.started_at = now
        if after.is_terminal:
            self.finished_at = now
        self._paused_counted_to = now if after is RunState.PAUSED else None
        self._metrics.observe_state(after)
        self._log("run_state_changed", f"{before} to {after}" + (f": {reason}" if reason else ""))

    def _carry_out(self, effect: Effect, reason: str, now: float) -> None:
        if isinstance(effect, WriteIntent):
            generation = self.intent.generation + 1
            self.intent = Intent(generation=generation, kind=effect.kind, reason=effect.reason)
            self._intent_changed.set()
            self._intent_changed = asyncio.Event()
        elif isinstance(effect, OpenOperation):
            self._open(effect, reason, now)
        elif isinstance(effect, AdvanceOperation):
            deadline_at = now + effect.timeout_seconds
            self._update(effect.kind, lambda each: replace(each, phase=effect.phase, deadline_at=deadline_at))
        elif isinstance(effect, EndOperation):
            self._update(effect.kind, lambda each: _ended(each, effect.error, now))
        elif isinstance(effect, Announce):
            self._log(effect.kind, effect.message)

    def _open(self, effect: OpenOperation, reason: str, now: float) -> None:
        self._num_operations += 1
        operation_id = f"op-{self._num_operations}"
        self._operations[operation_id] = Operation(
            operation_id=operation_id,
            kind=effect.kind,
            phase=effect.phase,
            state=OperationState.RUNNING,
            reason=reason,
            requested_at=now,
            deadline_at=None if effect.timeout_seconds is None else now + effect.timeout_seconds,
        )
        self._latest[effect.kind] = operation_id
        while len(self._operations) > MAX_OPERATIONS:
            del self._operations[next(iter(self._operations))]

    def _update(self, kind: OperationKind, change: Callable[[Operation], Operation]) -> None:
        operation = self.latest_operation(kind)
        if operation is None or operation.state is not OperationState.RUNNING:
            return
        changed = change(operation)
        self._operations[operation.operation_id] = changed
        if changed.state is not OperationState.RUNNING and kind is OperationKind.PAUSE:
            self._metrics.count_pause(succeeded=changed.state is OperationState.SUCCEEDED)

    def _count_paused(self, now: float) -> None:
        if self._paused_counted_to is not None:
            self._metrics.add_paused_seconds(max(0.0, now - self._paused_counted_to))
            self._paused_counted_to = now

    def _log(self, kind: str, message: str, *, state: RunState | None = None, failure: Failure | None = None) -> None:
        self._num_events += 1
        event = LoggedEvent(
            sequence=self._num_events,
            at=self._clock(),
            kind=kind,
            message=message,
            state=state or self.life.state,
            failure=failure,
        )
        self._events.append(event)
        logger.info("run_id=%s event=%s %s", self.description.run_id, kind, message)


def _ended(operation: Operation, error: str, now: float) -> Operation:
    state = OperationState.FAILED if error else OperationState.SUCCEEDED
    phase = operation.phase if error else "done"
    return replace(operation, state=state, phase=phase, ended_at=now, error=error)
