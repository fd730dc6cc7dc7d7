"""What one call or report would change of a run, gathered before any of it is written.

What is decided goes in, one `Change` and the facts after it come out. A draft that is not written is forgotten:
memory and store never part.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from services.control.machine import OperationKind, RunLife
from services.control.records import (
    Change,
    ConfigGeneration,
    KeptAnswer,
    LoggedEvent,
    Operation,
    OperationState,
    RunRecord,
)
from services.reports import (
    BufferReport,
    ControlReport,
    EvaluationReport,
    Failure,
    LiveChange,
    RunState,
    RunTask,
    StepReport,
    TaskKind,
    WorkerReport,
)

TASK_KINDS = frozenset(OperationKind(each.value) for each in TaskKind)

_REASONS = {
    RunState.PENDING: "WaitingForProcess",
    RunState.STARTING: "StartingWorkers",
    RunState.RUNNING: "Training",
    RunState.PAUSING: "Pausing",
    RunState.PAUSED: "Paused",
    RunState.RESUMING: "Resuming",
    RunState.CANCELLING: "Cancelling",
    RunState.COMPLETED: "AllStepsDone",
    RunState.FAILED: "Failed",
    RunState.CANCELLED: "Cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What the control plane holds of a run in memory; the store has the same, and what is past.

    Args:
        operations: by id: those that are open, and the newest of each kind.
        configs: every live change, by generation.
    """

    record: RunRecord
    operations: Mapping[str, Operation] = field(default_factory=dict)
    configs: tuple[ConfigGeneration, ...] = ()

    @property
    def open_operations(self) -> tuple[Operation, ...]:
        """Oldest first."""
        return tuple(each for each in self.operations.values() if each.state is OperationState.RUNNING)

    def kept(self) -> "RunFacts":
        """Without operations that have ended and are not the newest of their kind."""
        newest = {each.kind: each.operation_id for each in self.operations.values()}
        kept = {
            operation_id: each
            for operation_id, each in self.operations.items()
            if each.state is OperationState.RUNNING or newest[each.kind] == operation_id
        }
        return replace(self, operations=kept)

    def latest(self, kind: OperationKind) -> Operation | None:
        """The newest operation of a kind, whether it is open or not."""
        return next((each for each in reversed(tuple(self.operations.values())) if each.kind is kind), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the run said last, held in memory alone: its directory has it too, or it is soon said again."""

    last_step: StepReport | None = None
    last_evaluation: EvaluationReport | None = None
    workers: Mapping[str, WorkerReport] = field(default_factory=dict)
    buffer: BufferReport | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why a transition is made.

    Args:
        by: name of the caller; "" for the run itself and for the control plane.
        request: the body that asked.
        result: of an operation that ends well with it.
    """

    reason: str = ""
    by: str = ""
    request: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)


class Draft:
    """A change of one run in the making.

    Args:
        facts: as they are now; not changed.
        now: seconds since the epoch.

    Attributes:
        record: as it will be.
        seen: what the run said last, with what this draft takes in.
        reports: that this draft takes in.
        forgets: whether they stand in place of all that came before them.
        num_missed: reports before these that never came.
        must_kill: whether the run's process is to be ended once this is written.
    """

    def __init__(self, facts: RunFacts, seen: Seen, *, now: float) -> None:
        self.now = now
        self.record = facts.record
        self.seen = seen
        self.reports: list[ControlReport] = []
        self.forgets = False
        self.num_missed = 0
        self.must_kill = False
        self._before = facts
        self._operations = dict(facts.operations)
        self._configs = {each.generation: each for each in facts.configs}
        self._written: set[str] = set()
        self._written_configs: set[int] = set()
        self._events: list[LoggedEvent] = []
        self._answers: list[KeptAnswer] = []

    # -- what comes out -----------------------------------------------------------------------------------------------

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        is_same = self.record == self._before.record and not self.forgets
        return is_same and not (self._written or self._events or self._answers)

    def change(self) -> Change:
        """All of it, to be written; events get their numbers when they are."""
        return Change(
            runs=(self.record,),
            operations=tuple(self._operations[each] for each in self._operations if each in self._written),
            events=tuple(self._events),
            configs=tuple(self._configs[each] for each in sorted(self._written_configs)),
            answers=tuple(self._answers),
        )

    @property
    def facts(self) -> RunFacts:
        """What is held once it is written."""
        facts = RunFacts(record=self.record, operations=self._operations, configs=self._sorted_configs())
        return facts.kept()

    # -- the life of the run ------------------------------------------------------------------------------------------

    def log(
        self,
        kind: str,
        message: str,
        *,
        state: RunState | None = None,
        failure: Failure | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Add an event.

        Args:
            state: after it, where that is not in the record yet.
        """
        event = LoggedEvent(
            sequence=0,
            run_id=self.record.run_id,
            at=self.now,
            kind=kind,
            message=message,
            state=state or self.record.life.state,
            failure=failure,
            details=details or {},
        )
        self._events.append(event)

    def answer(self, answer: KeptAnswer) -> None:
        """Keep the answer to a call with an idempotency key together with what the call did."""
        self._answers.append(answer)

    def enter(self, life: RunLife, reason: str) -> None:
        """The run's life goes on here; a new state is told, with what hangs on it."""
        before, after = self.record.life.state, life.state
        self.record = replace(self.record, life=life)
        if after is before:
            return
        record, now = self.record, self.now
        changes: dict[str, Any] = {"reason": _REASONS[after]}
        if before is RunState.PAUSED:
            paused = max(0.0, now - (record.paused_at or now))
            changes |= {"paused_at": None, "paused_until": None, "paused_seconds": record.paused_seconds + paused}
            self._postpone_tasks(paused)
        if after is RunState.PAUSED:
            ttl = record.life.pause.ttl_seconds if record.life.pause else None
            changes |= {"paused_at": now, "paused_until": None if ttl is None else now + ttl}
        if after in (RunState.RUNNING, RunState.PAUSING) and record.started_at is None:
            changes["started_at"] = now
        changes["finished_at"] = now if after.is_terminal else None
        self.record = replace(record, **changes)
        message = f"{before} to {after}" + (f": {reason}" if reason else "")
        self.log("run_state_changed", message, details={"from": before.value, "to": after.value, "reason": reason})
        if after.is_terminal:
            self.end_tasks(TASK_KINDS, f"the run ended first: {after}")

    # -- operations ---------------------------------------------------------------------------------------------------

    def open_of(self, kind: OperationKind) -> Operation | None:
        """The open operation of a kind of which there is one at most."""
        running = (each for each in self._operations.values() if each.state is OperationState.RUNNING)
        return next((each for each in running if each.kind is kind), None)

    def open_operation(self, operation_id: str) -> Operation | None:
        """An open operation by its id."""
        found = self._operations.get(operation_id)
        return found if found is not None and found.state is OperationState.RUNNING else None

    def begin(self, kind: OperationKind, phase: str, cause: Cause, *, timeout_seconds: float | None) -> Operation:
        """Open an operation."""
        operation = Operation(
            operation_id=f"op_{secrets.token_hex(6)}",
            run_id=self.record.run_id,
            kind=kind,
            phase=phase,
            state=OperationState.RUNNING,
            reason=cause.reason,
            requested_by=cause.by,
            requested_at=self.now,
            deadline_at=None if timeout_seconds is None else self.now + timeout_seconds,
            request=cause.request,
        )
        self._put(operation)
        if kind in TASK_KINDS:
            self.rewrite_intent(rises=True)
        return operation

    def progress(self, operation: Operation, phase: str, progress: float | None, inflight_groups: int) -> None:
        """How far the run is with it; an event tells of a new phase."""
        changed = replace(operation, phase=phase, progress=progress, inflight_groups=inflight_groups)
        self._put(changed, is_told=phase != operation.phase)

    def end(self, operation: Operation, *, error: str = "", result: Mapping[str, Any] | None = None) -> None:
        """It ended: well when `error` is empty."""
        phase = operation.phase if error else "done"
        state = OperationState.FAILED if error else OperationState.SUCCEEDED
        ended = replace(operation, state=state, phase=phase, ended_at=self.now)
        self._put(replace(ended, error=error, result=result or {}))
        if operation.kind in TASK_KINDS:
            # The run knows that it is done; the next process of the run must not be told to do it.
            self.rewrite_intent(rises=False)

    def end_tasks(self, kinds: frozenset[OperationKind], error: str) -> None:
        """Open tasks of these kinds end unfinished."""
        for each in tuple(self._operations.values()):
            if each.kind in kinds and each.state is OperationState.RUNNING:
                self.end(each, error=error)

    def advance(self, operation: Operation, phase: str, timeout_seconds: float | None) -> None:
        """It enters a phase, with a deadline that counts from now."""
        deadline_at = None if timeout_seconds is None else self.now + timeout_seconds
        self._put(replace(operation, phase=phase, deadline_at=deadline_at))

    def _postpone_tasks(self, seconds: float) -> None:
        for each in tuple(self._operations.values()):
            if each.kind in TASK_KINDS and each.state is OperationState.RUNNING and each.deadline_at is not None:
                self._put(replace(each, deadline_at=each.deadline_at + seconds), is_told=False)

    def _put(self, operation: Operation, *, is_told: bool = True) -> None:
        self._operations[operation.operation_id] = operation
        self._written.add(operation.operation_id)
        if is_told:
            details = {
                "operation_id": operation.operation_id,
                "kind": operation.kind.value,
                "phase": operation.phase,
                "state": operation.state.value,
                "error": operation.error,
                "result": operation.result,
            }
            message = f"{operation.kind} {operation.state}: {operation.error or operation.phase}"
            self.log("operation_updated", message, details=details)

    # -- what the run is told -----------------------------------------------------------------------------------------

    def configure(self, config: ConfigGeneration, *, rises: bool) -> None:
        """Add a live change, or replace one.

        Args:
            rises: whether the run must hear of it.
        """
        self._configs[config.generation] = config
        self._written_configs.add(config.generation)
        self.record = replace(self.record, config_generation=max(self._configs))
        self.rewrite_intent(rises=rises)

    def config(self, generation: int) -> ConfigGeneration | None:
        """A live change by its generation."""
        return self._configs.get(generation)

    def rewrite_intent(self, *, rises: bool, **changes: Any) -> None:
        """Write the intent anew, with every live change and open task of now.

        Args:
            rises: whether its generation does, which is what the run's process waits for.
        """
        intent = self.record.intent
        tasks = (each for each in self._operations.values() if each.kind in TASK_KINDS)
        intent = replace(
            intent,
            generation=intent.generation + 1 if rises else intent.generation,
            changes=tuple(
                LiveChange(generation=each.generation, values=each.values, at_step=each.at_step)
                for each in self._sorted_configs()
                if not each.error
            ),
            tasks=tuple(_task(each) for each in tasks if each.state is OperationState.RUNNING),
            **changes,
        )
        self.record = replace(self.record, intent=intent)

    def _sorted_configs(self) -> tuple[ConfigGeneration, ...]:
        return tuple(self._configs[each] for each in sorted(self._configs))


def _task(operation: Operation) -> RunTask:
    return RunTask(operation_id=operation.operation_id, kind=TaskKind(operation.kind.value), options=operation.request)
