"""What a run's process reports, each report once, and what of it becomes known and told."""

import pytest
from control_builders import CALLER, Run, started_run
from report_builders import Clock, make_evaluation, make_event, make_step, make_worker

from services.control.calls import PauseRequest
from services.control.machine import Happening
from services.control.run import CallAnswer
from services.reports import (
    BufferReport,
    Failure,
    RunState,
)


def sample(run: Run, name: str, **labels: str) -> float | None:
    assert run.control.metrics is not None
    return run.control.metrics.registry.get_sample_value(name, {"run_id": "run-1", **labels})


async def test_a_report_that_is_sent_again_changes_nothing() -> None:
    async with started_run() as run:
        reports = [make_step(1, num_response_tokens=100), make_step(2, num_response_tokens=150)]
        following = await run.plane.report(run.run_id, run.link, 2, reports)
        before, told = run.facts, await run.kinds()
        assert await run.plane.report(run.run_id, run.link, 2, reports) == following == 4
        assert (run.facts, await run.kinds()) == (before, told)
        assert run.control.record.tokens_generated == 250
        assert sample(run, "less_rollout_generated_tokens_total") == 250


async def test_of_reports_that_are_sent_again_with_new_ones_only_the_new_ones_count() -> None:
    async with started_run() as run:
        await run.plane.report(run.run_id, run.link, 2, [make_step(1)])
        assert await run.plane.report(run.run_id, run.link, 2, [make_step(1), make_step(2)]) == 4
        assert await run.kinds("step_completed") == ["step_completed"] * 2
        assert sample(run, "less_rollout_generated_tokens_total") == 200


async def test_reports_that_never_came_are_said() -> None:
    async with started_run() as run:
        assert await run.plane.report(run.run_id, run.link, 5, [make_step(4)]) == 6
        (missed,) = await run.events("reports_missed")
        assert missed.details == {"reports": 3}
        assert sample(run, "less_metrics_push_dropped_total") == 3


def standing(finished: float, idle: float) -> BufferReport:
    """What a process says between steps, of all that it did so far."""
    totals = {"rollout_finished_groups": finished, "rollout_idle_pause_s": idle}
    return BufferReport(queues={"in_flight": (1, 2)}, version=1, totals=totals)


async def test_totals_of_a_process_are_counted_as_they_rise_and_the_next_process_begins_at_zero() -> None:
    async with started_run() as run:
        await run.say(standing(3, 0.5), standing(3, 0.75))
        later = Run(run.plane, run.description, link="link-2")
        await later.start()
        await later.say(standing(2, 0.0))
        assert sample(run, "less_rollout_finished_groups_total") == 5
        assert sample(run, "less_rollout_worker_idle_seconds_total", cause="pause") == 0.75


async def test_a_process_that_was_replaced_has_no_queues_and_no_workers() -> None:
    async with started_run() as run:
        await run.say(standing(1, 0.0))
        assert sample(run, "less_rollout_inflight_groups") == 1
        await Run(run.plane, run.description, link="link-2").start()
        assert sample(run, "less_rollout_inflight_groups") is None


async def test_the_steps_of_a_process_that_begins_from_nothing_count_again() -> None:
    async with started_run() as run:
        await run.say(*(make_step(step) for step in range(1, 4)), make_evaluation(2, 0.75))
        later = Run(run.plane, run.description, link="link-2")
        await later.start()
        await later.say(make_step(1), make_evaluation(0, 0.25))
        assert sample(run, "less_run_step") == 1
        assert sample(run, "less_rollout_generated_tokens_total") == 400
        assert sample(run, "less_evaluation_accuracy_ratio") == 0.25


async def test_a_sitting_from_an_earlier_checkpoint_counts_its_steps_and_its_totals_begin_at_zero() -> None:
    async with started_run() as run:
        await run.say(*(make_step(step) for step in range(1, 6)), standing(9, 2.0))
        await run.tell(Happening.STARTING)
        await run.tell("checkpoint_loaded", step=2)
        await run.say(standing(4, 0.5), make_step(3))
        assert sample(run, "less_run_step") == 3
        assert sample(run, "less_rollout_generated_tokens_total") == 600
        assert sample(run, "less_rollout_finished_groups_total") == 13
        assert sample(run, "less_rollout_worker_idle_seconds_total", cause="pause") == 2.5


@pytest.mark.parametrize(
    ("details", "workers"), [({"released": "all"}, None), ({"process": "ended"}, None), ({"released": "none"}, 1.0)]
)
async def test_a_pause_that_ended_the_workers_shows_none(details: dict[str, str], workers: float | None) -> None:
    async with started_run() as run:
        await run.say(make_event("worker_started", workers=(make_worker(),)), standing(1, 0.0))
        assert isinstance(await run.control.pause(PauseRequest(checkpoint=False), CALLER), CallAnswer)
        await run.tell(Happening.PAUSED, **details)
        assert run.state is RunState.PAUSED
        assert sample(run, "less_workers", role="rollout", state="ready") == workers
        assert sample(run, "less_rollout_inflight_groups") == workers


async def test_a_process_that_another_one_has_replaced_is_not_listened_to() -> None:
    async with started_run() as run:
        later = Run(run.plane, run.description, link="link-2")
        await later.start()
        assert await run.plane.report(run.run_id, run.link, 2, [make_step(9)]) == 3
        assert run.control.last_step is None


async def test_a_step_is_an_event_with_its_numbers_and_one_that_was_not_measured_is_null() -> None:
    async with started_run() as run:
        await run.say(make_step(1, {"reward_total_value": 0.25}), make_step(2))
        first, second = await run.events("step_completed")
        assert first.details == {
            "step": 1,
            "total_steps": 10,
            "policy_version": 1,
            "reward": 0.25,
            "step_seconds": 2.0,
        }
        assert second.details["reward"] is None
        assert (run.control.record.step, run.control.record.policy_version) == (2, 2)


async def test_the_last_reports_are_kept_and_the_newest_of_a_worker_counts() -> None:
    async with started_run() as run:
        evaluation, buffer = make_evaluation(2), BufferReport(queues={"in_flight": (3, 8)}, version=2)
        workers = [make_event(f"worker_{state}", workers=(make_worker(state=state),)) for state in ("lost", "ready")]
        await run.say(make_step(2), evaluation, buffer, *workers)
        assert run.control.last_step is not None and run.control.last_step.step == 2
        assert (run.control.last_evaluation, run.control.buffer) == (evaluation, buffer)
        assert [each.state for each in run.control.workers.values()] == ["ready"]
        (accuracy,) = await run.events("eval_completed")
        assert accuracy.details == {"step": 2, "policy_version": 2, "accuracy": 0.5}


async def test_a_checkpoint_is_the_runs_newest_and_an_event() -> None:
    clock = Clock(1000.0)
    async with started_run(clock=clock) as run:
        await run.tell("checkpoint_saved", "step-000010: 1 MB", checkpoint="step-000010", step=10)
        expected = {"checkpoint": "step-000010", "step": 10, "created_at": 1000.0}
        assert run.control.record.checkpoint == expected
        assert await run.kinds("checkpoint_committed", "checkpoint_saved") == ["checkpoint_committed"]


async def test_a_failure_keeps_its_first_cause() -> None:
    async with started_run() as run:
        first = Failure(role="learner", cause="loss is not finite", group_id="g7")
        await run.say(make_event(Happening.FAILED, "learner", RunState.FAILED, failure=first))
        second = Failure(role="rollout", cause="worker was stopped")
        await run.say(make_event(Happening.FAILED, "rollout", RunState.FAILED, failure=second))
        assert run.control.record.failure == first
        assert run.state is RunState.FAILED


async def test_what_earlier_processes_reported_takes_the_place_of_what_was_known() -> None:
    async with started_run() as run:
        await run.say(*(make_step(step) for step in range(1, 6)))
        later = Run(run.plane, run.description, link="link-2")
        await later.register()
        # From the checkpoint of step 2: what came after it will be trained again.
        await run.plane.remember(run.run_id, [make_step(1), make_step(2), make_evaluation(0), make_event("started")])
        record = run.control.record
        assert (record.step, record.tokens_generated, record.attempt) == (2, 200, 2)
        assert sample(run, "less_run_step") == 2
        # A counter that fell to 200 would be to Prometheus one that began anew and rose by 200 at once.
        assert sample(run, "less_rollout_generated_tokens_total") == 500
        assert sample(run, "less_step_seconds_count") == 5
        await later.say(make_step(3), make_step(4))
        assert sample(run, "less_rollout_generated_tokens_total") == 700
        assert sample(run, "less_step_seconds_count") == 7
        assert await run.kinds("attempt_started") == ["attempt_started"] * 2
