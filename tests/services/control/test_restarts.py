"""What a control plane still knows after it was started again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_builders import CALLER, Run, described, open_plane
from report_builders import Clock, make_description, make_evaluation, make_event, make_step, make_worker

from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import Happening, OperationKind
from services.control.plane import ControlPlane
from services.reports import BufferReport, RunReport, RunState
from services.run_dir import RunFiles

LEARNING_RATE = "learner.optimizer.learning_rate"


def known(plane: ControlPlane) -> list[object]:
    """All that a control plane knows of its runs."""
    return [
        (run.facts, run.last_step, run.last_evaluation, run.allowed_actions, run.latest_operation(OperationKind.PAUSE))
        for run in plane.runs()
    ]


async def do_register(run: Run) -> None:
    await run.register()


CALLS: tuple[Callable[[Run], Any], ...] = (
    do_register,
    lambda run: run.tell(Happening.STARTING),
    lambda run: run.tell(Happening.STARTED),
    lambda run: run.say(make_step(1), make_step(2), make_evaluation(2)),
    lambda run: run.control.change_config({LEARNING_RATE: 2e-6}, 1, CALLER),
    lambda run: run.control.pause(PauseRequest(ttl_seconds=60.0), CALLER),
    lambda run: run.tell("config_applied", generation=2, step=3),
    lambda run: run.control.start_task(OperationKind.CHECKPOINT, {"tag": "t"}, CALLER),
    lambda run: run.tell(Happening.PAUSED, checkpoint="step-000002"),
    lambda run: run.control.relabel(name="other", labels={"a": "b"}, notes="n", caller=CALLER),
    lambda run: run.control.resume(ResumeRequest(), CALLER),
    lambda run: run.tell(Happening.RESUMED),
    lambda run: run.control.cancel(CancelRequest(), CALLER),
    lambda run: run.tell(Happening.CANCELLED),
)


async def test_a_control_plane_that_is_started_again_between_any_two_calls_knows_the_same(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "store.sqlite"), Clock()
    recorded: list[RunReport] = [make_step(1), make_step(2), make_evaluation(2)]
    following = 1
    for number, call in enumerate(CALLS):
        async with open_plane(path, clock=clock) as plane:
            run = Run(plane, described(run_dir=str(tmp_path / "run")))
            run.following = following
            await call(run)
            following, clock.now = run.following, clock.now + 1.0
            if number == 3:
                write_reports(tmp_path / "run", recorded)
            before, events = known(plane), list(await run.events())
            intent = await plane.intent_after("run-1", 0)
        async with open_plane(path, clock=clock) as plane:
            run = Run(plane, described())
            assert known(plane) == before, f"after call {number}"
            assert list(await run.events()) == events
            assert await plane.intent_after("run-1", 0) == intent
    assert run.state is RunState.CANCELLED


def write_reports(run_dir: Path, reports: list[RunReport]) -> None:
    run_dir.mkdir()
    files = RunFiles(run_dir, make_description(), api_address="")
    for report in reports:
        files.write(report, at=1000.0)
    files.close()


async def test_counters_go_on_from_the_runs_own_file_and_count_what_is_said_again_once(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    async with open_plane(path) as plane:
        run = Run(plane, described(run_dir=str(tmp_path / "run")))
        await run.start()
        await run.say(make_step(1))
    # The file is written first: the control plane died before it was told of step 2 and of the evaluation.
    worker = make_event("worker_started", workers=(make_worker(),))
    write_reports(tmp_path / "run", [make_event("starting"), worker, make_step(1), make_step(2), make_evaluation(2)])
    async with open_plane(path) as plane:
        again = Run(plane, described(run_dir=str(tmp_path / "run")))
        assert list(again.control.workers) == ["rollout-0"]
        again.following = run.following
        await again.say(make_step(2), make_evaluation(2), make_step(3))
        metrics = again.control.metrics
        assert metrics is not None
        labels = {"run_id": "run-1"}
        assert metrics.registry.get_sample_value("less_rollout_generated_tokens_total", labels) == 300
        assert metrics.registry.get_sample_value("less_evaluation_seconds_sum", labels) == 1.0
        assert again.control.record.tokens_generated == 300
        ready = labels | {"role": "rollout", "state": "ready"}
        assert metrics.registry.get_sample_value("less_workers", ready) == 1


async def test_totals_of_a_process_older_than_the_control_plane_are_counted_from_where_they_are(tmp_path: Path) -> None:
    path, clock = str(tmp_path / "store.sqlite"), Clock(1000.0)
    async with open_plane(path, clock=clock) as plane:
        run = Run(plane, described(run_dir=str(tmp_path / "run")))
        await run.start()
        await run.say(make_step(1))
        await run.tell("checkpoint_saved", checkpoint="step-000001", step=1, bytes=2048)
    clock.now = 1600.0
    async with open_plane(path, clock=clock) as plane:
        again = Run(plane, described(run_dir=str(tmp_path / "run")))
        again.following = run.following
        metrics = again.control.metrics
        assert metrics is not None
        labels = {"run_id": "run-1"}
        # Of a step that was reported to the one before it.
        assert metrics.registry.get_sample_value("less_run_last_step_timestamp_seconds", labels) == 1000.0
        assert metrics.registry.get_sample_value("less_checkpoint_last_success_timestamp_seconds", labels) == 1000.0
        assert metrics.registry.get_sample_value("less_checkpoint_bytes", labels) == 2048
        for finished in (40, 43):
            await again.say(BufferReport(queues={}, version=1, totals={"rollout_finished_groups": finished}))
        assert metrics.registry.get_sample_value("less_rollout_finished_groups_total", labels) == 3


async def test_events_that_the_control_plane_before_this_one_counted_do_not_count_again(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    restarted = make_event("worker_restarted", workers=(make_worker(),))
    async with open_plane(path) as plane:
        run = Run(plane, described(run_dir=str(tmp_path / "run")))
        await run.start()
        await run.say(restarted, restarted)
    async with open_plane(path) as plane:
        again = Run(plane, described(run_dir=str(tmp_path / "run")), link="link-2")
        await again.register()
        await plane.remember(again.run_id, [restarted, restarted, make_step(1)])
        await again.say(restarted)
        metrics = again.control.metrics
        assert metrics is not None
        labels = {"run_id": "run-1", "role": "rollout"}
        # From 2 to 1: began anew, and rose by the one of now.
        assert metrics.registry.get_sample_value("less_worker_restarts_total", labels) == 1


async def test_a_run_that_ended_shows_its_last_step_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    steps: list[RunReport] = [make_step(step, {"reward_total_value": step / 4000}) for step in range(1, 4001)]
    async with open_plane(path) as plane:
        run = Run(plane, described(run_dir=str(tmp_path / "run")))
        await run.start()
        await run.tell(Happening.COMPLETED)
    write_reports(tmp_path / "run", steps)
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_size > 256 * 1024
    async with open_plane(path) as plane:
        ended = plane.run("run-1")
        assert ended is not None and ended.last_step == steps[-1]
        assert ended.metrics is None
