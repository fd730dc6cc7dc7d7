"""What a user may ask of a run in which state, and what follows: the calls of the machine (machine.py)."""

from dataclasses import replace

from services.control.calls import (
    CancelRequest,
    FieldProblem,
    PauseRequest,
    ResumeRequest,
    problems_of_cancel,
    problems_of_pause,
    problems_of_resume,
)
from services.control.life import (
    Accepted,
    Effect,
    EndOperation,
    LaunchProcess,
    OpenOperation,
    OperationKind,
    Order,
    Refused,
    RunLife,
    WriteIntent,
)
from services.control.phases import (
    FIRST_PHASES,
    PHASES_OF_NO_RETURN,
    QUEUED,
    REOPENING,
    RESTART_TIMEOUT_SECONDS,
    RESUME_TIMEOUT_SECONDS,
    WAITING,
)
from services.reports import IntentKind, PauseMode, ReleaseLevel, RunState

_LOADED_AGAIN = (ReleaseLevel.ROLLOUT_WEIGHTS, ReleaseLevel.ALL)
_WITHDRAWN = "withdrawn: resume was called before the run had paused"


def allowed_actions(life: RunLife) -> tuple[str, ...]:
    """Calls that would change something, so that clients need not know the machine."""
    if life.state.is_terminal or life.state is RunState.CANCELLING:
        return ()
    is_running = life.state is RunState.RUNNING
    is_stopping = life.desired is IntentKind.PAUSE or life.state is RunState.PAUSED
    return ("resume" if is_stopping else "pause", "cancel", *(("checkpoint", "eval") if is_running else ()))


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
        overruled = (EndOperation(kind=OperationKind.RESUME, error="withdrawn: pause was called after it"),)
        stays = replace(life, resume=None)
        return Accepted(life=stays, effects=overruled if life.resume else (), pending=True, operation=kind)
    wanted = replace(life, pause=request)
    effects: tuple[Effect, ...]
    if life.state is RunState.RESUMING:
        # The intent waits: a run that only ever saw this one would stay drained and never report that it resumed.
        effects = (OpenOperation(kind=kind, phase=QUEUED),)
    elif life.state is RunState.RUNNING:
        wanted = replace(wanted, state=RunState.PAUSING)
        opened = OpenOperation(kind=kind, phase=FIRST_PHASES[request.mode], timeout_seconds=request.timeout_seconds)
        effects = (opened, intent_to_pause(request))
    else:
        effects = (OpenOperation(kind=kind, phase=WAITING), intent_to_pause(request))
    return Accepted(life=wanted, effects=effects, pending=True, operation=kind)


def resume(life: RunLife, request: ResumeRequest) -> Accepted | Refused:
    """A user wants the run to go on."""
    if problems := problems_of_resume(request):
        return _invalid("resume", problems)
    if refused := _refuse_late(life.state, "resume") or _refuse_checkpoint(life, request):
        return refused
    kind = OperationKind.RESUME
    if life.state is RunState.PAUSED:
        opened = OpenOperation(kind=kind, phase=REOPENING, timeout_seconds=seconds_to_reopen(life))
        return Accepted(
            life=RunLife(state=RunState.RESUMING),
            effects=(opened, *going_on(life, request)),
            pending=True,
            operation=kind,
        )
    if life.state is RunState.PAUSING:
        return _resume_while_pausing(life, request)
    withdrawn = EndOperation(kind=OperationKind.PAUSE, error=_WITHDRAWN)
    intent = WriteIntent(kind=IntentKind.RUN, reason=request.reason)
    freed = replace(life, pause=None)
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
    order = Order(operation=kind, mode=PauseMode.ABORT, checkpoint=True) if request.checkpoint else None
    effects: tuple[Effect, ...] = (
        EndOperation(kind=OperationKind.PAUSE, error="withdrawn: the run was cancelled"),
        EndOperation(kind=OperationKind.RESUME, error="withdrawn: the run was cancelled"),
        OpenOperation(kind=kind, phase="stopping", timeout_seconds=request.grace_seconds),
        WriteIntent(kind=IntentKind.CANCEL, reason=request.reason, order=order),
    )
    if life.process_ended:
        # Nobody is left who could say that the run ended.
        gone = RunLife(state=RunState.CANCELLED)
        return Accepted(life=gone, effects=(*effects, EndOperation(kind=kind)), pending=True, operation=kind)
    return Accepted(life=RunLife(state=RunState.CANCELLING), effects=effects, pending=True, operation=kind)


def intent_to_pause(request: PauseRequest, mode: PauseMode | None = None) -> WriteIntent:
    """Tell the run to pause, in the request's mode or a harder one: what was promised of the rest stays."""
    order = Order(
        operation=OperationKind.PAUSE,
        mode=PauseMode(mode or request.mode),
        checkpoint=request.saves,
        release=ReleaseLevel(request.release),
    )
    return WriteIntent(kind=IntentKind.PAUSE, reason=request.reason, order=order)


def going_on(life: RunLife, request: ResumeRequest) -> tuple[Effect, ...]:
    """What makes a paused run go on."""
    intent = WriteIntent(kind=IntentKind.RUN, reason=request.reason, from_checkpoint=request.from_checkpoint)
    return (intent, LaunchProcess(from_checkpoint=request.from_checkpoint)) if life.process_ended else (intent,)


def seconds_to_reopen(life: RunLife) -> float:
    """How long a paused run may take until it runs again."""
    loads = life.process_ended or (life.pause is not None and life.pause.release in _LOADED_AGAIN)
    return RESTART_TIMEOUT_SECONDS if loads else RESUME_TIMEOUT_SECONDS


def _resume_while_pausing(life: RunLife, request: ResumeRequest) -> Accepted:
    kind = OperationKind.RESUME
    if life.resume is not None:
        return Accepted(life=life, pending=True, operation=kind)
    if life.phase in PHASES_OF_NO_RETURN:
        queued = OpenOperation(kind=kind, phase=QUEUED)
        return Accepted(life=replace(life, resume=request), effects=(queued,), pending=True, operation=kind)
    # Straight to running: the run may never have seen that it was to pause, and would then report nothing.
    effects = (
        EndOperation(kind=OperationKind.PAUSE, error=_WITHDRAWN),
        OpenOperation(kind=kind, phase=REOPENING),
        EndOperation(kind=kind),
        WriteIntent(kind=IntentKind.RUN, reason=request.reason),
    )
    return Accepted(life=RunLife(state=RunState.RUNNING), effects=effects, pending=True, operation=kind)


def _invalid(call: str, problems: tuple[FieldProblem, ...]) -> Refused:
    named = "; ".join(f"{each.pointer.removeprefix('#/')} {each.message}" for each in problems)
    return Refused(slug="validation", detail=f"cannot {call} like this: {named}", problems=problems)


def _refuse_late(state: RunState, call: str) -> Refused | None:
    if state.is_terminal:
        return Refused(slug="run-finished", detail=f"cannot {call}: the run is {state}")
    if state is RunState.CANCELLING:
        return Refused(slug="invalid-transition", detail=f"cannot {call}: the run is being cancelled")
    return None


def _refuse_checkpoint(life: RunLife, request: ResumeRequest) -> Refused | None:
    if not request.from_checkpoint:
        return None
    is_released = life.process_ended or (life.pause is not None and life.pause.release == ReleaseLevel.ALL)
    if life.state is RunState.PAUSED and is_released:
        return None
    detail = (
        f"cannot resume from {request.from_checkpoint}: a run goes on from another checkpoint only where it is paused "
        f"and everything was released, this one is {life.state}; leave from_checkpoint out, or pause with release all"
    )
    return Refused(slug="invalid-transition", detail=detail)
