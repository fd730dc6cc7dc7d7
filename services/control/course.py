"""What becomes of a run: its reports, missed deadlines, lost and new processes (machine.py)."""

from collections.abc import Callable
from dataclasses import replace

from services.control.asking import going_on, intent_to_pause, resume, seconds_to_reopen
from services.control.calls import OnTimeout, ResumeRequest
from services.control.life import (
    Accepted,
    AdvanceOperation,
    Announce,
    Effect,
    EndOperation,
    Happening,
    KillProcess,
    NotePhase,
    OpenOperation,
    OperationKind,
    RunLife,
    Transition,
    WriteIntent,
)
from services.control.phases import (
    FIRST_PHASES,
    KILL_TIMEOUT_SECONDS,
    KILLING,
    OVERDUE,
    PHASES_OF_NO_RETURN,
    REOPENING,
    RESUME_TIMEOUT_SECONDS,
    WAITING,
)
from services.reports import IntentKind, PauseMode, RunState


def happened(life: RunLife, happening: Happening, *, error: str = "", process_ended: bool = False) -> Transition:
    """The run reports a change of its life; a report that no longer fits changes nothing.

    Args:
        error: with PAUSE_FAILED: why.
        process_ended: with PAUSED: the process ends now, on purpose; a run may do so without being asked.
    """
    if life.state.is_terminal:
        return Transition(life=life)
    if happening in (Happening.COMPLETED, Happening.FAILED, Happening.CANCELLED):
        return _end(RunState(happening.value))
    if happening is Happening.PAUSED and process_ended and life.state is not RunState.CANCELLING:
        return _process_ended(life)
    if happening is Happening.PAUSE_FAILED and life.state is RunState.PAUSING:
        return _pause_failed(error or "the run could not pause")
    handler = _HANDLERS.get((life.state, happening))
    return handler(life) if handler else Transition(life=life)


def progressed(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    """The run reports how far it is with the open operation of a kind."""
    if life.state is not _STATE_OF.get(kind, life.state):
        return Transition(life=life)
    followed = replace(life, phase=phase) if kind is OperationKind.PAUSE else life
    return Transition(life=followed, effects=(NotePhase(kind=kind, phase=phase),))


def deadline_missed(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    """The open operation of a kind passed its deadline in a phase."""
    if life.state is not _STATE_OF.get(kind, life.state):
        return Transition(life=life)
    return _LATE.get(kind, _late_task)(life, kind, phase)


def expired(life: RunLife) -> Transition:
    """A pause in force is as old as it was to become: the run goes on."""
    if life.state is not RunState.PAUSED or life.pause is None or life.pause.ttl_seconds is None:
        return Transition(life=life)
    answer = resume(life, ResumeRequest(reason=f"the pause was to last {life.pause.ttl_seconds:g} s"))
    assert isinstance(answer, Accepted), "a paused run can be resumed"
    return Transition(life=answer.life, effects=answer.effects)


def lost(life: RunLife) -> Transition:
    """The run's process is gone without a word."""
    if life.state.is_terminal or life.process_ended:
        return Transition(life=life)
    if life.state is RunState.CANCELLING:
        return _end(RunState.CANCELLED)
    return _end(RunState.FAILED, f"the run's process was lost while the run was {life.state}")


def begin_attempt(life: RunLife) -> Transition:
    """A process of the run registers, the first one or one that goes on: the only way out of a terminal state."""
    starting = RunLife(state=RunState.STARTING)
    if life.state is RunState.CANCELLING:
        return Transition(life=life)
    if life.state.is_terminal:
        return Transition(life=starting, effects=(WriteIntent(kind=IntentKind.RUN, reason="a new attempt"),))
    effects: tuple[Effect, ...] = ()
    if life.state is RunState.RESUMING or life.resume is not None:
        effects += (AdvanceOperation(kind=OperationKind.RESUME, phase=WAITING, timeout_seconds=None),)
    if life.resume is not None or (life.pause is not None and life.pause.ends_with_process):
        over = EndOperation(kind=OperationKind.PAUSE, error="withdrawn: the process that was to pause has ended")
        effects += (over, WriteIntent(kind=IntentKind.RUN, reason="a new attempt"))
        return Transition(life=starting, effects=effects)
    if life.pause is None:
        return Transition(life=starting, effects=effects)
    is_open = life.state is not RunState.PAUSED
    waits = (
        AdvanceOperation(kind=OperationKind.PAUSE, phase=WAITING, timeout_seconds=None)
        if is_open
        else OpenOperation(kind=OperationKind.PAUSE, phase=WAITING)
    )
    effects += (waits, intent_to_pause(life.pause))
    return Transition(life=replace(starting, pause=life.pause), effects=effects)


def _end(state: RunState, failure: str = "") -> Transition:
    error = f"the run was {state} first" if state is RunState.CANCELLED else f"the run {state} first"
    return Transition(
        life=RunLife(state=state),
        effects=(
            EndOperation(kind=OperationKind.PAUSE, error=error),
            EndOperation(kind=OperationKind.RESUME, error=error),
            EndOperation(kind=OperationKind.CANCEL, error="" if state is RunState.CANCELLED else error),
        ),
        failure=failure,
    )


def _starting(life: RunLife) -> Transition:
    return Transition(life=replace(life, state=RunState.STARTING))


def _started(life: RunLife) -> Transition:
    """A resume that waited for this process is done."""
    following = _run_or_pause(life)
    return Transition(life=following.life, effects=(EndOperation(kind=OperationKind.RESUME), *following.effects))


def _run_or_pause(life: RunLife) -> Transition:
    """Running; or pausing where a pause waits, whose deadline begins here."""
    request = life.pause
    if request is None:
        return Transition(life=RunLife(state=RunState.RUNNING))
    advance = AdvanceOperation(
        kind=OperationKind.PAUSE, phase=FIRST_PHASES[request.mode], timeout_seconds=request.timeout_seconds
    )
    return Transition(life=RunLife(state=RunState.PAUSING, pause=request), effects=(advance,))


def _paused(life: RunLife) -> Transition:
    paused = RunLife(state=RunState.PAUSED, pause=life.pause)
    return _paused_then(paused, life.resume)


def _process_ended(life: RunLife) -> Transition:
    paused = RunLife(state=RunState.PAUSED, pause=life.pause, process_ended=True)
    if life.resume is not None or life.state is RunState.PAUSED:
        return _paused_then(paused, life.resume)
    effects: tuple[Effect, ...] = (
        EndOperation(kind=OperationKind.PAUSE),
        EndOperation(kind=OperationKind.RESUME, error="the run's process ended before the run went on"),
    )
    if life.state is RunState.RESUMING and life.pause is not None:
        # Its intent waited for the resume to finish.
        effects = (intent_to_pause(life.pause), *effects)
    return Transition(life=paused, effects=effects)


def _paused_then(paused: RunLife, request: ResumeRequest | None) -> Transition:
    """In force; and over at once where a resume waited for it."""
    ended = EndOperation(kind=OperationKind.PAUSE)
    if request is None:
        return Transition(life=paused, effects=(ended,))
    advance = AdvanceOperation(kind=OperationKind.RESUME, phase=REOPENING, timeout_seconds=seconds_to_reopen(paused))
    return Transition(life=RunLife(state=RunState.RESUMING), effects=(ended, advance, *going_on(paused, request)))


def _pause_failed(error: str) -> Transition:
    """The run goes on, which is also what a resume that waited wants."""
    effects: tuple[Effect, ...] = (
        EndOperation(kind=OperationKind.PAUSE, error=error),
        EndOperation(kind=OperationKind.RESUME),
        WriteIntent(kind=IntentKind.RUN, reason="the pause failed"),
    )
    return Transition(life=RunLife(state=RunState.RUNNING), effects=effects)


def _resumed(life: RunLife) -> Transition:
    following = _run_or_pause(life)
    effects: tuple[Effect, ...] = (EndOperation(kind=OperationKind.RESUME), *following.effects)
    if life.pause is not None:
        effects += (intent_to_pause(life.pause),)
    return Transition(life=following.life, effects=effects)


def _late_pause(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    """Harder means once, where they are wanted and would help; then the pause has failed."""
    request = life.pause
    assert request is not None, "a pausing run has a pause"
    is_helped = phase not in PHASES_OF_NO_RETURN and life.resume is None and not life.is_escalated
    if request.on_timeout == OnTimeout.FAIL or not is_helped:
        failed = _pause_failed(f"deadline missed in phase {phase}")
        said = Announce(kind="pause_failed", message=f"pause missed its deadline in phase {phase}; the run goes on")
        return Transition(life=failed.life, effects=(*failed.effects, said))
    harder = PauseMode(request.on_timeout)
    message = f"{request.mode} missed its deadline in phase {phase}; {harder} takes over"
    effects = (
        AdvanceOperation(kind=kind, phase=FIRST_PHASES[harder], timeout_seconds=request.timeout_seconds),
        intent_to_pause(request, harder),
        Announce(kind="pause_escalated", message=message),
    )
    return Transition(life=replace(life, is_escalated=True, phase=""), effects=effects)


def _late_resume(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    """Every call within the run has a deadline of its own, so that it comes or fails; a user may cancel meanwhile."""
    message = f"resume missed its deadline in phase {phase}; it is waited for, cancel the run to end that"
    effects = (
        AdvanceOperation(kind=kind, phase=OVERDUE, timeout_seconds=RESUME_TIMEOUT_SECONDS),
        Announce(kind="resume_overdue", message=message),
    )
    return Transition(life=life, effects=effects)


def _late_cancel(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    """Kill; and where nobody can see that this helped, say so rather than that the run was cancelled."""
    if phase == KILLING:
        return _end(RunState.FAILED, "the run was to be cancelled, and nobody could see its process end")
    effects = (
        AdvanceOperation(kind=kind, phase=KILLING, timeout_seconds=KILL_TIMEOUT_SECONDS),
        Announce(kind="cancel_overdue", message=f"cancel missed its deadline in phase {phase}; the process is killed"),
        KillProcess(),
    )
    return Transition(life=life, effects=effects)


def _late_task(life: RunLife, kind: OperationKind, phase: str) -> Transition:
    message = f"{kind} missed its deadline in phase {phase}"
    ended = EndOperation(kind=kind, error=f"deadline missed in phase {phase}")
    return Transition(life=life, effects=(ended, Announce(kind=f"{kind}_overdue", message=message)))


_STATE_OF = {
    OperationKind.PAUSE: RunState.PAUSING,
    OperationKind.RESUME: RunState.RESUMING,
    OperationKind.CANCEL: RunState.CANCELLING,
}

_LATE: dict[OperationKind, Callable[[RunLife, OperationKind, str], Transition]] = {
    OperationKind.PAUSE: _late_pause,
    OperationKind.RESUME: _late_resume,
    OperationKind.CANCEL: _late_cancel,
}

_HANDLERS: dict[tuple[RunState, Happening], Callable[[RunLife], Transition]] = {
    (RunState.PENDING, Happening.STARTING): _starting,
    (RunState.PENDING, Happening.STARTED): _started,
    (RunState.STARTING, Happening.STARTED): _started,
    (RunState.PAUSING, Happening.PAUSED): _paused,
    (RunState.RESUMING, Happening.RESUMED): _resumed,
    # After a pause that gave everything back the run starts its roles anew.
    (RunState.RESUMING, Happening.STARTED): _resumed,
}
