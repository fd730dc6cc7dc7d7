"""What becomes of a run's life: its reports, deadlines and processes, law by law."""

import pytest
from life_builders import (
    ACTIVE,
    BEFORE_RUNNING,
    REQUEST,
    RESUME,
    TERMINAL,
    advanced,
    announced,
    ended,
    intents,
    life,
    opened,
    orders,
    saving,
)

from services.control.calls import OnTimeout, PauseRequest
from services.control.machine import (
    AdvanceOperation,
    Announce,
    Happening,
    KillProcess,
    LaunchProcess,
    NotePhase,
    OperationKind,
    Order,
    RunLife,
    Transition,
    allowed_actions,
    begin_attempt,
    deadline_missed,
    expired,
    happened,
    lost,
    progressed,
)
from services.control.phases import KILL_TIMEOUT_SECONDS, RESTART_TIMEOUT_SECONDS, RESUME_TIMEOUT_SECONDS
from services.reports import IntentKind, PauseMode, ReleaseLevel, RunState


def test_the_run_starts_and_completes() -> None:
    now = RunLife()
    for happening, state in (
        (Happening.STARTING, RunState.STARTING),
        (Happening.STARTED, RunState.RUNNING),
        (Happening.COMPLETED, RunState.COMPLETED),
    ):
        now = happened(now, happening).life
        assert now.state is state


@pytest.mark.parametrize("state", BEFORE_RUNNING)
def test_a_start_with_a_waiting_pause_drains_and_its_deadline_begins_there(state: RunState) -> None:
    step = happened(life(state, paused_by=REQUEST), Happening.STARTED)
    assert step.life == life(RunState.PAUSING)
    assert AdvanceOperation(kind=OperationKind.PAUSE, phase="draining", timeout_seconds=60.0) in step.effects
    assert intents(step) == []


def test_drained_makes_a_pausing_run_paused() -> None:
    step = happened(life(RunState.PAUSING), Happening.PAUSED)
    assert step.life == life(RunState.PAUSED)
    assert ended(step) == {OperationKind.PAUSE: ""}


def test_resumed_makes_a_resuming_run_run() -> None:
    step = happened(life(RunState.RESUMING), Happening.RESUMED)
    assert step.life == RunLife(state=RunState.RUNNING)
    assert ended(step) == {OperationKind.RESUME: ""}


def test_resumed_with_a_queued_pause_drains_again_and_writes_the_intent_only_now() -> None:
    step = happened(life(RunState.RESUMING, paused_by=REQUEST), Happening.RESUMED)
    assert step.life == life(RunState.PAUSING)
    assert ended(step) == {OperationKind.RESUME: ""}
    assert intents(step) == [IntentKind.PAUSE]


@pytest.mark.parametrize("state", ACTIVE)
@pytest.mark.parametrize("happening", [Happening.COMPLETED, Happening.FAILED, Happening.CANCELLED])
def test_an_end_is_taken_in_every_active_state_and_ends_every_operation(state: RunState, happening: Happening) -> None:
    step = happened(life(state), happening)
    assert step.life == RunLife(state=RunState(happening.value))
    errors = ended(step)
    assert set(errors) == {OperationKind.PAUSE, OperationKind.RESUME, OperationKind.CANCEL}
    assert errors[OperationKind.PAUSE] and errors[OperationKind.RESUME]
    assert (errors[OperationKind.CANCEL] == "") == (happening is Happening.CANCELLED)


@pytest.mark.parametrize("state", TERMINAL)
@pytest.mark.parametrize("happening", list(Happening))
def test_terminal_states_never_change(state: RunState, happening: Happening) -> None:
    assert happened(life(state), happening).life == life(state)
    assert happened(life(state), happening).effects == ()


@pytest.mark.parametrize(
    ("state", "happening"),
    [
        (RunState.RUNNING, Happening.PAUSED),
        (RunState.RESUMING, Happening.PAUSED),
        (RunState.CANCELLING, Happening.PAUSED),
        (RunState.PAUSING, Happening.RESUMED),
        (RunState.PAUSED, Happening.RESUMED),
        (RunState.RUNNING, Happening.STARTED),
        (RunState.CANCELLING, Happening.STARTED),
    ],
)
def test_a_report_that_a_call_overtook_changes_nothing(state: RunState, happening: Happening) -> None:
    step = happened(life(state), happening)
    assert (step.life, step.effects) == (life(state), ())


def test_a_pause_that_misses_its_deadline_goes_back_to_running_and_says_so() -> None:
    step = deadline_missed(life(RunState.PAUSING), OperationKind.PAUSE, "draining")
    assert step.life == RunLife(state=RunState.RUNNING)
    assert "draining" in ended(step)[OperationKind.PAUSE]
    assert intents(step) == [IntentKind.RUN]
    assert [effect.kind for effect in step.effects if isinstance(effect, Announce)] == ["pause_failed"]


def test_a_resume_that_waited_begins_with_its_deadline_once_the_run_is_paused() -> None:
    step = happened(saving(resume=RESUME), Happening.PAUSED)
    assert step.life == RunLife(state=RunState.RESUMING)
    assert ended(step) == {OperationKind.PAUSE: ""}
    assert advanced(step) == {OperationKind.RESUME: ("reopening", RESUME_TIMEOUT_SECONDS)}
    assert intents(step) == [IntentKind.RUN]


def test_progress_of_an_operation_that_is_not_under_way_changes_nothing() -> None:
    running = life(RunState.RUNNING)
    for kind in (OperationKind.PAUSE, OperationKind.RESUME, OperationKind.CANCEL):
        assert progressed(running, kind, "saving") == Transition(life=running)


def test_progress_of_something_else_is_no_phase_of_a_pause() -> None:
    step = progressed(life(RunState.PAUSING), OperationKind.CHECKPOINT, "saving")
    assert step.life == life(RunState.PAUSING)
    assert step.effects == (NotePhase(kind=OperationKind.CHECKPOINT, phase="saving"),)


def test_a_pause_that_the_run_could_not_make_lets_it_go_on() -> None:
    step = happened(saving(resume=RESUME), Happening.PAUSE_FAILED, error="the disk is full")
    assert step.life == RunLife(state=RunState.RUNNING)
    assert ended(step) == {OperationKind.PAUSE: "the disk is full", OperationKind.RESUME: ""}
    assert intents(step) == [IntentKind.RUN]
    paused = life(RunState.PAUSED)
    assert happened(paused, Happening.PAUSE_FAILED) == Transition(life=paused)


@pytest.mark.parametrize("harder", [OnTimeout.FREEZE, OnTimeout.ABORT])
def test_harder_means_take_over_once_with_the_same_timeout_and_keep_what_was_promised(harder: OnTimeout) -> None:
    request = PauseRequest(timeout_seconds=60.0, on_timeout=harder)
    first = deadline_missed(life(RunState.PAUSING, paused_by=request), OperationKind.PAUSE, "draining")
    assert first.life == RunLife(state=RunState.PAUSING, pause=request, is_escalated=True)
    phase = {OnTimeout.FREEZE: "freezing", OnTimeout.ABORT: "aborting"}[harder]
    assert advanced(first) == {OperationKind.PAUSE: (phase, 60.0)}
    assert orders(first) == [Order(operation=OperationKind.PAUSE, mode=PauseMode(harder.value), checkpoint=True)]
    assert announced(first) == ["pause_escalated"]
    second = deadline_missed(first.life, OperationKind.PAUSE, phase)
    assert second.life == RunLife(state=RunState.RUNNING)
    assert phase in ended(second)[OperationKind.PAUSE]
    assert announced(second) == ["pause_failed"]


@pytest.mark.parametrize("phase", ["saving", "releasing"])
def test_harder_means_do_not_help_a_pause_that_saves_or_releases(phase: str) -> None:
    request = PauseRequest(on_timeout=OnTimeout.ABORT)
    step = deadline_missed(life(RunState.PAUSING, paused_by=request), OperationKind.PAUSE, phase)
    assert step.life == RunLife(state=RunState.RUNNING)
    assert phase in ended(step)[OperationKind.PAUSE]


def test_a_late_pause_with_a_resume_waiting_gives_the_resume_what_it_wants() -> None:
    step = deadline_missed(saving(resume=RESUME), OperationKind.PAUSE, "saving")
    assert step.life == RunLife(state=RunState.RUNNING)
    assert ended(step)[OperationKind.RESUME] == ""


def test_a_late_resume_is_told_and_waited_for_with_another_deadline() -> None:
    step = deadline_missed(life(RunState.RESUMING), OperationKind.RESUME, "reopening")
    assert step.life == life(RunState.RESUMING)
    assert advanced(step) == {OperationKind.RESUME: ("overdue", RESUME_TIMEOUT_SECONDS)}
    assert announced(step) == ["resume_overdue"]


def test_a_cancel_past_its_grace_kills_the_process_and_its_loss_ends_the_run_as_cancelled() -> None:
    step = deadline_missed(life(RunState.CANCELLING), OperationKind.CANCEL, "saving")
    assert step.life == life(RunState.CANCELLING)
    assert KillProcess() in step.effects
    assert advanced(step) == {OperationKind.CANCEL: ("killing", KILL_TIMEOUT_SECONDS)}
    assert announced(step) == ["cancel_overdue"]
    gone = lost(step.life)
    assert gone.life == RunLife(state=RunState.CANCELLED)
    assert ended(gone)[OperationKind.CANCEL] == ""


def test_a_process_that_nobody_sees_end_is_not_called_cancelled() -> None:
    step = deadline_missed(life(RunState.CANCELLING), OperationKind.CANCEL, "killing")
    assert step.life == RunLife(state=RunState.FAILED)
    assert step.failure
    assert ended(step)[OperationKind.CANCEL]


def test_a_late_task_fails_and_the_run_goes_on_as_it_was() -> None:
    step = deadline_missed(life(RunState.RUNNING), OperationKind.EVAL, "waiting")
    assert step.life == life(RunState.RUNNING)
    assert "waiting" in ended(step)[OperationKind.EVAL]


@pytest.mark.parametrize("kind", [OperationKind.PAUSE, OperationKind.RESUME, OperationKind.CANCEL])
def test_a_deadline_of_what_is_over_changes_nothing(kind: OperationKind) -> None:
    for state in (RunState.RUNNING, RunState.PAUSED, *TERMINAL):
        assert deadline_missed(life(state), kind, "draining") == Transition(life=life(state))


def test_a_paused_run_expires_only_with_a_time_to_live() -> None:
    forever = life(RunState.PAUSED)
    assert expired(forever) == Transition(life=forever)
    step = expired(life(RunState.PAUSED, paused_by=PauseRequest(ttl_seconds=5.0)))
    assert step.life == RunLife(state=RunState.RESUMING)
    assert opened(step) == [(OperationKind.RESUME, "reopening")]
    assert intents(step) == [IntentKind.RUN]
    pausing = life(RunState.PAUSING, paused_by=PauseRequest(ttl_seconds=5.0))
    assert expired(pausing) == Transition(life=pausing)


def test_a_process_that_ends_on_purpose_leaves_a_paused_run_that_can_be_lost_no_more() -> None:
    step = happened(saving(), Happening.PAUSED, process_ended=True)
    assert step.life == RunLife(state=RunState.PAUSED, pause=REQUEST, process_ended=True)
    assert ended(step)[OperationKind.PAUSE] == ""
    assert lost(step.life) == Transition(life=step.life)
    unasked = happened(life(RunState.RUNNING), Happening.PAUSED, process_ended=True)
    assert unasked.life == RunLife(state=RunState.PAUSED, process_ended=True)
    assert allowed_actions(unasked.life) == ("resume", "cancel")


@pytest.mark.parametrize("state", [state for state in ACTIVE if state is not RunState.CANCELLING])
def test_a_lost_process_fails_the_run_with_a_cause(state: RunState) -> None:
    step = lost(life(state))
    assert step.life == RunLife(state=RunState.FAILED)
    assert state.value in step.failure


@pytest.mark.parametrize("state", [RunState.PENDING, RunState.STARTING, RunState.RUNNING, RunState.RESUMING])
def test_a_new_process_starts(state: RunState) -> None:
    step = begin_attempt(life(state))
    assert step.life == RunLife(state=RunState.STARTING)
    assert intents(step) == []


def test_a_resume_that_needs_a_new_process_is_done_when_that_has_started() -> None:
    step = begin_attempt(life(RunState.RESUMING))
    assert advanced(step) == {OperationKind.RESUME: ("waiting_for_start", None)}
    assert ended(happened(step.life, Happening.STARTED)) == {OperationKind.RESUME: ""}


@pytest.mark.parametrize("state", [RunState.PAUSING, RunState.PAUSED])
def test_a_run_that_was_to_be_paused_is_paused_again_by_the_next_process(state: RunState) -> None:
    step = begin_attempt(RunLife(state=state, pause=REQUEST, is_escalated=state is RunState.PAUSING))
    assert step.life == RunLife(state=RunState.STARTING, pause=REQUEST)
    order = Order(operation=OperationKind.PAUSE, mode=PauseMode.DRAIN, checkpoint=True)
    assert orders(step) == [order]
    if state is RunState.PAUSING:
        assert advanced(step) == {OperationKind.PAUSE: ("waiting_for_start", None)}
    else:
        assert opened(step) == [(OperationKind.PAUSE, "waiting_for_start")]
    assert happened(step.life, Happening.STARTED).life == life(RunState.PAUSING)


@pytest.mark.parametrize("state", [RunState.STARTING, RunState.PAUSING, RunState.PAUSED])
def test_a_pause_of_the_system_ends_with_the_process_it_was_for(state: RunState) -> None:
    of_system = PauseRequest(mode=PauseMode.ABORT, release=ReleaseLevel.ALL, ends_with_process=True)
    step = begin_attempt(RunLife(state=state, pause=of_system, process_ended=state is RunState.PAUSED))
    assert step.life == RunLife(state=RunState.STARTING)
    assert intents(step) == [IntentKind.RUN]
    assert ended(step)[OperationKind.PAUSE]


def test_a_resume_that_waited_for_a_pause_of_a_dead_process_is_done_by_the_next_one() -> None:
    step = begin_attempt(saving(resume=RESUME))
    assert step.life == RunLife(state=RunState.STARTING)
    assert ended(step)[OperationKind.PAUSE]
    assert advanced(step) == {OperationKind.RESUME: ("waiting_for_start", None)}
    assert intents(step) == [IntentKind.RUN]


def test_a_cancelling_run_stays_so_and_an_ended_one_starts_anew() -> None:
    assert begin_attempt(life(RunState.CANCELLING)) == Transition(life=life(RunState.CANCELLING))
    for state in TERMINAL:
        step = begin_attempt(life(state))
        assert step.life == RunLife(state=RunState.STARTING)
        assert intents(step) == [IntentKind.RUN]


@pytest.mark.parametrize("state", TERMINAL)
def test_nothing_but_a_new_process_leaves_a_terminal_state(state: RunState) -> None:
    over = life(state)
    assert lost(over) == expired(over) == progressed(over, OperationKind.PAUSE, "saving") == Transition(life=over)
    assert allowed_actions(over) == ()


def test_a_pause_that_a_resume_waits_for_is_not_pressed_on_with() -> None:
    harder = PauseRequest(on_timeout=OnTimeout.ABORT)
    step = deadline_missed(
        RunLife(state=RunState.PAUSING, pause=harder, resume=RESUME), OperationKind.PAUSE, "shaping_tail"
    )
    assert step.life == RunLife(state=RunState.RUNNING)


def test_harder_means_begin_with_phases_of_their_own() -> None:
    harder = RunLife(state=RunState.PAUSING, pause=PauseRequest(on_timeout=OnTimeout.ABORT), phase="shaping_tail")
    assert deadline_missed(harder, OperationKind.PAUSE, "shaping_tail").life.phase == ""


def test_a_resume_that_waited_for_a_process_to_end_launches_the_next_one() -> None:
    step = happened(saving(resume=RESUME), Happening.PAUSED, process_ended=True)
    assert step.life == RunLife(state=RunState.RESUMING)
    assert advanced(step) == {OperationKind.RESUME: ("reopening", RESTART_TIMEOUT_SECONDS)}
    assert LaunchProcess() in step.effects


def test_a_process_that_ends_while_the_run_is_cancelled_leaves_that_to_its_loss() -> None:
    cancelling = life(RunState.CANCELLING)
    assert happened(cancelling, Happening.PAUSED, process_ended=True) == Transition(life=cancelling)


def test_a_pause_that_waited_for_a_resume_is_told_when_the_process_ends_instead() -> None:
    step = happened(life(RunState.RESUMING, paused_by=REQUEST), Happening.PAUSED, process_ended=True)
    assert step.life == RunLife(state=RunState.PAUSED, pause=REQUEST, process_ended=True)
    assert intents(step) == [IntentKind.PAUSE]
    assert ended(step)[OperationKind.PAUSE] == ""
    assert ended(step)[OperationKind.RESUME]
    nothing_waits = happened(life(RunState.RESUMING), Happening.PAUSED, process_ended=True)
    assert intents(nothing_waits) == []
