"""The words of the state machine of a run (machine.py): its life, what it can be asked, and what follows."""

from dataclasses import dataclass
from enum import StrEnum

from services.control.calls import FieldProblem, PauseRequest, ResumeRequest
from services.reports import IntentKind, PauseMode, ReleaseLevel, RunState


class OperationKind(StrEnum):
    """What a user can ask of a run; of each kind at most one is open at a time."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    CHECKPOINT = "checkpoint"
    EVAL = "eval"
    EXPORT = "export"
    RESTART_WORKER = "restart_worker"
    DRAIN_WORKER = "drain_worker"


class Happening(StrEnum):
    """What the run says became of it: the `kind` of a RunEvent. Events of other kinds do not change its life."""

    STARTING = "starting"
    STARTED = "started"
    PAUSED = "paused"
    PAUSE_FAILED = "pause_failed"
    RESUMED = "resumed"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLife:
    """State, and what is wanted of it next.

    Args:
        pause: wanted or in force; also one that waits for the start or for a resume to finish.
        is_escalated: while pausing: whether harder means took over from the pause's mode.
        phase: while pausing: what the run said last of it; "" before it said anything.
        resume: while pausing: follows as soon as the run is paused.
        process_ended: while paused: the run's process has ended on purpose; a later one goes on.
    """

    state: RunState = RunState.PENDING
    pause: PauseRequest | None = None
    is_escalated: bool = False
    phase: str = ""
    resume: ResumeRequest | None = None
    process_ended: bool = False

    @property
    def desired(self) -> IntentKind:
        if self.state in (RunState.CANCELLING, RunState.CANCELLED):
            return IntentKind.CANCEL
        return IntentKind.PAUSE if self.pause and not self.resume else IntentKind.RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """How the run is to stop: of the open operation of a kind."""

    operation: OperationKind
    mode: PauseMode
    checkpoint: bool
    release: ReleaseLevel = ReleaseLevel.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteIntent:
    """Tell the run what is wanted of it.

    Args:
        order: with PAUSE, and with a CANCEL that saves.
        from_checkpoint: with RUN: where to go on from, where that is not what the pause left.
    """

    kind: IntentKind
    reason: str = ""
    order: Order | None = None
    from_checkpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperation:
    """Begin to follow an operation; its deadline, if any, counts from now."""

    kind: OperationKind
    phase: str
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceOperation:
    """The open operation of this kind enters a phase; its deadline counts from now, and it has none without one."""

    kind: OperationKind
    phase: str
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotePhase:
    """The open operation of this kind, if there is one, enters a phase; its deadline stays."""

    kind: OperationKind
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndOperation:
    """The open operation of this kind, if there is one, ends: well when `error` is empty."""

    kind: OperationKind
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Announce:
    """Add an event of the control plane's own."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillProcess:
    """End the run's process and what it started, where that is in reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchProcess:
    """Start a process that goes on with the run, where that is in reach; "" goes on from the newest checkpoint."""

    from_checkpoint: str = ""


Effect = (
    WriteIntent | OpenOperation | AdvanceOperation | NotePhase | EndOperation | Announce | KillProcess | LaunchProcess
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where the run's life is now, and what follows from it.

    Args:
        failure: why the run failed, where that was found out here; "" otherwise.
    """

    life: RunLife
    effects: tuple[Effect, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted(Transition):
    """A call that is in order.

    Args:
        pending: whether work follows (HTTP 202), or all is already as asked (200).
        operation: which operation answers the call; none where nothing had to be done.
    """

    pending: bool
    operation: OperationKind | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A call that the state or the request does not allow: nothing changes.

    Args:
        slug: "run-finished", "invalid-transition", "pause-in-progress" (HTTP 409) or "validation" (422).
    """

    slug: str
    detail: str
    problems: tuple[FieldProblem, ...] = ()
