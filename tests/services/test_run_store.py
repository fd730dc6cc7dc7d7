"""Checkpoints that cannot be written are said, and the run goes on with those before."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_roles import FakeControl, FakeShaping
from recipe_builders import make_recipe
from report_builders import make_description
from run_builders import FakeRun, make_run

from services.checkpoints.store import CheckpointStore
from services.ports import ShapedHandle
from services.run_dir import RunFiles
from services.run_store import DiskStore
from shaping.errors import CheckpointError, RoleDied
from shaping.stored_files import StoredFile, stored_file

FULL = CheckpointError("a learner's state must be written and read in full, failed with: No space left on device")


class WritingShaping(FakeShaping):
    """Writes a file where it is asked to."""

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        await super().save_groups(groups, file)
        Path(file).write_bytes(b"groups")
        return stored_file(Path(file).parent, Path(file).name)


class FullFiles(RunFiles):
    """A disk that does not take the lines of the second checkpoint's moment."""

    num_asked = 0

    def lengths(self) -> dict[str, int]:
        self.num_asked += 1
        if self.num_asked == 2:
            raise CheckpointError("metrics.jsonl must be on the disk, found No space left on device")
        return super().lengths()


@contextlib.contextmanager
def make_disk_run(folder: Path, files_of: type[RunFiles] = RunFiles) -> Iterator[tuple[FakeRun, CheckpointStore]]:
    checkpoints = CheckpointStore(folder / "checkpoints")
    recipe = make_recipe({"run.checkpoint": {"every_steps": 1, "keep_last": 9}})
    with contextlib.closing(files_of(folder, make_description(), api_address="")) as files:
        store = DiskStore(checkpoints, files, recipe, run_id="run_1")
        run = make_run(groups_per_step=1, num_steps=3, checkpoint_every=1, store=store, shapers=[WritingShaping()])
        store.attach(run.learner, run.control)
        yield run, checkpoints


def failures_of(control: FakeControl) -> list[str]:
    return [each.message for each in control.events("checkpoint_failed")]


async def test_a_disk_that_is_full_fails_the_checkpoint_and_not_the_run(tmp_path: Path) -> None:
    with make_disk_run(tmp_path) as (run, checkpoints):
        run.learner.script["save"] = [None, FULL]
        await run.finish()
    assert len(run.control.steps) == 3
    assert failures_of(run.control) == [f"no checkpoint of step 2: {FULL}"]
    assert [each.name for each in checkpoints.list()] == ["step-000001", "step-000003"]
    for each in checkpoints.list():
        each.verify()


async def test_a_checkpoint_says_its_size_and_how_long_it_took(tmp_path: Path) -> None:
    with make_disk_run(tmp_path) as (run, checkpoints):
        await run.finish()
    events = run.control.events("checkpoint_saved")
    assert [each.details["checkpoint"] for each in events] == [each.name for each in checkpoints.list()]
    for event, checkpoint in zip(events, checkpoints.list(), strict=True):
        seconds, size = event.details["seconds"], event.details["bytes"]
        assert isinstance(seconds, float) and seconds > 0.0
        assert size == checkpoint.manifest.num_bytes


async def test_lines_that_the_disk_does_not_take_fail_the_checkpoint_and_not_the_run(tmp_path: Path) -> None:
    with make_disk_run(tmp_path, FullFiles) as (run, checkpoints):
        await run.finish()
    assert len(run.control.steps) == 3
    (message,) = failures_of(run.control)
    assert message == "no checkpoint of step 2: metrics.jsonl must be on the disk, found No space left on device"
    assert [each.name for each in checkpoints.list()] == ["step-000001", "step-000003"]


async def test_a_learner_that_dies_inside_a_save_leaves_no_half_and_is_the_cause(tmp_path: Path) -> None:
    with make_disk_run(tmp_path) as (run, checkpoints):
        run.learner.script["save"] = [None, RoleDied(role="learner", cause="its process ended")]
        with pytest.raises(RoleDied, match="its process ended"):
            await run.finish()
    assert [each.name for each in checkpoints.list()] == ["step-000001"]
    assert [each.name for each in checkpoints.root.iterdir()] == ["step-000001"]


async def test_a_run_that_is_ended_inside_a_save_leaves_no_half(tmp_path: Path) -> None:
    with make_disk_run(tmp_path) as (run, checkpoints):
        run.learner.script["save"] = [asyncio.Event()]
        task = run.begin()
        while "save" not in run.learner.calls:
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert list(checkpoints.root.iterdir()) == []
