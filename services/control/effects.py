"""What the pure machine decides, carried out on a draft."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.control.draft import Cause, Draft
from services.control.life import (
    AdvanceOperation,
    Announce,
    EndOperation,
    KillProcess,
    LaunchProcess,
    NotePhase,
    OpenOperation,
    Order,
    Transition,
    WriteIntent,
)
from services.reports import Failure, PauseOrder

LATEST = "latest"


def move(draft: Draft, transition: Transition, cause: Cause) -> None:
    """The effects in order, then the change of state and its event."""
    for effect in transition.effects:
        _EFFECTS[type(effect)](draft, effect, cause)
    if transition.failure and draft.record.failure is None:
        draft.record = replace(draft.record, failure=Failure(role="orchestrator", cause=transition.failure))
    draft.enter(transition.life, transition.failure or cause.reason)


def _write_intent(draft: Draft, effect: WriteIntent, _: Cause) -> None:
    order = _order(draft, effect.order) if effect.order else None
    draft.rewrite_intent(
        rises=True, kind=effect.kind, reason=effect.reason, order=order, from_checkpoint=effect.from_checkpoint
    )


def _order(draft: Draft, order: Order) -> PauseOrder:
    operation = draft.open_of(order.operation)
    assert operation is not None, "an order is of an open operation"
    return PauseOrder(
        operation_id=operation.operation_id, mode=order.mode, checkpoint=order.checkpoint, release=order.release
    )


def _open(draft: Draft, effect: OpenOperation, cause: Cause) -> None:
    draft.begin(effect.kind, effect.phase, cause, timeout_seconds=effect.timeout_seconds)


def _advance(draft: Draft, effect: AdvanceOperation, _: Cause) -> None:
    if operation := draft.open_of(effect.kind):
        draft.advance(operation, effect.phase, effect.timeout_seconds)


def _note(draft: Draft, effect: NotePhase, _: Cause) -> None:
    if operation := draft.open_of(effect.kind):
        draft.progress(operation, effect.phase, operation.progress, operation.inflight_groups)


def _end(draft: Draft, effect: EndOperation, cause: Cause) -> None:
    if operation := draft.open_of(effect.kind):
        draft.end(operation, error=effect.error, result=None if effect.error else cause.result)


def _announce(draft: Draft, effect: Announce, _: Cause) -> None:
    draft.log(effect.kind, effect.message)


def _kill(draft: Draft, _: KillProcess, __: Cause) -> None:
    draft.must_kill = True


def _launch(draft: Draft, effect: LaunchProcess, _: Cause) -> None:
    draft.record = replace(draft.record, launch_from=effect.from_checkpoint or LATEST)


_EFFECTS: dict[type, Callable[[Draft, Any, Cause], None]] = {
    WriteIntent: _write_intent,
    OpenOperation: _open,
    AdvanceOperation: _advance,
    NotePhase: _note,
    EndOperation: _end,
    Announce: _announce,
    KillProcess: _kill,
    LaunchProcess: _launch,
}
