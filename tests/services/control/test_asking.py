"""The call x state table, law by law."""

import pytest
from life_builders import (
    ACTIVE,
    BEFORE_RUNNING,
    EVERYTHING,
    OTHER_REQUEST,
    REQUEST,
    RESUME,
    TERMINAL,
    ended,
    intents,
    life,
    opened,
    orders,
    saving,
)

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import (
    Accepted,
    LaunchProcess,
    NotePhase,
    OpenOperation,
    OperationKind,
    Order,
    Refused,
    RunLife,
    WriteIntent,
    cancel,
    pause,
    progressed,
    resume,
)
from services.control.phases import RESTART_TIMEOUT_SECONDS
from services.reports import IntentKind, PauseMode, ReleaseLevel, RunState


@pytest.mark.parametrize("state", BEFORE_RUNNING)
def test_pause_before_running_waits_for_the_start(state: RunState) -> None:
    answer = pause(life(state), REQUEST)
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=state, pause=REQUEST)
    assert opened(answer) == [(OperationKind.PAUSE, "waiting_for_start")]
    assert intents(answer) == [IntentKind.PAUSE]


def test_pause_while_running_closes_the_gate_with_a_deadline() -> None:
    answer = pause(life(RunState.RUNNING), REQUEST)
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life.state is RunState.PAUSING
    assert answer.effects[0] == OpenOperation(kind=OperationKind.PAUSE, phase="draining", timeout_seconds=60.0)
    assert intents(answer) == [IntentKind.PAUSE]


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.STARTING, RunState.PAUSING, RunState.RESUMING])
def test_the_same_pause_again_answers_the_same_operation(state: RunState) -> None:
    waiting = life(state, paused_by=REQUEST)
    answer = pause(waiting, PauseRequest(timeout_seconds=60.0, reason="another remark"))
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert (answer.life, answer.effects, answer.operation) == (waiting, (), OperationKind.PAUSE)


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.STARTING, RunState.PAUSING, RunState.RESUMING])
def test_another_pause_meanwhile_is_refused(state: RunState) -> None:
    answer = pause(life(state, paused_by=REQUEST), OTHER_REQUEST)
    assert isinstance(answer, Refused)
    assert answer.slug == "pause-in-progress"


def test_pause_while_paused_changes_nothing() -> None:
    answer = pause(life(RunState.PAUSED), OTHER_REQUEST)
    assert isinstance(answer, Accepted)
    assert not answer.pending
    assert (answer.life, answer.effects) == (life(RunState.PAUSED), ())


def test_pause_while_resuming_is_queued_and_its_intent_waits() -> None:
    answer = pause(life(RunState.RESUMING), REQUEST)
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=RunState.RESUMING, pause=REQUEST)
    assert opened(answer) == [(OperationKind.PAUSE, "queued")]
    assert intents(answer) == []


@pytest.mark.parametrize("state", TERMINAL)
def test_pause_of_a_finished_run_is_refused(state: RunState) -> None:
    answer = pause(life(state), REQUEST)
    assert isinstance(answer, Refused)
    assert answer.slug == "run-finished"


def test_pause_and_resume_of_a_run_being_cancelled_are_refused() -> None:
    for answer in (pause(life(RunState.CANCELLING), REQUEST), resume(life(RunState.CANCELLING), RESUME)):
        assert isinstance(answer, Refused)
        assert answer.slug == "invalid-transition"


@pytest.mark.parametrize("state", [*BEFORE_RUNNING, RunState.RUNNING])
def test_resume_of_a_run_that_is_not_paused_changes_nothing(state: RunState) -> None:
    answer = resume(life(state), RESUME)
    assert isinstance(answer, Accepted)
    assert not answer.pending
    assert (answer.life, answer.effects, answer.operation) == (life(state), (), None)


@pytest.mark.parametrize("state", BEFORE_RUNNING)
def test_resume_before_running_withdraws_the_waiting_pause(state: RunState) -> None:
    answer = resume(life(state, paused_by=REQUEST), RESUME)
    assert isinstance(answer, Accepted)
    assert not answer.pending
    assert answer.life == RunLife(state=state)
    assert "withdrawn" in ended(answer)[OperationKind.PAUSE]
    assert intents(answer) == [IntentKind.RUN]


def test_resume_while_draining_withdraws_the_pause_and_runs_at_once() -> None:
    answer = resume(life(RunState.PAUSING), RESUME)
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=RunState.RUNNING)
    assert "withdrawn" in ended(answer)[OperationKind.PAUSE]
    assert ended(answer)[OperationKind.RESUME] == ""
    assert intents(answer) == [IntentKind.RUN]


def test_resume_while_paused_opens_the_gate() -> None:
    answer = resume(life(RunState.PAUSED), RESUME)
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=RunState.RESUMING)
    assert opened(answer) == [(OperationKind.RESUME, "reopening")]
    assert intents(answer) == [IntentKind.RUN]


def test_resume_while_resuming_is_the_same_and_withdraws_a_queued_pause() -> None:
    again = resume(life(RunState.RESUMING), RESUME)
    queued = resume(life(RunState.RESUMING, paused_by=REQUEST), RESUME)
    assert isinstance(again, Accepted)
    assert isinstance(queued, Accepted)
    assert again.pending
    assert (again.life, again.effects) == (life(RunState.RESUMING), ())
    assert queued.life == RunLife(state=RunState.RESUMING)
    assert "withdrawn" in ended(queued)[OperationKind.PAUSE]


@pytest.mark.parametrize("state", TERMINAL)
def test_resume_of_a_finished_run_is_refused(state: RunState) -> None:
    answer = resume(life(state), RESUME)
    assert isinstance(answer, Refused)
    assert answer.slug == "run-finished"


@pytest.mark.parametrize("state", [state for state in ACTIVE if state is not RunState.CANCELLING])
def test_cancel_of_an_active_run_cancels_and_ends_what_was_under_way(state: RunState) -> None:
    answer = cancel(life(state), CancelRequest(grace_seconds=5.0))
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=RunState.CANCELLING)
    assert set(ended(answer)) == {OperationKind.PAUSE, OperationKind.RESUME}
    assert OpenOperation(kind=OperationKind.CANCEL, phase="stopping", timeout_seconds=5.0) in answer.effects
    assert intents(answer) == [IntentKind.CANCEL]


def test_cancel_again_is_the_same_operation_and_200_once_cancelled() -> None:
    meanwhile = cancel(life(RunState.CANCELLING), CancelRequest())
    afterwards = cancel(life(RunState.CANCELLED), CancelRequest())
    assert isinstance(meanwhile, Accepted)
    assert isinstance(afterwards, Accepted)
    assert (meanwhile.pending, meanwhile.effects) == (True, ())
    assert (afterwards.pending, afterwards.effects) == (False, ())


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED])
def test_cancel_of_a_run_that_ended_otherwise_is_refused(state: RunState) -> None:
    answer = cancel(life(state), CancelRequest())
    assert isinstance(answer, Refused)
    assert answer.slug == "run-finished"


@pytest.mark.parametrize(
    ("request_", "phase", "checkpoint"),
    [
        (PauseRequest(mode=PauseMode.DRAIN), "draining", True),
        (PauseRequest(mode=PauseMode.ABORT, release=ReleaseLevel.KV_CACHE), "aborting", True),
        (PauseRequest(mode=PauseMode.FREEZE), "freezing", False),
        (PauseRequest(mode=PauseMode.FREEZE, checkpoint=True), "freezing", True),
        (PauseRequest(mode=PauseMode.DRAIN, checkpoint=False), "draining", False),
    ],
)
def test_the_order_says_how_to_stop_and_all_but_a_freeze_save_unless_told(
    request_: PauseRequest, phase: str, checkpoint: bool
) -> None:
    answer = pause(life(RunState.RUNNING), request_)
    assert isinstance(answer, Accepted)
    assert opened(answer) == [(OperationKind.PAUSE, phase)]
    wanted = Order(operation=OperationKind.PAUSE, mode=request_.mode, checkpoint=checkpoint, release=request_.release)
    assert orders(answer) == [wanted]


def test_a_default_that_is_spelled_out_asks_the_same() -> None:
    answer = pause(life(RunState.PAUSING, paused_by=PauseRequest()), PauseRequest(checkpoint=True))
    assert isinstance(answer, Accepted)
    other = pause(life(RunState.PAUSING, paused_by=PauseRequest()), PauseRequest(checkpoint=False))
    assert isinstance(other, Refused)


def test_a_pause_after_a_resume_that_waits_withdraws_the_resume() -> None:
    answer = pause(saving(resume=RESUME), REQUEST)
    assert isinstance(answer, Accepted)
    assert answer.life == saving()
    assert "withdrawn" in ended(answer)[OperationKind.RESUME]
    again = resume(saving(resume=RESUME), RESUME)
    assert isinstance(again, Accepted)
    assert (again.life, again.effects) == (saving(resume=RESUME), ())


@pytest.mark.parametrize(("checkpoint", "is_ordered"), [(True, True), (False, False)])
def test_a_cancel_that_saves_orders_an_abort_with_a_checkpoint(checkpoint: bool, is_ordered: bool) -> None:
    answer = cancel(life(RunState.RUNNING), CancelRequest(checkpoint=checkpoint))
    assert isinstance(answer, Accepted)
    order = Order(operation=OperationKind.CANCEL, mode=PauseMode.ABORT, checkpoint=True)
    assert orders(answer) == [order if is_ordered else None]


@pytest.mark.parametrize(
    "asleep",
    [
        RunLife(state=RunState.PAUSED, pause=EVERYTHING),
        RunLife(state=RunState.PAUSED, pause=REQUEST, process_ended=True),
    ],
)
def test_a_run_goes_on_from_another_checkpoint_where_everything_was_released(asleep: RunLife) -> None:
    answer = resume(asleep, ResumeRequest(from_checkpoint="step-000010"))
    assert isinstance(answer, Accepted)
    (intent,) = (effect for effect in answer.effects if isinstance(effect, WriteIntent))
    assert intent.from_checkpoint == "step-000010"
    (operation,) = (effect for effect in answer.effects if isinstance(effect, OpenOperation))
    assert operation.timeout_seconds == RESTART_TIMEOUT_SECONDS
    launches = [effect for effect in answer.effects if isinstance(effect, LaunchProcess)]
    assert launches == ([LaunchProcess(from_checkpoint="step-000010")] if asleep.process_ended else [])


@pytest.mark.parametrize("state", [state for state in ACTIVE if state is not RunState.CANCELLING])
def test_a_run_that_kept_something_goes_on_from_where_it_is(state: RunState) -> None:
    kept_all = resume(life(state), ResumeRequest(from_checkpoint="step-000010"))
    assert isinstance(kept_all, Refused)
    assert kept_all.slug == "invalid-transition"
    is_paused = state is RunState.PAUSED
    too_early = resume(life(state, paused_by=None if is_paused else EVERYTHING), ResumeRequest(from_checkpoint="a"))
    assert isinstance(too_early, Refused)


def test_a_run_without_a_process_is_cancelled_at_once() -> None:
    answer = cancel(RunLife(state=RunState.PAUSED, pause=REQUEST, process_ended=True), CancelRequest())
    assert isinstance(answer, Accepted)
    assert answer.life == RunLife(state=RunState.CANCELLED)
    assert ended(answer)[OperationKind.CANCEL] == ""
    assert intents(answer) == [IntentKind.CANCEL]


@pytest.mark.parametrize("phase", ["saving", "releasing"])
def test_a_resume_waits_for_a_pause_that_saves_or_releases(phase: str) -> None:
    told = progressed(life(RunState.PAUSING), OperationKind.PAUSE, phase)
    assert told.effects == (NotePhase(kind=OperationKind.PAUSE, phase=phase),)
    answer = resume(told.life, RESUME)
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life.state is RunState.PAUSING
    assert opened(answer) == [(OperationKind.RESUME, "queued")]
    assert intents(answer) == []
    assert ended(answer) == {}


@pytest.mark.parametrize("phase", ["draining", "aborting", "freezing", "shaping_tail", "finishing_step"])
def test_a_resume_withdraws_a_pause_in_every_earlier_phase(phase: str) -> None:
    answer = resume(progressed(life(RunState.PAUSING), OperationKind.PAUSE, phase).life, RESUME)
    assert isinstance(answer, Accepted)
    assert answer.life == RunLife(state=RunState.RUNNING)
