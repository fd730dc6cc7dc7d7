"""The call x state table and the diagram of the run's life, law by law."""

import pytest

from services.reports import IntentKind, RunState
from services.run_calls import CancelRequest, PauseRequest
from services.run_state import (
    Accepted,
    AdvanceOperation,
    Announce,
    EndOperation,
    Happening,
    OpenOperation,
    OperationKind,
    Refused,
    RunLife,
    Transition,
    WriteIntent,
    cancel,
    deadline_missed,
    happened,
    pause,
    resume,
)

REQUEST = PauseRequest(timeout_seconds=60.0, reason="maintenance")
OTHER_REQUEST = PauseRequest(timeout_seconds=61.0)
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
    for answer in (pause(life(RunState.CANCELLING), REQUEST), resume(life(RunState.CANCELLING))):
        assert isinstance(answer, Refused)
        assert answer.slug == "invalid-transition"


@pytest.mark.parametrize(
    ("member", "value", "exists"),
    [
        ("mode", "freeze", '"drain"'),
        ("mode", "abort", '"drain"'),
        ("mode", "soft", '"drain"'),
        ("release", "kv_cache", '"none"'),
        ("release", "rollout_weights", '"none"'),
        ("release", "all", '"none"'),
        ("on_timeout", "freeze", '"fail"'),
        ("checkpoint", True, "false"),
        ("ttl_seconds", 60.0, "null"),
        ("timeout_seconds", 0.0, "> 0"),
        ("timeout_seconds", float("nan"), "> 0"),
    ],
)
def test_a_pause_that_does_not_exist_names_the_member_and_what_exists(member: str, value: object, exists: str) -> None:
    for state in ACTIVE:
        answer = pause(life(state), PauseRequest(**{member: value}))  # type: ignore[arg-type]
        assert isinstance(answer, Refused)
        assert answer.slug == "validation"
        (problem,) = answer.problems
        assert problem.pointer == f"#/{member}"
        assert exists in problem.message


def test_defined_but_missing_values_are_told_from_unknown_ones() -> None:
    missing, unknown = pause(RunLife(), PauseRequest(mode="freeze")), pause(RunLife(), PauseRequest(mode="soft"))
    assert isinstance(missing, Refused)
    assert isinstance(unknown, Refused)
    assert "not built yet" in missing.detail
    assert "unknown" in unknown.detail


@pytest.mark.parametrize("state", [*BEFORE_RUNNING, RunState.RUNNING])
def test_resume_of_a_run_that_is_not_paused_changes_nothing(state: RunState) -> None:
    answer = resume(life(state))
    assert isinstance(answer, Accepted)
    assert not answer.pending
    assert (answer.life, answer.effects, answer.operation) == (life(state), (), None)


@pytest.mark.parametrize("state", BEFORE_RUNNING)
def test_resume_before_running_withdraws_the_waiting_pause(state: RunState) -> None:
    answer = resume(life(state, paused_by=REQUEST))
    assert isinstance(answer, Accepted)
    assert not answer.pending
    assert answer.life == RunLife(state=state)
    assert "withdrawn" in ended(answer)[OperationKind.PAUSE]
    assert intents(answer) == [IntentKind.RUN]


def test_resume_while_draining_withdraws_the_pause_and_runs_at_once() -> None:
    answer = resume(life(RunState.PAUSING))
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=RunState.RUNNING)
    assert "withdrawn" in ended(answer)[OperationKind.PAUSE]
    assert ended(answer)[OperationKind.RESUME] == ""
    assert intents(answer) == [IntentKind.RUN]


def test_resume_while_paused_opens_the_gate() -> None:
    answer = resume(life(RunState.PAUSED))
    assert isinstance(answer, Accepted)
    assert answer.pending
    assert answer.life == RunLife(state=RunState.RESUMING)
    assert opened(answer) == [(OperationKind.RESUME, "reopening")]
    assert intents(answer) == [IntentKind.RUN]


def test_resume_while_resuming_is_the_same_and_withdraws_a_queued_pause() -> None:
    again = resume(life(RunState.RESUMING))
    queued = resume(life(RunState.RESUMING, paused_by=REQUEST))
    assert isinstance(again, Accepted)
    assert isinstance(queued, Accepted)
    assert again.pending
    assert (again.life, again.effects) == (life(RunState.RESUMING), ())
    assert queued.life == RunLife(state=RunState.RESUMING)
    assert "withdrawn" in ended(queued)[OperationKind.PAUSE]


@pytest.mark.parametrize("state", TERMINAL)
def test_resume_of_a_finished_run_is_refused(state: RunState) -> None:
    answer = resume(life(state))
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


@pytest.mark.parametrize(("member", "value"), [("checkpoint", True), ("grace_seconds", 0.0)])
def test_a_cancel_that_does_not_exist_names_the_member(member: str, value: object) -> None:
    answer = cancel(life(RunState.RUNNING), CancelRequest(**{member: value}))  # type: ignore[arg-type]
    assert isinstance(answer, Refused)
    assert [problem.pointer for problem in answer.problems] == [f"#/{member}"]


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
    assert step.effects == (AdvanceOperation(kind=OperationKind.PAUSE, phase="draining", timeout_seconds=60.0),)


def test_drained_makes_a_pausing_run_paused() -> None:
    step = happened(life(RunState.PAUSING), Happening.DRAINED)
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
    assert set(errors) == set(OperationKind)
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
        (RunState.RUNNING, Happening.DRAINED),
        (RunState.RESUMING, Happening.DRAINED),
        (RunState.CANCELLING, Happening.DRAINED),
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


@pytest.mark.parametrize(
    ("state", "kind"), [(RunState.RESUMING, OperationKind.RESUME), (RunState.CANCELLING, OperationKind.CANCEL)]
)
def test_a_late_resume_or_cancel_fails_its_operation_and_is_waited_for(state: RunState, kind: OperationKind) -> None:
    step = deadline_missed(life(state), kind, "stopping")
    assert step.life == life(state)
    assert ended(step)[kind]
    assert [effect.kind for effect in step.effects if isinstance(effect, Announce)] == [f"{kind}_overdue"]
