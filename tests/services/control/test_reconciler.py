"""What happens as time passes. Time is a number that the test moves."""

from pathlib import Path

from control_builders import CALLER, BrokenStore, FakeLauncher, Run, described, open_plane
from control_world import world

from services.control.calls import OnTimeout, PauseRequest, ResumeRequest
from services.control.machine import Happening, OperationKind
from services.control.records import Operation, OperationState
from services.control.run_memory import RunMemory
from services.control.store import open_store
from services.control.tasks import TASK_SECONDS
from services.reports import IntentKind, PauseMode, RunState

# -- deadlines ---------------------------------------------------------------------------------------------------------


async def test_a_pause_that_misses_its_deadline_fails_and_the_run_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        await run.control.pause(PauseRequest(timeout_seconds=60.0), CALLER)
        await it.at(1059.9)
        assert run.state is RunState.PAUSING
        await it.at(1060.0)
        operation = run.latest(OperationKind.PAUSE)
        assert (run.state, operation.state) == (RunState.RUNNING, OperationState.FAILED)
        assert "draining" in operation.error
        assert run.control.intent.kind is IntentKind.RUN
        assert await run.kinds("pause_failed") == ["pause_failed"]
        await run.tell(Happening.PAUSED, operation_id=operation.operation_id)
        assert run.state is RunState.RUNNING


async def test_harder_means_take_over_where_they_were_asked_for_and_have_as_long(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        await run.control.pause(PauseRequest(timeout_seconds=60.0, on_timeout=OnTimeout.ABORT), CALLER)
        first = run.latest(OperationKind.PAUSE)
        await it.at(1060.0)
        order = run.control.intent.order
        assert order is not None and (order.mode, order.operation_id) == (PauseMode.ABORT, first.operation_id)
        assert (run.state, run.latest(OperationKind.PAUSE).deadline_at) == (RunState.PAUSING, 1120.0)
        await it.at(1120.0)
        assert run.state is RunState.RUNNING
        assert await run.kinds("pause_escalated", "pause_failed") == ["pause_escalated", "pause_failed"]


async def test_a_pause_before_the_start_has_no_deadline_until_the_run_starts(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = Run(it.plane, described())
        await run.register()
        await run.control.pause(PauseRequest(timeout_seconds=60.0), CALLER)
        assert run.latest(OperationKind.PAUSE).deadline_at is None
        it.launcher.alive[Path(run.description.run_dir)] = True
        await it.at(9999.0)
        await run.tell(Happening.STARTED)
        assert run.latest(OperationKind.PAUSE).deadline_at == 10_059.0


async def test_deadlines_are_kept_over_a_restart_of_the_control_plane(tmp_path: Path) -> None:
    path, launcher = str(tmp_path / "store.sqlite"), FakeLauncher()
    async with world(tmp_path, path, launcher) as it:
        run = await it.started()
        await run.control.pause(PauseRequest(timeout_seconds=60.0), CALLER)
    async with world(tmp_path, path, launcher) as it:
        again = Run(it.plane, described())
        await it.at(1060.0)
        assert again.state is RunState.RUNNING


async def test_a_pause_ends_by_itself_when_it_has_lasted_long_enough(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        await run.control.pause(PauseRequest(ttl_seconds=300.0), CALLER)
        it.clock.now = 1010.0
        await run.tell(Happening.PAUSED, checkpoint="step-000001")
        assert run.control.record.paused_until == 1310.0
        await it.at(1309.9)
        assert run.state is RunState.PAUSED
        await it.at(1310.0)
        assert (run.state, run.control.intent.kind) == (RunState.RESUMING, IntentKind.RUN)
        assert run.control.record.paused_until is None


async def test_a_task_has_a_deadline_in_which_paused_time_does_not_count(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        task = await run.control.start_task(OperationKind.EVAL, {}, CALLER)
        assert isinstance(task, Operation) and task.deadline_at == 1000.0 + TASK_SECONDS
        await run.control.pause(PauseRequest(checkpoint=False), CALLER)
        await run.tell(Happening.PAUSED)
        await it.at(1000.0 + TASK_SECONDS)
        assert run.latest(OperationKind.EVAL).state is OperationState.RUNNING
        await run.control.resume(ResumeRequest(), CALLER)
        await run.tell(Happening.RESUMED)
        assert run.latest(OperationKind.EVAL).deadline_at == 1000.0 + 2 * TASK_SECONDS
        await it.at(1000.0 + 2 * TASK_SECONDS)
        assert run.latest(OperationKind.EVAL).error == "deadline missed in phase waiting"
        assert run.control.intent.tasks == ()


# -- the reconciler itself ---------------------------------------------------------------------------------------------


async def test_what_fails_for_one_run_holds_up_no_other_and_is_tried_again(tmp_path: Path) -> None:
    store = BrokenStore(open_store(":memory:"))
    async with world(tmp_path, store) as it:
        run = await it.started()
        await run.control.pause(PauseRequest(timeout_seconds=60.0), CALLER)
        store.is_broken = True
        await it.at(1060.0)
        assert run.state is RunState.PAUSING
        store.is_broken = False
        await it.at(1061.0)
        assert run.state is RunState.RUNNING


async def test_the_check_tells_when_nobody_watches(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        check = it.plane.checks["reconciler"]
        assert check() == "deadlines are not watched yet"
        await it.at(1000.0)
        assert check() == ""
        it.clock.now = 1060.0
        assert check() == "deadlines were last looked at 60 s ago"


async def test_a_tick_with_nothing_to_do_writes_nothing_about_runs(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        run = await it.started()
        await it.at(1001.0)
        before, events = run.facts, await run.events()
        await it.at(1002.0)
        assert (run.facts, await run.events()) == (before, events)
        assert run.facts is before


async def test_a_run_in_memory_and_in_the_store_never_part_over_time(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    async with world(tmp_path, path) as it:
        run = await it.started()
        await run.control.pause(PauseRequest(timeout_seconds=60.0, on_timeout=OnTimeout.FREEZE), CALLER)
        for now in (1060.0, 1120.0, 1180.0):
            await it.at(now)
            before: RunMemory = run.control
            async with open_plane(copy_of(path)) as other:
                assert [each.facts for each in other.runs()] == [before.facts]


def copy_of(path: str) -> str:
    """The store as a process that began now would find it."""
    copy = f"{path}.copy"
    for suffix in ("", "-wal"):
        source, target = Path(path + suffix), Path(copy + suffix)
        target.unlink(missing_ok=True)
        if source.exists():
            target.write_bytes(source.read_bytes())
    Path(copy + "-shm").unlink(missing_ok=True)
    return copy
