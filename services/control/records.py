"""What the control plane keeps, and what a store of it must do.

One change of anything is one `Change`, written in one transaction: a state and the event that tells of it are both on
disk or neither is. Times are seconds since the epoch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from services.control.machine import OperationKind, RunLife
from services.reports import Failure, Intent, RunDescription, RunState
from shaping.errors import LessrlError

LEASE_SECONDS = 60.0


class StoreError(LessrlError, RuntimeError):
    """The store cannot be read or written: which, why, and what to do."""


class OperationState(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: the name of a token, never the token.

    Args:
        role: "read", "operate" or "admin".
        address: remote host; "" for the control plane's own doings.
    """

    name: str
    role: str
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a user that takes time.

    Args:
        deadline_at: none only while the phase waits for something that has no deadline of its own.
        error: why it failed; "" otherwise.
        request: the body that asked for it.
        result: what came of it, by kind: {"checkpoint": "step-000012"} ...
    """

    operation_id: str
    run_id: str
    kind: OperationKind
    phase: str
    state: OperationState
    reason: str
    requested_by: str
    requested_at: float
    deadline_at: float | None = None
    ended_at: float | None = None
    error: str = ""
    progress: float | None = None
    inflight_groups: int = 0
    request: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """An event as kept. `sequence` rises over the whole store; `state` is the run's after it."""

    sequence: int
    run_id: str
    at: float
    kind: str
    message: str
    state: RunState
    failure: Failure | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigGeneration:
    """One live change of a run's config, as asked for and as it took.

    Args:
        generation: from 2 on: 1 is the recipe that the run began with.
        values: by dotted recipe key.
        applies: "next_step" or "next_group", by key.
        at_step: first learner step that it held for; None while it is pending.
        error: why the run could not take it; it then never holds. "" otherwise.
    """

    run_id: str
    generation: int
    at: float
    by: str
    values: Mapping[str, Any]
    applies: Mapping[str, str]
    at_step: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One call that changed something, or tried to."""

    at: float
    caller: Caller
    request_id: str
    method: str
    path: str
    run_id: str
    body_digest: str
    body: Mapping[str, Any]
    status: int
    generation_before: int | None = None
    generation_after: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """The answer to a creating call with an idempotency key. `status` 0: the first call is still under way."""

    key: str
    caller: str
    path: str
    body_digest: str
    created_at: float
    status: int = 0
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """All of one run that must outlive the control plane's process; curves and groups are in the run's directory.

    Args:
        config_text: as submitted; "" where a process brought only the resolved recipe.
        life: of the state machine.
        intent: what the run's process is told; its generation rises at each change of anything that it must know.
        config_generation: of the newest live change; 1 without any.
        paused_until: when a pause with a TTL ends by itself.
        paused_at: since when it is paused; None unless it is.
        paused_seconds: of all pauses that have ended.
        link_id, link_sequence: the last report taken in, so that one that is sent again changes nothing.
        attempt: 1 for the first process of the run.
        launched: whether this control plane starts the run's processes.
        launch_from: a process that is still to be started goes on from this checkpoint, "" begins; None: none is.
        launch_overrides: recipe keys that it goes on with other values of.
        lease_seconds: a run that is not heard of for so long, and whose process is gone, has failed.
    """

    run_id: str
    description: RunDescription
    life: RunLife
    intent: Intent
    created_at: float
    config_text: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    config_generation: int = 1
    observed_generation: int = 0
    reason: str = ""
    message: str = ""
    failure: Failure | None = None
    step: int = 0
    policy_version: int = 0
    tokens_generated: int = 0
    last_step_at: float | None = None
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    paused_until: float | None = None
    paused_at: float | None = None
    paused_seconds: float = 0.0
    attempt: int = 1
    launched: bool = False
    launch_from: str | None = None
    launch_overrides: Mapping[str, Any] = field(default_factory=dict)
    lease_seconds: float = LEASE_SECONDS
    link_id: str = ""
    link_sequence: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is written together. An operation, config generation or answer that exists is replaced."""

    runs: tuple[RunRecord, ...] = ()
    operations: tuple[Operation, ...] = ()
    events: tuple[LoggedEvent, ...] = ()
    configs: tuple[ConfigGeneration, ...] = ()
    audit: tuple[AuditLine, ...] = ()
    answers: tuple[KeptAnswer, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


class ControlStore(Protocol):
    """Where it is kept. Blocking and safe to call from one other thread at a time."""

    def commit(self, change: Change) -> None:
        """All of it, or nothing.

        Raises:
            StoreError: the store cannot be written.
        """
        ...

    def runs(self) -> tuple[RunRecord, ...]:
        """Every run, oldest first."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Forget a run with all that belongs to it; what it has in the audit log stays."""
        ...

    def open_operations(self, run_id: str) -> tuple[Operation, ...]: ...

    def operation(self, run_id: str, operation_id: str) -> Operation | None: ...

    def operations(self, run_id: str, *, after: str = "", limit: int = 100) -> Sequence[Operation]:
        """Oldest first, from behind the operation named `after`."""
        ...

    def last_sequence(self) -> int:
        """Of the newest event of all; 0 before the first."""
        ...

    def events(self, run_id: str, *, after: int = 0, kinds: Sequence[str] = (), limit: int) -> Sequence[LoggedEvent]:
        """Those numbered above `after`, oldest first; no kinds means all."""
        ...

    def configs(self, run_id: str) -> tuple[ConfigGeneration, ...]: ...

    def audit(self, *, before: int = 0, limit: int) -> Sequence[tuple[int, AuditLine]]:
        """Newest first with their numbers, those numbered below `before`; 0 begins with the newest."""
        ...

    def answer(self, key: str, caller: str) -> KeptAnswer | None: ...

    def setting(self, name: str) -> str | None: ...

    def prune(self, *, now: float) -> None:
        """Forget what is over its limit: old answers, and the oldest events and audit lines of more than are kept."""
        ...

    def probe(self) -> str:
        """ "" where a write works now, otherwise what is wrong."""
        ...

    def close(self) -> None: ...
