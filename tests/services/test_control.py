"""The control plane: reports and calls in, intents, operations and events out. Time is a number that the test moves."""

import asyncio

from report_builders import Clock, make_description, make_evaluation, make_event, make_step, make_worker

from services.catalogue_entries import catalogue
from services.control import ControlPlane, Operation, OperationState
from services.metrics import RunMetrics
from services.reports import Failure, IntentKind, RunState
from services.run_calls import CancelRequest, PauseRequest
from services.run_state import Accepted, Happening, OperationKind, Refused


def make_control() -> tuple[ControlPlane, RunMetrics, Clock]:
    clock = Clock()
    metrics = RunMetrics(make_description(), catalogue=catalogue(), version="0.1.0", clock=clock)
    return ControlPlane(make_description(), metrics=metrics, clock=clock), metrics, clock


async def running_control() -> tuple[ControlPlane, RunMetrics, Clock]:
    control, metrics, clock = make_control()
    await control.report(make_event(Happening.STARTED))
    return control, metrics, clock


def latest(control: ControlPlane, kind: OperationKind) -> Operation:
    operation = control.latest_operation(kind)
    assert operation is not None
    return operation


def sample(metrics: RunMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, {"run_id": "run-1", **labels})


async def test_the_first_intent_is_to_run_and_needs_no_wait() -> None:
    control, _, _ = make_control()
    intent = await asyncio.wait_for(control.intent_after(0), 1)
    assert (intent.generation, intent.kind) == (1, IntentKind.RUN)


async def test_a_waiting_orchestrator_hears_of_a_pause_with_its_reason() -> None:
    control, _, _ = await running_control()
    waiting = asyncio.create_task(control.intent_after(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    control.pause(PauseRequest(reason="maintenance"))
    intent = await asyncio.wait_for(waiting, 1)
    assert (intent.generation, intent.kind, intent.reason) == (2, IntentKind.PAUSE, "maintenance")


async def test_an_intent_is_observed_when_its_successor_is_asked_for() -> None:
    control, _, _ = make_control()
    assert control.observed_generation == 0
    await control.intent_after(0)
    assert control.observed_generation == 0
    waiting = asyncio.create_task(control.intent_after(1))
    await asyncio.sleep(0)
    assert control.observed_generation == 1
    waiting.cancel()


async def test_only_the_newest_of_several_intents_is_handed_out() -> None:
    control, _, _ = await running_control()
    control.pause(PauseRequest())
    control.resume()
    intent = await control.intent_after(1)
    assert (intent.generation, intent.kind) == (3, IntentKind.RUN)


async def test_a_pause_goes_through_its_phases() -> None:
    control, metrics, clock = await running_control()
    control.pause(PauseRequest(timeout_seconds=60.0))
    operation = latest(control, OperationKind.PAUSE)
    assert (operation.phase, operation.state, operation.deadline_at) == ("draining", OperationState.RUNNING, 1060.0)
    clock.now = 1010.0
    await control.report(make_event(Happening.DRAINED, state=RunState.PAUSED))
    operation = latest(control, OperationKind.PAUSE)
    assert control.life.state is RunState.PAUSED
    assert (operation.phase, operation.state, operation.ended_at) == ("done", OperationState.SUCCEEDED, 1010.0)
    assert sample(metrics, "less_run_pauses_total", mode="drain", result="succeeded") == 1
    control.resume()
    await control.report(make_event(Happening.RESUMED))
    assert control.life.state is RunState.RUNNING
    assert [each.kind for each in control.operations()] == [OperationKind.PAUSE, OperationKind.RESUME]


async def test_a_pause_that_misses_its_deadline_fails_and_the_run_goes_on() -> None:
    control, metrics, clock = await running_control()
    control.pause(PauseRequest(timeout_seconds=60.0))
    control.tick(1059.9)
    assert control.life.state is RunState.PAUSING
    clock.now = 1060.0
    control.tick(1060.0)
    operation = latest(control, OperationKind.PAUSE)
    assert control.life.state is RunState.RUNNING
    assert operation.state is OperationState.FAILED
    assert "draining" in operation.error
    assert control.intent.kind is IntentKind.RUN
    assert [each.kind for each in control.events(limit=100)].count("pause_failed") == 1
    assert sample(metrics, "less_run_pauses_total", mode="drain", result="failed") == 1


async def test_a_run_that_drains_after_its_pause_gave_up_stays_running() -> None:
    control, _, _ = await running_control()
    control.pause(PauseRequest(timeout_seconds=1.0))
    control.tick(2000.0)
    await control.report(make_event(Happening.DRAINED, state=RunState.PAUSED))
    assert control.life.state is RunState.RUNNING


async def test_a_pause_before_the_start_has_no_deadline_until_the_run_starts() -> None:
    control, _, clock = make_control()
    control.pause(PauseRequest(timeout_seconds=60.0))
    control.tick(9999.0)
    assert latest(control, OperationKind.PAUSE).deadline_at is None
    clock.now = 2000.0
    await control.report(make_event(Happening.STARTED))
    operation = latest(control, OperationKind.PAUSE)
    assert (operation.phase, operation.deadline_at) == ("draining", 2060.0)


async def test_a_late_resume_fails_its_operation_once_and_still_resumes() -> None:
    control, _, _ = await running_control()
    control.pause(PauseRequest())
    await control.report(make_event(Happening.DRAINED, state=RunState.PAUSED))
    control.resume()
    control.tick(9000.0)
    control.tick(9001.0)
    assert latest(control, OperationKind.RESUME).state is OperationState.FAILED
    assert [each.kind for each in control.events(limit=100)].count("resume_overdue") == 1
    await control.report(make_event(Happening.RESUMED))
    assert control.life.state is RunState.RUNNING


async def test_cancel_ends_the_run_and_its_operation() -> None:
    control, _, clock = await running_control()
    assert isinstance(control.cancel(CancelRequest(reason="enough")), Accepted)
    clock.now = 1003.0
    await control.report(make_event(Happening.CANCELLED, state=RunState.CANCELLED))
    assert control.life.state is RunState.CANCELLED
    assert latest(control, OperationKind.CANCEL).state is OperationState.SUCCEEDED
    assert control.finished_at == 1003.0
    assert isinstance(control.pause(PauseRequest()), Refused)


async def test_a_failure_keeps_its_first_cause() -> None:
    control, _, _ = await running_control()
    first = Failure(role="learner", cause="loss is not finite", group_id="g7")
    await control.report(make_event(Happening.FAILED, "learner: loss is not finite", RunState.FAILED, failure=first))
    second = Failure(role="rollout", cause="worker was stopped")
    await control.report(make_event(Happening.FAILED, "rollout", RunState.FAILED, failure=second))
    assert control.failure == first
    assert control.life.state is RunState.FAILED


async def test_tokens_add_up_and_the_last_reports_are_kept() -> None:
    control, _, _ = await running_control()
    await control.report(make_step(1, num_response_tokens=100))
    await control.report(make_step(2, num_response_tokens=150))
    evaluation = make_evaluation(2)
    await control.report(evaluation)
    assert control.tokens_generated == 250
    assert control.last_step is not None and control.last_step.step == 2
    assert control.last_evaluation == evaluation


async def test_the_newest_report_of_a_worker_counts() -> None:
    control, _, _ = make_control()
    for state in ("starting", "ready"):
        worker = make_worker(state=state)
        await control.report(make_event(f"worker_{state}", state=RunState.STARTING, workers=(worker,)))
    assert [each.state for each in control.workers.values()] == ["ready"]


async def test_events_are_numbered_and_paged_and_tell_each_change_of_state() -> None:
    control, _, _ = await running_control()
    control.pause(PauseRequest(reason="maintenance"))
    events = control.events(limit=100)
    assert [each.sequence for each in events] == [1, 2, 3]
    assert [each.kind for each in events] == ["started", "run_state_changed", "run_state_changed"]
    assert events[2].message == "running to pausing: maintenance"
    assert [each.sequence for each in control.events(after=1, limit=1)] == [2]
    assert [each.sequence for each in control.events(kind="started", limit=100)] == [1]


async def test_paused_time_is_counted_as_it_passes() -> None:
    control, metrics, clock = await running_control()
    control.pause(PauseRequest())
    clock.now = 1010.0
    await control.report(make_event(Happening.DRAINED, state=RunState.PAUSED))
    clock.now = 1013.0
    control.tick(clock.now)
    assert sample(metrics, "less_run_paused_seconds_total", mode="drain") == 3.0
    clock.now = 1015.0
    control.resume()
    clock.now = 1100.0
    control.tick(clock.now)
    assert sample(metrics, "less_run_paused_seconds_total", mode="drain") == 5.0


async def test_exactly_one_state_is_shown_to_prometheus() -> None:
    control, metrics, _ = await running_control()
    control.pause(PauseRequest())
    shown = {state: sample(metrics, "less_run_state", state=state.value) for state in RunState}
    assert shown == {state: float(state is RunState.PAUSING) for state in RunState}


async def test_the_deadline_check_tells_when_nobody_watches() -> None:
    control, _, clock = make_control()
    check = control.checks["deadlines"]
    assert check() == "deadlines are not watched yet"
    control.tick(clock.now)
    assert check() == ""
    clock.now += 60.0
    assert check() == "deadlines were last looked at 60 s ago"
