"""Processes that are started, found gone and killed; and exports. They live as long as the test says."""

import asyncio
from pathlib import Path

from checkpoint_builders import save_checkpoint
from control_builders import CALLER, FakeLauncher, Run, described, open_plane
from control_world import SlowLauncher, world
from report_builders import Clock

from services.checkpoints.store import CheckpointStore
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import Happening, OperationKind, Refused
from services.control.plane import ResumeFrom
from services.control.reconciler import Reconciler
from services.control.records import OperationState
from services.reports import RunState
from services.run_lock import hold_run_dir
from shaping.errors import CheckpointError


async def test_a_run_that_was_created_is_given_one_process(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.created()
        await it.at(1001.0)
        await it.at(1002.0)
        (launch,) = it.launcher.launches
        assert (launch.run_id, launch.checkpoint) == (run.run_id, "")
        assert str(launch.run_dir) == run.description.run_dir
        assert run.control.record.launch_from is None
        await run.start()
        assert await run.kinds("run_created", "process_started", "attempt_started") == [
            *("run_created", "process_started", "attempt_started"),
        ]


async def test_a_run_that_goes_on_is_given_its_checkpoint_and_its_other_values(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.created()
        await it.at(1001.0)
        await run.start()
        await run.tell(Happening.FAILED)
        it.launcher.alive.clear()
        save_checkpoint(CheckpointStore(Path(run.description.run_dir) / "checkpoints"), 1)
        await it.created(
            config_text=None,
            resume_from=ResumeFrom(run_id=run.run_id, checkpoint="step-000001"),
            overrides={"run.steps": 9, "name": "x"},
        )
        await it.at(1002.0)
        assert it.launcher.launches[-1].checkpoint == "step-000001"
        assert list(it.launcher.launches[-1].overrides) == ["run.steps=9", 'name="x"']
        assert run.control.record.launch_overrides == {}


async def test_a_process_that_cannot_be_started_is_the_end_of_its_run(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        it.launcher.refuses = "no python"
        run = await it.created()
        await it.at(1001.0)
        failure = run.control.record.failure
        assert run.state is RunState.FAILED
        assert failure is not None and failure.cause == "no python"
        assert await run.kinds("launch_failed") == ["launch_failed"]


async def test_a_control_plane_that_died_between_start_and_note_starts_no_second_process(tmp_path: Path) -> None:
    path, launcher = str(tmp_path / "store.sqlite"), FakeLauncher()
    async with world(tmp_path, path, launcher) as it:
        run = await it.created()
    launcher.alive[Path(run.description.run_dir)] = True
    async with world(tmp_path, path, launcher) as it:
        await it.at(1001.0)
        assert launcher.launches == []
        held = it.plane.run(run.run_id)
        assert held is not None and held.record.launch_from is None


async def test_deadlines_do_not_wait_for_a_process_that_is_being_started_and_it_is_started_once(
    tmp_path: Path,
) -> None:
    launcher = SlowLauncher()
    async with world(tmp_path, launcher=launcher) as it:
        other = await it.started()
        await it.created()
        await other.control.pause(PauseRequest(timeout_seconds=60.0), CALLER)
        for now in (1059.0, 1060.0):
            it.clock.now = now
            await it.reconciler.tick(now)
        assert other.state is RunState.RUNNING
        launcher.may_go_on.set()
        await it.reconciler.settle()
        assert len(launcher.launches) == 1


async def test_a_run_whose_process_is_gone_without_a_word_has_failed(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        it.launcher.alive[Path(run.description.run_dir)] = False
        await it.at(1059.0)
        assert run.state is RunState.RUNNING
        await it.at(1060.0)
        assert run.state is RunState.FAILED
        assert run.control.record.failure is not None
        assert "process was lost" in run.control.record.failure.cause


async def test_a_silent_run_goes_on_while_its_process_lives_or_nobody_can_tell(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        for alive in (True, None):
            it.launcher.alive[Path(run.description.run_dir)] = alive
            await it.at(it.clock.now + 10_000.0)
            assert run.state is RunState.RUNNING


async def test_a_process_that_asks_and_has_gone_since_is_not_taken_for_alive(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        asking = asyncio.create_task(it.plane.intent_after(run.run_id, 1))
        await asyncio.sleep(0)
        it.launcher.alive[Path(run.description.run_dir)] = False
        await it.at(1060.0)
        assert run.state is RunState.FAILED
        asking.cancel()


async def test_without_a_launcher_the_lock_of_the_directory_tells_whether_a_process_lives(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    async with open_plane(clock=clock) as plane:
        reconciler = Reconciler(plane)
        run = Run(plane, described(run_dir=str(tmp_path)))
        await run.start()
        with hold_run_dir(tmp_path):
            await reconciler.tick(1060.0)
            assert run.state is RunState.RUNNING
        await reconciler.tick(1061.0)
        assert run.state is RunState.FAILED


async def test_a_cancel_past_its_grace_kills_the_process_and_is_done(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        await run.control.cancel(CancelRequest(grace_seconds=30.0), CALLER)
        await it.at(1029.9)
        assert it.launcher.killed == []
        await it.at(1030.0)
        assert it.launcher.killed == [Path(run.description.run_dir)]
        assert run.state is RunState.CANCELLED
        assert run.latest(OperationKind.CANCEL).state is OperationState.SUCCEEDED


async def test_a_process_that_cannot_be_killed_is_not_said_to_be_cancelled(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        it.launcher.survives_kill = True
        await run.control.cancel(CancelRequest(grace_seconds=30.0), CALLER)
        await it.at(1030.0)
        assert run.state is RunState.CANCELLING
        deadline = run.latest(OperationKind.CANCEL).deadline_at
        assert deadline is not None and deadline > 1030.0
        await it.at(deadline)
        assert run.state is RunState.FAILED


async def test_a_paused_run_whose_process_ended_on_purpose_gets_another_one_at_resume(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        await run.tell(Happening.PAUSED, process="ended", checkpoint="step-000003")
        it.launcher.alive[Path(run.description.run_dir)] = False
        await it.at(2000.0)
        assert run.state is RunState.PAUSED
        await run.control.resume(ResumeRequest(), CALLER)
        await it.at(2001.0)
        assert [each.checkpoint for each in it.launcher.launches] == ["latest"]
        later = Run(it.plane, run.description, link="link-2")
        await later.start()
        assert run.state is RunState.RUNNING
        assert run.latest(OperationKind.RESUME).state is OperationState.SUCCEEDED


class FakeExporter:
    """Exporter that notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[Path, str]] = []

    def export(self, run_dir: Path, checkpoint: str, *, timeout_seconds: float) -> str:
        assert timeout_seconds > 0
        self.asked.append((run_dir, checkpoint))
        if checkpoint == "step-000009":
            raise CheckpointError("damaged")
        return f"exports/{checkpoint}"


async def test_an_export_is_done_once_also_of_a_run_that_has_ended(tmp_path: Path) -> None:
    path, exporter, export = str(tmp_path / "store.sqlite"), FakeExporter(), OperationKind.EXPORT
    async with open_plane(path, exporter=exporter) as plane:
        run = Run(plane, described())
        await run.start()
        await run.tell(Happening.COMPLETED)
        options = {"checkpoint": "step-000003"}
        asked = await plane.start_task(run.run_id, export, options, CALLER)
        assert await plane.start_task(run.run_id, export, options, CALLER) == asked
    # The control plane that was asked is gone before it began.
    async with open_plane(path, exporter=exporter) as plane:
        reconciler, again = Reconciler(plane), Run(plane, described())
        for now in (1001.0, 1002.0):
            await reconciler.tick(now)
            await reconciler.settle()
        assert exporter.asked == [(Path("/nowhere/tiny"), "step-000003")]
        assert again.latest(export).result == {"checkpoint": "step-000003", "directory": "exports/step-000003"}
        await plane.start_task(run.run_id, export, {"checkpoint": "step-000009"}, CALLER)
        await reconciler.tick(1003.0)
        await reconciler.settle()
        assert again.latest(export).error == "damaged"
        assert again.control.intent.tasks == ()


async def test_a_control_plane_that_exports_nothing_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        refused = await it.plane.start_task(run.run_id, OperationKind.EXPORT, {"checkpoint": "step-000003"}, CALLER)
        assert isinstance(refused, Refused) and refused.slug == "cannot-export"
