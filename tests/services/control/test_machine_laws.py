"""Laws of the state machine under any order of calls, reports, missed deadlines, lost processes and crashes.

The shell here carries effects out as a control plane does, keeps all in a real store after each step, and at a crash
goes on with what the store has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.control.calls import CancelRequest, OnTimeout, PauseRequest, ResumeRequest, problems_of_pause
from services.control.life import (
    AdvanceOperation,
    Effect,
    EndOperation,
    Happening,
    NotePhase,
    OpenOperation,
    OperationKind,
    Refused,
    RunLife,
    Transition,
    WriteIntent,
)
from services.control.machine import (
    allowed_actions,
    begin_attempt,
    cancel,
    deadline_missed,
    expired,
    happened,
    lost,
    pause,
    progressed,
    resume,
)
from services.control.records import Change, LoggedEvent, Operation, OperationState, RunRecord
from services.control.store import SqlStore, open_store
from services.reports import Intent, IntentKind, PauseMode, PauseOrder, ReleaseLevel, RunDescription, RunState

RUN = "run_a"
DESCRIPTION = RunDescription(
    run_id=RUN, name="a", model="m", algorithm="grpo", shaping="less", seed=0, total_steps=9, recipe_hash="", run_dir=""
)
S = RunState
ENDS = {S.COMPLETED, S.FAILED, S.CANCELLED}
# The diagram of machine.py; what every active state can do beside is in `is_drawn`.
DRAWN = {
    (S.PENDING, S.STARTING),
    (S.PENDING, S.RUNNING),
    (S.PENDING, S.PAUSING),
    (S.STARTING, S.RUNNING),
    (S.STARTING, S.PAUSING),
    (S.RUNNING, S.PAUSING),
    (S.PAUSING, S.RUNNING),
    (S.PAUSING, S.PAUSED),
    (S.PAUSING, S.RESUMING),
    (S.PAUSED, S.RESUMING),
    (S.RESUMING, S.RUNNING),
    (S.RESUMING, S.PAUSING),
}
TRANSITIONAL = {
    S.PAUSING: OperationKind.PAUSE,
    S.RESUMING: OperationKind.RESUME,
    S.CANCELLING: OperationKind.CANCEL,
}
LIFE_KINDS = (OperationKind.PAUSE, OperationKind.RESUME, OperationKind.CANCEL)
TRUE_ANSWERS = {
    S.PENDING: Happening.STARTED,
    S.STARTING: Happening.STARTED,
    S.PAUSING: Happening.PAUSED,
    S.RESUMING: Happening.RESUMED,
    S.CANCELLING: Happening.CANCELLED,
}
PHASES = ("draining", "freezing", "aborting", "shaping_tail", "finishing_step", "saving", "releasing")

ALL_PAUSES = (
    PauseRequest(mode=mode, release=release, on_timeout=harder, ttl_seconds=ttl, ends_with_process=ends)
    for mode, release, harder, ttl, ends in product(PauseMode, ReleaseLevel, OnTimeout, (None, 30.0), (False, True))
)
PAUSES = tuple(request for request in ALL_PAUSES if not problems_of_pause(request))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a control plane holds of the run."""

    record: RunRecord
    operations: dict[str, Operation]

    def open_of(self, kind: OperationKind) -> Operation | None:
        found = [each for each in self.operations.values() if each.kind is kind and each.ended_at is None]
        assert len(found) <= 1, f"{len(found)} operations of kind {kind} are open"
        return found[0] if found else None


class LifeOfARun:
    """Every method is one transition or none, written before the next."""

    def __init__(self, store: SqlStore, state: RunState) -> None:
        self.store = store
        record = RunRecord(
            run_id=RUN,
            description=DESCRIPTION,
            life=RunLife(state=state),
            intent=Intent(generation=1, kind=IntentKind.RUN),
            created_at=0.0,
        )
        self.known = Known(record=record, operations={})
        store.commit(Change(runs=(record,)))

    @property
    def life(self) -> RunLife:
        return self.known.record.life

    def user_pauses(self, request: PauseRequest) -> None:
        self.call(pause(self.life, request))

    def user_pauses_again(self) -> None:
        if self.life.pause is not None:
            self.user_pauses(self.life.pause)

    def user_resumes(self, from_checkpoint: str) -> None:
        self.call(resume(self.life, ResumeRequest(from_checkpoint=from_checkpoint)))

    def user_cancels(self, checkpoint: bool) -> None:
        self.call(cancel(self.life, CancelRequest(checkpoint=checkpoint)))

    def run_reports(self, happening: Happening, ends: bool) -> None:
        self.move(happened(self.life, happening, process_ended=ends), happening=happening)

    def run_answers_truly(self) -> None:
        if says := TRUE_ANSWERS.get(self.life.state):
            self.run_reports(says, ends=False)

    def run_tells_how_far_it_is(self, phase: str) -> None:
        for kind in LIFE_KINDS:
            if self.known.open_of(kind) is not None:
                self.move(progressed(self.life, kind, phase))

    def deadlines_pass(self) -> None:
        for kind in LIFE_KINDS:
            operation = self.known.open_of(kind)
            if operation is not None and operation.deadline_at is not None:
                self.move(deadline_missed(self.life, kind, operation.phase))

    def time_to_live_passes(self) -> None:
        self.move(expired(self.life))

    def process_is_lost(self) -> None:
        self.move(lost(self.life))

    def process_registers(self) -> None:
        self.move(begin_attempt(self.life), is_attempt=True)

    def control_plane_crashes(self) -> None:
        (record,) = self.store.runs()
        operations = {each.operation_id: each for each in self.store.operations(RUN, limit=10_000)}
        assert (record, operations) == (self.known.record, self.known.operations)
        self.known = Known(record=record, operations=operations)

    def check(self) -> None:
        """Everything that always holds."""
        self.check_operations()
        self.check_fields()
        self.check_intent()

    def check_operations(self) -> None:
        """What is in transition has an operation with a deadline; others are open where the life waits for them."""
        life, state = self.life, self.life.state
        if kind := TRANSITIONAL.get(state):
            operation = self.known.open_of(kind)
            assert operation is not None
            assert operation.deadline_at is not None
        waits = life.pause is not None and state is not S.PAUSED
        assert (self.known.open_of(OperationKind.PAUSE) is not None) == waits
        assert (self.known.open_of(OperationKind.CANCEL) is not None) == (state is S.CANCELLING)
        if state is not S.STARTING:
            resuming = self.known.open_of(OperationKind.RESUME)
            assert (resuming is not None) == (state is S.RESUMING or life.resume is not None)

    def check_fields(self) -> None:
        life, state = self.life, self.life.state
        assert state is not S.PAUSING or life.pause is not None
        assert state is not S.PAUSED or life.pause is not None or life.process_ended
        assert life.pause is None or state not in {S.RUNNING, S.CANCELLING, *ENDS}
        assert state is S.PAUSING or not (life.is_escalated or life.phase or life.resume)
        assert state is S.PAUSED or not life.process_ended
        assert state not in ENDS or allowed_actions(life) == ()

    def check_intent(self) -> None:
        """The run is told what it is wanted to do; an order names the operation that waits for it."""
        life, intent = self.life, self.known.record.intent
        if life.state in ENDS:
            return
        wanted = {S.PAUSING: IntentKind.PAUSE, S.RESUMING: IntentKind.RUN}.get(life.state, life.desired)
        assert intent.kind is wanted
        waiting = self.known.open_of(OperationKind.PAUSE)
        if intent.kind is IntentKind.PAUSE and waiting is not None:
            assert intent.order is not None
            assert intent.order.operation_id == waiting.operation_id

    def call(self, answer: Transition | Refused) -> None:
        if isinstance(answer, Transition):
            self.move(answer)

    def move(self, transition: Transition, *, happening: Happening | None = None, is_attempt: bool = False) -> None:
        before, after = self.life.state, transition.life.state
        assert is_drawn(before, after, happening=happening, is_attempt=is_attempt), f"{before} to {after}"
        if before in ENDS and not is_attempt:
            assert (transition.life, transition.effects) == (self.life, ())
        assert after is not S.FAILED or before is S.FAILED or happening is Happening.FAILED or transition.failure
        if (transition.life, transition.effects) == (self.life, ()):
            return
        written = dict(self.known.operations)
        for effect in transition.effects:
            self.carry_out(effect)
        record = replace(self.known.record, life=transition.life)
        self.known = replace(self.known, record=record)
        changed = (each for name, each in self.known.operations.items() if written.get(name) is not each)
        number = self.store.last_sequence() + 1
        told = LoggedEvent(sequence=number, run_id=RUN, at=0.0, kind="moved", message="", state=after)
        self.store.commit(Change(runs=(record,), operations=tuple(changed), events=(told,)))
        self.check()

    def carry_out(self, effect: Effect) -> None:
        if isinstance(effect, WriteIntent):
            self.write_intent(effect)
        elif isinstance(effect, OpenOperation):
            assert self.known.open_of(effect.kind) is None, f"a second {effect.kind} is opened"
            self.put(new_operation(len(self.known.operations), effect))
        elif isinstance(effect, AdvanceOperation):
            operation = self.known.open_of(effect.kind)
            assert operation is not None, f"no {effect.kind} to advance"
            self.put(replace(operation, phase=effect.phase, deadline_at=effect.timeout_seconds))
        elif isinstance(effect, NotePhase):
            if operation := self.known.open_of(effect.kind):
                self.put(replace(operation, phase=effect.phase))
        elif isinstance(effect, EndOperation) and (operation := self.known.open_of(effect.kind)):
            state = OperationState.FAILED if effect.error else OperationState.SUCCEEDED
            self.put(replace(operation, state=state, error=effect.error, ended_at=0.0, deadline_at=None))

    def write_intent(self, effect: WriteIntent) -> None:
        order = None
        if effect.order is not None:
            operation = self.known.open_of(effect.order.operation)
            assert operation is not None, "an order names no open operation"
            order = PauseOrder(
                operation_id=operation.operation_id, mode=effect.order.mode, checkpoint=effect.order.checkpoint
            )
        intent = Intent(
            generation=self.known.record.intent.generation + 1, kind=effect.kind, reason=effect.reason, order=order
        )
        self.known = replace(self.known, record=replace(self.known.record, intent=intent))

    def put(self, operation: Operation) -> None:
        self.known = replace(self.known, operations={**self.known.operations, operation.operation_id: operation})


def new_operation(number: int, effect: OpenOperation) -> Operation:
    return Operation(
        operation_id=f"op_{number}",
        run_id=RUN,
        kind=effect.kind,
        phase=effect.phase,
        state=OperationState.RUNNING,
        reason="",
        requested_by="",
        requested_at=0.0,
        deadline_at=effect.timeout_seconds,
    )


def is_drawn(before: RunState, after: RunState, *, happening: Happening | None, is_attempt: bool) -> bool:
    """Whether the state may change like this, and by this."""
    if after is before:
        return True
    if is_attempt:
        return after is S.STARTING
    if before in ENDS:
        return False
    if after is S.PAUSED:
        return happening is Happening.PAUSED and before is not S.CANCELLING
    if after in ENDS or after is S.CANCELLING:
        return True
    return (before, after) in DRAWN


# A name of a method and what it is called with. What is often in the way of a long life is rare.
USUAL = (
    *[("user_pauses", (request,)) for request in PAUSES],
    *[("user_resumes", (name,)) for name in ("", "", "", "step-000001")] * 6,
    *[("run_tells_how_far_it_is", (phase,)) for phase in PHASES] * 3,
    *[("run_answers_truly", ())] * 30,
    *[("user_pauses_again", ())] * 8,
    *[("deadlines_pass", ()), ("time_to_live_passes", ()), ("control_plane_crashes", ())] * 8,
)
RARE = (
    *[("run_reports", (happening, ends)) for happening, ends in product(Happening, (False, True))],
    *[("user_cancels", (checkpoint,)) for checkpoint in (False, True)] * 3,
    *[("process_is_lost", ()), ("process_registers", ())] * 8,
)
actions = st.lists(st.sampled_from(USUAL * 2 + RARE), min_size=20, max_size=60)


@pytest.fixture(scope="module")
def store() -> Iterator[SqlStore]:
    opened = open_store(":memory:")
    yield opened
    opened.close()


@settings(max_examples=200, deadline=None)
@given(actions=actions, state=st.sampled_from([S.PENDING, S.STARTING, S.RUNNING]))
def test_no_order_of_what_can_happen_leads_to_an_illegal_life_or_one_without_a_way_out(
    store: SqlStore, actions: list[tuple[str, tuple[Any, ...]]], state: RunState
) -> None:
    run = LifeOfARun(store, state)
    try:
        for name, arguments in actions:
            getattr(run, name)(*arguments)
        # Whatever came before, four true answers of the run's process are enough.
        for _ in range(4):
            run.run_answers_truly()
        assert run.life.state not in TRUE_ANSWERS
    finally:
        store.delete_run(RUN)
