"""Runs that a user asks the control plane to start, once for each key."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from checkpoint_builders import save_checkpoint
from control_builders import CALLER, BrokenStore, FakeLauncher, Run, described, open_plane
from recipe_builders import make_raw

from services.checkpoints.store import CheckpointStore
from services.control.calls import ResumeRequest
from services.control.machine import Happening, OperationKind, Refused
from services.control.plane import ControlPlane, Created, CreateRequest, DryRun, ResumeFrom
from services.control.records import Operation, StoreError
from services.control.store import open_store
from services.reports import RunState
from services.run_dir import read_run_id


def request(**more: Any) -> CreateRequest:
    return CreateRequest(**{"config_text": yaml.safe_dump(make_raw()), **more})


def launching(tmp_path: Path) -> dict[str, Any]:
    return {"launcher": FakeLauncher(), "runs_dir": tmp_path / "runs"}


async def created(plane: ControlPlane, **more: Any) -> Run:
    answer = await plane.create(request(**more), CALLER)
    assert isinstance(answer, Created)
    return Run(plane, answer.run.description)


def slug(answer: object) -> str:
    assert isinstance(answer, Refused), answer
    return answer.slug


# -- starting runs -----------------------------------------------------------------------------------------------------


async def test_a_run_that_is_created_waits_for_its_process_in_a_directory_of_its_own(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        run = await created(plane, labels={"team": "a"}, notes="a try")
        record = run.control.record
        assert (run.state, record.launched, record.launch_from) == (RunState.PENDING, True, "")
        assert (record.labels, record.notes) == ({"team": "a"}, "a try")
        run_dir = Path(record.description.run_dir)
        assert run_dir == tmp_path / "runs" / "small"
        assert read_run_id(run_dir) == run.run_id
        # What the process will read is the recipe that was planned here.
        assert yaml.safe_load((run_dir / "recipe.yaml").read_text()) == record.description.recipe
        assert yaml.safe_load(record.config_text) == make_raw()
        await run.start()
        assert (run.state, record.attempt) == (RunState.RUNNING, 1)


async def test_a_dry_run_says_what_it_would_be_and_begins_nothing(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        answer = await plane.create(request(dry_run=True, name="other", overrides={"run.steps": 7}), CALLER)
        assert isinstance(answer, DryRun)
        assert (answer.config["name"], answer.config["run"]["steps"]) == ("other", 7)
        assert (answer.plan["steps"], answer.plan["groups_per_step"]) == (7, 4)
        assert (plane.runs(), list(tmp_path.iterdir())) == ((), [])


@pytest.mark.parametrize(
    ("wrong", "pointer", "message"),
    [
        ({"config_text": "name: ["}, "#/config_text", "valid YAML"),
        ({"config_text": None, "config": make_raw({"run.step": 3})}, "#/config", "did you mean 'steps'"),
        ({"config_text": None}, "#", "one of config, config_text and resume_from"),
        ({"name": "../elsewhere"}, "#/name", "a run's name must be"),
    ],
)
async def test_a_recipe_that_cannot_work_begins_nothing(
    tmp_path: Path, wrong: dict[str, Any], pointer: str, message: str
) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        answer = await plane.create(request(**wrong), CALLER)
        assert isinstance(answer, Refused) and answer.slug == "validation"
        assert answer.problems[0].pointer == pointer and message in answer.problems[0].message
        assert (plane.runs(), list(tmp_path.rglob("recipe.yaml"))) == ((), [])


async def test_one_run_that_was_started_here_is_active_at_a_time(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        # One that a user began elsewhere is in nobody's way.
        await Run(plane, described()).start()
        answers = await asyncio.gather(*(plane.create(request(), CALLER) for _ in range(3)))
        made = [each for each in answers if isinstance(each, Created)]
        assert len(made) == 1
        assert {slug(each) for each in answers if each not in made} == {"run-active"}
        run = Run(plane, made[0].run.description)
        await run.start()
        await run.tell(Happening.COMPLETED)
        assert (await created(plane)).run_id != run.run_id


async def test_a_control_plane_without_a_launcher_starts_nothing(tmp_path: Path) -> None:
    async with open_plane(runs_dir=tmp_path) as plane:
        assert slug(await plane.create(request(), CALLER)) == "cannot-start-runs"
        assert not plane.can_launch


async def test_a_run_that_is_to_start_paused_admits_nothing_before_it_is_resumed(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        run = await created(plane, start_paused=True)
        assert run.control.intent.order is not None and not run.control.intent.order.checkpoint
        await run.start()
        assert run.state is RunState.PAUSING
        await run.tell(Happening.PAUSED)
        assert run.state is RunState.PAUSED
        await run.control.resume(ResumeRequest(), CALLER)
        await run.tell(Happening.RESUMED)
        assert run.state is RunState.RUNNING


async def test_a_run_that_ended_goes_on_with_the_same_id_from_its_checkpoint(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        run = await created(plane)
        go_on = CreateRequest(resume_from=ResumeFrom(run_id=run.run_id), overrides={"run.steps": 9})
        assert slug(await plane.create(go_on, CALLER)) == "run-active"
        await run.start()
        await run.tell(Happening.FAILED)
        assert slug(await plane.create(go_on, CALLER)) == "checkpoint-not-found"
        save_checkpoint(CheckpointStore(Path(run.description.run_dir) / "checkpoints"), 1)
        named = CreateRequest(resume_from=ResumeFrom(run_id=run.run_id, checkpoint="step-000002"))
        assert slug(await plane.create(named, CALLER)) == "checkpoint-not-found"
        answer = await plane.create(go_on, CALLER)
        assert isinstance(answer, Created) and answer.run is run.control
        record = run.control.record
        assert (run.state, record.attempt, record.launch_from) == (RunState.STARTING, 2, "latest")
        assert record.launch_overrides == {"run.steps": 9}
        await Run(plane, run.description, link="link-2").start()
        assert (run.state, run.control.record.attempt) == (RunState.RUNNING, 2)


async def test_a_directory_is_not_left_behind_by_a_run_that_could_not_be_written(tmp_path: Path) -> None:
    store = BrokenStore(open_store(":memory:"))
    async with open_plane(store, **launching(tmp_path)) as plane:
        store.is_broken = True
        with pytest.raises(StoreError):
            await plane.create(request(), CALLER)
        assert (plane.runs(), list((tmp_path / "runs").iterdir())) == ((), [])


# -- idempotency keys --------------------------------------------------------------------------------------------------


async def test_a_key_makes_one_run_however_often_it_is_asked_for(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        first = await plane.create(request(), CALLER, "key-1")
        again = await plane.create(request(), CALLER, "key-1")
        assert isinstance(first, Created) and isinstance(again, Created)
        assert (first.is_new, again.is_new, again.run) == (True, False, first.run)
        assert slug(await plane.create(request(notes="other"), CALLER, "key-1")) == "idempotency-key-reused"
        assert slug(await plane.create(request(), CALLER, "key-2")) == "run-active"
        assert slug(await plane.create(request(), CALLER, "k" * 256)) == "validation"


async def test_a_key_whose_call_is_under_way_is_in_use_and_a_refused_call_frees_it(tmp_path: Path) -> None:
    async with open_plane(**launching(tmp_path)) as plane:
        answers = await asyncio.gather(*(plane.create(request(), CALLER, "key-1") for _ in range(2)))
        assert isinstance(answers[0], Created) and slug(answers[1]) == "idempotency-key-in-use"
        wrong = request(config_text="name: [")
        assert slug(await plane.create(wrong, CALLER, "key-3")) == "validation"
        assert slug(await plane.create(wrong, CALLER, "key-3")) == "validation"


async def test_a_key_makes_one_task_also_after_it_is_done() -> None:
    async with open_plane() as plane:
        run = Run(plane, described())
        await run.start()
        first = await plane.start_task("run-1", OperationKind.EVAL, {"k": 1}, CALLER, "key-1")
        assert isinstance(first, Operation)
        await run.tell("task_done", operation_id=first.operation_id)
        again = await plane.start_task("run-1", OperationKind.EVAL, {"k": 1}, CALLER, "key-1")
        assert isinstance(again, Operation) and again.operation_id == first.operation_id
        other = await plane.start_task("run-1", OperationKind.EVAL, {"k": 1}, CALLER, "key-2")
        assert isinstance(other, Operation) and other.operation_id != first.operation_id
        reused = await plane.start_task("run-1", OperationKind.EVAL, {"k": 2}, CALLER, "key-1")
        assert slug(reused) == "idempotency-key-reused"
