"""The life of one run as a pure state machine: a call or a happening in, a new life and effects out.

    pending -> starting -> running -> completed
       |          |        |    ^
       |          |     pausing |
       |          |        v    resuming
       |          |      paused --'
       '----------'--------'------> cancelling -> cancelled      any state that is not terminal -> failed

Users call (`pause`, `resume`, `cancel`); the run reports (`happened`). Nothing here knows HTTP, clocks or operation
ids: the control plane carries the effects out. A report that no longer fits, as a call overtook it, changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from services.reports import IntentKind, RunState
from services.run_calls import CancelRequest, FieldProblem, PauseRequest, problems_of_cancel, problems_of_pause

RESUME_TIMEOUT_SECONDS = 300.0


class OperationKind(StrEnum):
    """What a user can ask of a run; at most one operation of a kind is open at a time."""

    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


class Happening(StrEnum):
    """What the run says became of it: the `kind` of a RunEvent. Events of other kinds do not change its life."""

    STARTING = "starting"
    STARTED = "started"
    DRAINED = "drained"
    RESUMED = "resumed"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLife:
    """State, and the pause that is wanted or in force (also one that waits for the start or for a resume to finish)."""

    state: RunState = RunState.PENDING
    pause: PauseRequest | None = None

    @property
    def desired(self) -> IntentKind:
        if self.state in (RunState.CANCELLING, RunState.CANCELLED):
            return IntentKind.CANCEL
        return IntentKind.PAUSE if self.pause else IntentKind.RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteIntent:
    """Tell the run what is wanted of it."""

    kind: IntentKind
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperation:
    """Begin to follow an operation; its deadline, if any, counts from now."""

    kind: OperationKind
    phase: str
    timeout_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceOperation:
    """The open operation of this kind enters a phase; its deadline counts from now."""

    kind: OperationKind
    phase: str
    timeout_seconds: float


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


Effect = WriteIntent | OpenOperation | AdvanceOperation | EndOperation | Announce


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Where the run's life is now, and what follows from it."""

    life: RunLife
    effects: tuple[Effect, ...] = ()


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


def allowed_actions(life: RunLife) -> tuple[str, ...]:
    """Calls that would change something, so that clients need not know the machine."""
    if life.state.is_terminal or life.state is RunState.CANCELLING:
        return ()
    return ("resume" if life.pause else "pause", "cancel")


def pause(life: RunLife, request: PauseRequest) -> Accepted | Refused:
    """A user wants the run to pause."""
    if problems := problems_of_pause(request):
        return _invalid("pause", problems)
    if refused := _refuse_late(life.state, "pause"):
        return refused
    kind = OperationKind.PAUSE
    if life.state is RunState.PAUSED:
        return Accepted(life=life, pending=False, operation=kind)
    if life.pause is not None:
        if not life.pause.asks_the_same(request):
            return Refused(slug="pause-in-progress", detail="a pause with another body is under way; resume it first")
        return Accepted(life=life, pending=True, operation=kind)
    wanted = replace(life, pause=request)
    effects: tuple[Effect, ...]
    intent = WriteIntent(kind=IntentKind.PAUSE, reason=request.reason)
    if life.state is RunState.RESUMING:
        # The intent waits: a run that only ever saw this one would stay drained and never report that it resumed.
        effects = (OpenOperation(kind=kind, phase="queued"),)
    elif life.state is RunState.RUNNING:
        wanted = replace(wanted, state=RunState.PAUSING)
        effects = (OpenOperation(kind=kind, phase="draining", timeout_seconds=request.timeout_seconds), intent)
    else:
        effects = (OpenOperation(kind=kind, phase="waiting_for_start"), intent)
    return Accepted(life=wanted, effects=effects, pending=True, operation=kind)


def resume(life: RunLife, reason: str = "") -> Accepted | Refused:
    """A user wants the run to go on."""
    if refused := _refuse_late(life.state, "resume"):
        return refused
    kind, freed = OperationKind.RESUME, replace(life, pause=None)
    intent = WriteIntent(kind=IntentKind.RUN, reason=reason)
    withdrawn = EndOperation(kind=OperationKind.PAUSE, error="withdrawn: resume was called before the run had paused")
    if life.state is RunState.PAUSED:
        opened = OpenOperation(kind=kind, phase="reopening", timeout_seconds=RESUME_TIMEOUT_SECONDS)
        freed = replace(freed, state=RunState.RESUMING)
        return Accepted(life=freed, effects=(opened, intent), pending=True, operation=kind)
    if life.state is RunState.PAUSING:
        # Straight to running: the run may never have seen that it was to pause, and would then report nothing.
        freed = replace(freed, state=RunState.RUNNING)
        done = (OpenOperation(kind=kind, phase="reopening"), EndOperation(kind=kind))
        return Accepted(life=freed, effects=(withdrawn, *done, intent), pending=True, operation=kind)
    if life.state is RunState.RESUMING:
        return Accepted(life=freed, effects=(withdrawn,) if life.pause else (), pending=True, operation=kind)
    return Accepted(life=freed, effects=(withdrawn, intent) if life.pause else (), pending=False, operation=None)


def cancel(life: RunLife, request: CancelRequest) -> Accepted | Refused:
    """A user wants the run to end."""
    if problems := problems_of_cancel(request):
        return _invalid("cancel", problems)
    kind = OperationKind.CANCEL
    if life.state in (RunState.CANCELLING, RunState.CANCELLED):
        return Accepted(life=life, pending=not life.state.is_terminal, operation=kind)
    if refused := _refuse_late(life.state, "cancel"):
        return refused
    effects = (
        EndOperation(kind=OperationKind.PAUSE, error="withdrawn: the run was cancelled"),
        EndOperation(kind=OperationKind.RESUME, error="withdrawn: the run was cancelled"),
        OpenOperation(kind=kind, phase="stopping", timeout_seconds=request.grace_seconds),
        WriteIntent(kind=IntentKind.CANCEL, reason=request.reason),
    )
    return Accepted(life=RunLife(state=RunState.CANCELLING), effects=effects, pending=True, operation=kind)


def happened(life: RunLife, happening: Happening) -> Transition:
    """The run reports a change of its life; a report that no longer fits changes nothing."""
    if life.state.is_terminal:
        return Transition(life=life)
    if happening in (Happening.COMPLETED, Happening.FAILED, Happening.CANCELLED):
        return _end(RunState(happening.value))
    handler = _HANDLERS.get((life.state, happening))
    return handler(life) if handler else Transition(life=life)


def deadline_missed(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    """An open operation passed its deadline: a pause gives up and the run goes on, others can only be waited for."""
    ended = EndOperation(kind=kind, error=f"deadline missed in phase {phase}")
    if kind is not OperationKind.PAUSE:
        late = Announce(kind=f"{kind}_overdue", message=f"{kind} missed its deadline in phase {phase}")
        return Transition(life=life, effects=(ended, late))
    return Transition(
        life=RunLife(state=RunState.RUNNING),
        effects=(
            ended,
            WriteIntent(kind=IntentKind.RUN, reason="the pause missed its deadline"),
            Announce(kind="pause_failed", message=f"pause missed its deadline in phase {phase}; the run goes on"),
        ),
    )


def _invalid(call: str, problems: tuple[FieldProblem, ...]) -> Refused:
    named = "; ".join(f"{each.pointer.removeprefix('#/')}: {each.message}" for each in problems)
    return Refused(slug="validation", detail=f"cannot {call} like this: {named}", problems=problems)


def _refuse_late(state: RunState, call: str) -> Refused | None:
    if state.is_terminal:
        return Refused(slug="run-finished", detail=f"cannot {call}: the run is {state}")
    if state is RunState.CANCELLING:
        return Refused(slug="invalid-transition", detail=f"cannot {call}: the run is being cancelled")
    return None


def _end(state: RunState) -> Transition:
    error = f"the run was {state} first" if state is RunState.CANCELLED else f"the run {state} first"
    return Transition(
        life=RunLife(state=state),
        effects=(
            EndOperation(kind=OperationKind.PAUSE, error=error),
            EndOperation(kind=OperationKind.RESUME, error=error),
            EndOperation(kind=OperationKind.CANCEL, error="" if state is RunState.CANCELLED else error),
        ),
    )


def _starting(life: RunLife) -> Transition:
    return Transition(life=replace(life, state=RunState.STARTING))


def _run_or_pause(life: RunLife) -> Transition:
    """Running; or pausing where a pause waits, whose deadline begins here."""
    if life.pause is None:
        return Transition(life=replace(life, state=RunState.RUNNING))
    timeout = life.pause.timeout_seconds
    advance = AdvanceOperation(kind=OperationKind.PAUSE, phase="draining", timeout_seconds=timeout)
    return Transition(life=replace(life, state=RunState.PAUSING), effects=(advance,))


def _drained(life: RunLife) -> Transition:
    ended = EndOperation(kind=OperationKind.PAUSE)
    return Transition(life=replace(life, state=RunState.PAUSED), effects=(ended,))


def _resumed(life: RunLife) -> Transition:
    following = _run_or_pause(life)
    effects: tuple[Effect, ...] = (EndOperation(kind=OperationKind.RESUME), *following.effects)
    if life.pause is not None:
        effects += (WriteIntent(kind=IntentKind.PAUSE, reason=life.pause.reason),)
    return Transition(life=following.life, effects=effects)


_HANDLERS: dict[tuple[RunState, Happening], Callable[[RunLife], Transition]] = {
    (RunState.PENDING, Happening.STARTING): _starting,
    (RunState.PENDING, Happening.STARTED): _run_or_pause,
    (RunState.STARTING, Happening.STARTED): _run_or_pause,
    (RunState.PAUSING, Happening.DRAINED): _drained,
    (RunState.RESUMING, Happening.RESUMED): _resumed,
}
