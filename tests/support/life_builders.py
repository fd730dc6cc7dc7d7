"""Lives of a run at a state, and what a transition holds, by kind of effect."""

from services.control.calls import PauseRequest, ResumeRequest
from services.control.machine import (
    AdvanceOperation,
    Announce,
    EndOperation,
    OpenOperation,
    OperationKind,
    Order,
    RunLife,
    Transition,
    WriteIntent,
)
from services.reports import IntentKind, ReleaseLevel, RunState

REQUEST = PauseRequest(timeout_seconds=60.0, reason="maintenance")
OTHER_REQUEST = PauseRequest(timeout_seconds=61.0)
RESUME = ResumeRequest(reason="done")
EVERYTHING = PauseRequest(release=ReleaseLevel.ALL)
TERMINAL = (RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED)
BEFORE_RUNNING = (RunState.PENDING, RunState.STARTING)
ACTIVE = tuple(state for state in RunState if not state.is_terminal)


def life(state: RunState, *, paused_by: PauseRequest | None = None) -> RunLife:
    if paused_by is None and state in (RunState.PAUSING, RunState.PAUSED):
        paused_by = REQUEST
    return RunLife(state=state, pause=paused_by)


def intents(answer: Transition) -> list[IntentKind]:
    return [effect.kind for effect in answer.effects if isinstance(effect, WriteIntent)]


def opened(answer: Transition) -> list[tuple[OperationKind, str]]:
    return [(effect.kind, effect.phase) for effect in answer.effects if isinstance(effect, OpenOperation)]


def ended(answer: Transition) -> dict[OperationKind, str]:
    return {effect.kind: effect.error for effect in answer.effects if isinstance(effect, EndOperation)}


def orders(answer: Transition) -> list[Order | None]:
    return [effect.order for effect in answer.effects if isinstance(effect, WriteIntent)]


def announced(answer: Transition) -> list[str]:
    return [effect.kind for effect in answer.effects if isinstance(effect, Announce)]


def advanced(answer: Transition) -> dict[OperationKind, tuple[str, float | None]]:
    steps = (effect for effect in answer.effects if isinstance(effect, AdvanceOperation))
    return {step.kind: (step.phase, step.timeout_seconds) for step in steps}


def saving(**members: object) -> RunLife:
    """A run that is being paused, and writes its checkpoint."""
    return RunLife(state=RunState.PAUSING, pause=REQUEST, phase="saving", **members)  # type: ignore[arg-type]
