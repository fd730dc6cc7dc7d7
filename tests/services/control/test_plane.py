"""A control plane over many runs: what it registers, tells, shows and forgets."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from checkpoint_builders import save_checkpoint
from control_builders import CALLER, BrokenStore, Run, described, open_plane
from prometheus_client import generate_latest
from report_builders import Clock, make_step

from services.checkpoints.store import CheckpointStore
from services.control.calls import PauseRequest
from services.control.machine import Happening, OperationKind, Refused
from services.control.records import AuditLine, StoreError
from services.control.store import open_store
from services.reports import RunState


def slug(answer: object) -> str:
    assert isinstance(answer, Refused), answer
    return answer.slug


# -- registering -------------------------------------------------------------------------------------------------------


async def test_the_same_process_registers_once_and_another_one_is_the_next_attempt() -> None:
    async with open_plane() as plane:
        run = Run(plane, described())
        await run.start()
        await run.register()
        assert (run.control.record.attempt, run.state) == (1, RunState.RUNNING)
        await Run(plane, run.description, link="link-2").register(resumed=True)
        assert (run.control.record.attempt, run.state) == (2, RunState.STARTING)
        details = [each.details for each in await run.events("attempt_started")]
        assert details == [{"attempt": 1, "resumed": False}, {"attempt": 2, "resumed": True}]


async def test_only_a_new_attempt_leaves_a_terminal_state_and_keeps_the_id() -> None:
    async with open_plane() as plane:
        run = Run(plane, described())
        await run.start()
        await run.tell(Happening.FAILED)
        assert (run.state, run.control.record.finished_at) == (RunState.FAILED, 1000.0)
        await run.tell(Happening.STARTED)
        assert run.state is RunState.FAILED
        await Run(plane, run.description, link="link-2").start()
        assert (run.state, run.control.record.finished_at, len(plane.runs())) == (RunState.RUNNING, None, 1)


async def test_a_run_that_is_paused_is_paused_again_by_its_next_process() -> None:
    async with open_plane() as plane:
        run = Run(plane, described())
        await run.start()
        await run.control.pause(PauseRequest(checkpoint=False), CALLER)
        await run.tell(Happening.PAUSED)
        later = Run(plane, run.description, link="link-2")
        await later.start()
        assert run.state is RunState.PAUSING
        order = run.control.intent.order
        assert order is not None and order.operation_id == run.latest(OperationKind.PAUSE).operation_id
        await later.tell(Happening.PAUSED, operation_id=order.operation_id)
        assert run.state is RunState.PAUSED


async def test_a_run_that_could_not_be_written_is_not_known() -> None:
    store = BrokenStore(open_store(":memory:"))
    async with open_plane(store) as plane:
        store.is_broken = True
        with pytest.raises(StoreError):
            await Run(plane, described()).register()
        assert plane.runs() == ()
        store.is_broken = False
        await Run(plane, described()).register()
        assert [run.record.run_id for run in plane.runs()] == ["run-1"]


async def test_many_runs_are_listed_the_newest_first_and_do_not_mix() -> None:
    async with open_plane() as plane:
        runs = [Run(plane, described(f"run-{number}")) for number in range(3)]
        for number, run in enumerate(runs):
            await run.start()
            await run.say(make_step(number + 1, num_response_tokens=10 * number))
        await runs[2].tell(Happening.COMPLETED)
        assert [run.record.run_id for run in plane.runs()] == ["run-2", "run-1", "run-0"]
        assert plane.active is runs[1].control
        assert [run.control.record.tokens_generated for run in runs] == [0, 10, 20]
        for run in runs:
            assert {each.run_id for each in await run.events()} == {run.run_id}


# -- events ------------------------------------------------------------------------------------------------------------


async def test_events_rise_over_all_runs_and_are_paged_from_memory_as_from_the_store() -> None:
    async with open_plane() as plane:
        first, second = Run(plane, described("run-1")), Run(plane, described("run-2"))
        await first.start()
        await second.start()
        await first.say(*(make_step(step) for step in range(1, 8)))
        sequences = [each.sequence for each in await first.events()]
        assert sequences == sorted(set(sequences)) and len(sequences) == 12
        for after in (0, sequences[3], sequences[3] - 1, sequences[-1]):
            for kinds in ((), ("step_completed",)):
                kept = list(await plane.events_after("run-1", after, kinds, 3))
                first.control.recent.clear()
                assert list(await plane.events_after("run-1", after, kinds, 3)) == kept
                first.control.recent.extend(await plane.events_after("run-1", 0, (), 100))
        assert plane.last_sequence == sequences[-1]


async def test_who_waits_for_events_is_woken_by_the_next_one() -> None:
    async with open_plane() as plane:
        run = Run(plane, described())
        await run.start()
        last = (await run.events())[-1].sequence
        waiting = [asyncio.create_task(plane.wait_for_events("run-1", last)) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(each.done() for each in waiting)
        await run.say(make_step(1))
        await asyncio.wait_for(asyncio.gather(*waiting), 5)


# -- forgetting --------------------------------------------------------------------------------------------------------


async def test_only_a_run_that_ended_can_be_forgotten_and_its_directory_stays(tmp_path: Path) -> None:
    async with open_plane(str(tmp_path / "store.sqlite")) as plane:
        run_dir = tmp_path / "run"
        save_checkpoint(CheckpointStore(run_dir / "checkpoints"), 1)
        run = Run(plane, described(run_dir=str(run_dir)))
        await run.start()
        assert slug(await plane.delete("run-1", CALLER, False)) == "invalid-transition"
        await run.tell(Happening.COMPLETED)
        assert await plane.delete("run-1", CALLER, False) is None
        assert (plane.run("run-1"), (run_dir / "checkpoints" / "step-000001").is_dir()) == (None, True)
        assert slug(await plane.delete("run-1", CALLER, False)) == "run-not-found"
    async with open_plane(str(tmp_path / "store.sqlite")) as plane:
        assert plane.runs() == ()


async def test_checkpoints_go_where_that_is_asked_for_and_never_through_a_link(tmp_path: Path) -> None:
    async with open_plane() as plane:
        for name in ("own", "linked"):
            save_checkpoint(CheckpointStore(tmp_path / name / "elsewhere"), 1)
        (tmp_path / "own" / "elsewhere").rename(tmp_path / "own" / "checkpoints")
        (tmp_path / "linked" / "checkpoints").symlink_to(tmp_path / "linked" / "elsewhere")
        for name in ("own", "linked"):
            run = Run(plane, described(name, run_dir=str(tmp_path / name)))
            await run.start()
            await run.tell(Happening.COMPLETED)
            assert await plane.delete(name, CALLER, True) is None
        assert not (tmp_path / "own" / "checkpoints").exists()
        assert (tmp_path / "linked" / "elsewhere" / "step-000001" / "manifest.json").is_file()


# -- the rest ----------------------------------------------------------------------------------------------------------


async def test_prometheus_is_shown_each_family_once_with_the_runs_under_way_and_lately_ended() -> None:
    clock = Clock(10_000.0)
    async with open_plane(clock=clock) as plane:
        runs = [Run(plane, described(f"run-{number}")) for number in range(3)]
        for run in runs:
            await run.start()
            await run.say(make_step(1))
        await runs[0].tell(Happening.COMPLETED)
        clock.now += 3600.5
        await runs[1].tell(Happening.COMPLETED)
        text = generate_latest(plane.registry).decode()
        shown = [line for line in text.splitlines() if line.startswith("less_run_step{")]
        assert shown == ['less_run_step{run_id="run-1"} 1.0', 'less_run_step{run_id="run-2"} 1.0']
        assert text.count("# TYPE less_run_step gauge") == 1


async def test_the_audit_log_is_kept_with_secrets_masked() -> None:
    async with open_plane(secrets=["canary-0123456789"]) as plane:
        body = {"reason": "for canary-0123456789", "api_key": "anything", "notes": "plain"}
        for number in range(3):
            await plane.record_audit(audit_line(f"/v1/runs/{number}?x=canary-0123456789", body))
        newest, *older = await plane.audit(limit=2)
        assert newest[1].path == "/v1/runs/2?x=[redacted]"
        assert newest[1].body == {"reason": "for [redacted]", "api_key": "[redacted]", "notes": "plain"}
        assert [line.path[:10] for _, line in await plane.audit(before=older[0][0])] == ["/v1/runs/0"]


def audit_line(path: str, body: dict[str, Any]) -> AuditLine:
    return AuditLine(
        at=1.0,
        caller=CALLER,
        request_id="r",
        method="POST",
        path=path,
        run_id="",
        body_digest="",
        body=body,
        status=200,
    )


async def test_the_control_plane_is_idle_once_every_run_has_ended() -> None:
    clock = Clock(1000.0)
    async with open_plane(clock=clock) as plane:
        assert plane.is_idle_since == 1000.0
        run = Run(plane, described())
        await run.start()
        assert plane.is_idle_since is None
        clock.now = 1500.0
        await run.tell(Happening.COMPLETED)
        assert plane.is_idle_since == 1500.0
