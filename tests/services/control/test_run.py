"""One run of the control plane: calls in, intents, operations and events out. The test moves time."""

import asyncio
import json
from pathlib import Path

import pytest
from checkpoint_builders import save_checkpoint
from control_builders import CALLER, BrokenStore, Run, described, open_plane, soon, started_run
from report_builders import Clock, make_event, make_step

from services.checkpoints.store import CheckpointStore
from services.control.calls import CancelRequest, PauseRequest, ResumeRequest
from services.control.machine import Happening, OperationKind
from services.control.records import OperationState, StoreError
from services.control.run import CallAnswer
from services.control.store import open_store
from services.reports import (
    Failure,
    IntentKind,
    OperationReport,
    PauseMode,
    PauseOrder,
    RunState,
)

NO_CHECKPOINT = PauseRequest(checkpoint=False, timeout_seconds=60.0, reason="maintenance")


async def paused(run: Run, request: PauseRequest = NO_CHECKPOINT) -> None:
    await run.control.pause(request, CALLER)
    await run.tell(Happening.PAUSED, operation_id=run.latest(OperationKind.PAUSE).operation_id)
    assert run.state is RunState.PAUSED


# -- intents -----------------------------------------------------------------------------------------------------------


async def test_the_first_intent_is_to_run_and_needs_no_wait() -> None:
    async with open_plane() as plane:
        run = Run(plane, described())
        await run.register()
        intent = await asyncio.wait_for(plane.intent_after(run.run_id, 0), 5)
        assert (intent.generation, intent.kind) == (1, IntentKind.RUN)


async def test_a_waiting_process_hears_of_a_pause_with_its_order_and_reason() -> None:
    async with started_run() as run:
        waiting = asyncio.create_task(run.plane.intent_after(run.run_id, 1))
        await asyncio.sleep(0)
        assert not waiting.done()
        await run.control.pause(PauseRequest(mode=PauseMode.FREEZE, reason="maintenance"), CALLER)
        intent = await asyncio.wait_for(waiting, 5)
        assert (intent.generation, intent.kind, intent.reason) == (2, IntentKind.PAUSE, "maintenance")
        operation = run.latest(OperationKind.PAUSE)
        expected = PauseOrder(operation_id=operation.operation_id, mode=PauseMode.FREEZE, checkpoint=False)
        assert intent.order == expected


async def test_a_cancel_that_saves_is_an_abort_with_a_checkpoint() -> None:
    async with started_run() as run:
        await run.control.cancel(CancelRequest(), CALLER)
        order = run.control.intent.order
        assert order is not None and (order.mode, order.checkpoint) == (PauseMode.ABORT, True)
        assert order.operation_id == run.latest(OperationKind.CANCEL).operation_id


async def test_an_intent_is_observed_when_its_successor_is_asked_for() -> None:
    async with started_run() as run:
        assert run.control.record.observed_generation == 0
        waiting = asyncio.create_task(run.plane.intent_after(run.run_id, 1))
        await asyncio.sleep(0)
        assert run.control.record.observed_generation == 1
        waiting.cancel()
        # A change that was under way in between does not take it back.
        await run.say(make_step(1))
        assert run.control.record.observed_generation == 1


async def test_only_the_newest_of_several_intents_is_handed_out() -> None:
    async with started_run() as run:
        await run.control.pause(NO_CHECKPOINT, CALLER)
        await run.control.resume(ResumeRequest(), CALLER)
        intent = await run.plane.intent_after(run.run_id, 1)
        assert (intent.generation, intent.kind) == (3, IntentKind.RUN)


async def test_a_process_that_knows_a_later_generation_than_the_store_is_told_what_is() -> None:
    async with started_run() as run:
        intent = await asyncio.wait_for(run.plane.intent_after(run.run_id, 7), 5)
        assert intent.generation == 1


# -- pauses ------------------------------------------------------------------------------------------------------------


async def test_a_pause_goes_through_its_phases_and_says_what_came_of_it() -> None:
    clock = Clock(1000.0)
    async with started_run(clock=clock) as run:
        answer = await run.control.pause(NO_CHECKPOINT, CALLER)
        assert isinstance(answer, CallAnswer) and answer.operation is not None
        operation = answer.operation
        assert (operation.phase, operation.deadline_at, operation.requested_by) == ("draining", 1060.0, "ada")
        assert operation.request["mode"] == "drain"
        await run.say(OperationReport(operation_id=operation.operation_id, phase="draining", inflight_groups=3))
        assert run.latest(OperationKind.PAUSE).inflight_groups == 3
        await run.say(OperationReport(operation_id=operation.operation_id, phase="finishing_step", progress=0.5))
        clock.now = 1010.0
        await run.tell(
            Happening.PAUSED, operation_id=operation.operation_id, released="none", exactness="learner_exact"
        )
        ended = run.latest(OperationKind.PAUSE)
        assert run.state is RunState.PAUSED
        assert (ended.phase, ended.state, ended.ended_at) == ("done", OperationState.SUCCEEDED, 1010.0)
        assert ended.result == {"released": "none", "exactness": "learner_exact"}
        await run.control.resume(ResumeRequest(), CALLER)
        await run.tell(Happening.RESUMED)
        assert run.state is RunState.RUNNING
        told = [(each.details["kind"], each.details["phase"]) for each in await run.events("operation_updated")]
        assert told == [
            *(("pause", phase) for phase in ("draining", "finishing_step", "done")),
            *(("resume", phase) for phase in ("reopening", "done")),
        ]


async def test_a_pause_that_answers_one_that_was_withdrawn_is_not_believed() -> None:
    async with started_run() as run:
        await run.control.pause(NO_CHECKPOINT, CALLER)
        withdrawn = run.latest(OperationKind.PAUSE).operation_id
        await run.control.resume(ResumeRequest(), CALLER)
        await run.control.pause(NO_CHECKPOINT, CALLER)
        await run.tell(Happening.PAUSED, operation_id=withdrawn)
        assert run.state is RunState.PAUSING
        await run.tell(Happening.PAUSED, operation_id=run.latest(OperationKind.PAUSE).operation_id)
        assert run.state is RunState.PAUSED


async def test_a_pause_is_believed_only_with_the_manifest_of_its_checkpoint(tmp_path: Path) -> None:
    async with open_plane() as plane:
        run = Run(plane, described(run_dir=str(tmp_path)))
        await run.start()
        save_checkpoint(CheckpointStore(tmp_path / "checkpoints"), 1)
        await run.control.pause(PauseRequest(), CALLER)
        await run.tell(Happening.PAUSED, checkpoint="step-000001")
        assert run.state is RunState.PAUSED
        assert run.latest(OperationKind.PAUSE).result == {"checkpoint": "step-000001"}


@pytest.mark.parametrize("name", ["step-000002", "", "../checkpoints/step-000001"])
async def test_a_pause_without_its_manifest_fails_and_the_run_is_told_to_go_on(tmp_path: Path, name: str) -> None:
    async with open_plane() as plane:
        run = Run(plane, described(run_dir=str(tmp_path)))
        await run.start()
        save_checkpoint(CheckpointStore(tmp_path / "checkpoints"), 1)
        await run.control.pause(PauseRequest(), CALLER)
        await run.tell(Happening.PAUSED, checkpoint=name)
        operation = run.latest(OperationKind.PAUSE)
        assert (run.state, operation.state) == (RunState.RUNNING, OperationState.FAILED)
        assert "a committed checkpoint must" in operation.error
        assert run.control.intent.kind is IntentKind.RUN
        assert await run.kinds("pause_failed", "paused") == ["pause_failed"]


async def test_a_manifest_with_a_changed_byte_is_not_believed(tmp_path: Path) -> None:
    async with open_plane() as plane:
        run = Run(plane, described(run_dir=str(tmp_path)))
        await run.start()
        save_checkpoint(CheckpointStore(tmp_path / "checkpoints"), 1)
        manifest = tmp_path / "checkpoints" / "step-000001" / "manifest.json"
        manifest.write_bytes(manifest.read_bytes().replace(b'"step": 1', b'"step": 2'))
        await run.control.pause(PauseRequest(), CALLER)
        await run.tell(Happening.PAUSED, checkpoint="step-000001")
        assert run.state is RunState.RUNNING
        assert "its own hash does not agree" in run.latest(OperationKind.PAUSE).error


async def test_where_the_directory_is_not_to_be_seen_the_run_is_trusted() -> None:
    async with started_run() as run:
        await run.control.pause(PauseRequest(), CALLER)
        await run.tell(Happening.PAUSED, checkpoint="step-000001")
        assert run.state is RunState.PAUSED


async def test_a_pause_that_the_run_could_not_make_fails_with_its_reason() -> None:
    async with started_run() as run:
        await run.control.pause(PauseRequest(), CALLER)
        operation = run.latest(OperationKind.PAUSE)
        await run.tell(
            "pause_failed", "", operation_id=operation.operation_id, phase="saving", error="the disk is full"
        )
        assert run.state is RunState.RUNNING
        assert run.latest(OperationKind.PAUSE).error == "the disk is full"


async def test_paused_time_is_counted_by_mode_as_it_passes() -> None:
    clock = Clock(1000.0)
    async with started_run(clock=clock) as run:
        await paused(run, PauseRequest(mode=PauseMode.FREEZE))
        clock.now = 1003.0
        run.control.count_paused_time()
        assert sample(run, "less_run_paused_seconds_total", mode="freeze") == 3.0
        clock.now = 1005.0
        await run.control.resume(ResumeRequest(), CALLER)
        clock.now = 1100.0
        run.control.count_paused_time()
        assert sample(run, "less_run_paused_seconds_total", mode="freeze") == 5.0
        assert sample(run, "less_run_paused_seconds_total", mode="drain") == 0.0
        assert run.control.record.paused_seconds == 5.0
        assert sample(run, "less_run_pauses_total", mode="freeze", result="succeeded") == 1


def sample(run: Run, name: str, **labels: str) -> float | None:
    assert run.control.metrics is not None
    return run.control.metrics.registry.get_sample_value(name, {"run_id": "run-1", **labels})


async def test_exactly_one_state_is_shown_to_prometheus() -> None:
    async with started_run() as run:
        await run.control.pause(NO_CHECKPOINT, CALLER)
        shown = {state: sample(run, "less_run_state", state=state.value) for state in RunState}
        assert shown == {state: float(state is RunState.PAUSING) for state in RunState}


# -- the store ---------------------------------------------------------------------------------------------------------


async def test_a_call_that_cannot_be_written_changes_nothing_and_the_next_one_works() -> None:
    store = BrokenStore(open_store(":memory:"))
    async with open_plane(store) as plane:
        run = Run(plane, described())
        await run.start()
        before, events = run.facts, await run.events()
        store.is_broken = True
        with pytest.raises(StoreError, match="disk is full"):
            await run.control.pause(NO_CHECKPOINT, CALLER)
        with pytest.raises(StoreError):
            await run.say(make_step(1))
        assert run.facts == before
        assert run.control.last_step is None
        assert sample(run, "less_rollout_generated_tokens_total") == 0
        assert plane.checks["store"]() == "the disk is full"
        store.is_broken = False
        assert await run.events() == events
        await run.control.pause(NO_CHECKPOINT, CALLER)
        assert run.state is RunState.PAUSING
        assert plane.checks["store"]() == ""


async def test_a_call_whose_caller_goes_away_is_carried_to_its_end() -> None:
    async with started_run() as run:
        calling = asyncio.create_task(run.control.pause(NO_CHECKPOINT, CALLER))
        await asyncio.sleep(0)
        calling.cancel()
        await soon(lambda: calling.done())
        await run.control.settle()
        assert run.state is RunState.PAUSING
        assert run.control.intent.generation == 2


async def test_every_event_says_the_state_that_the_store_has_with_it() -> None:
    async with started_run() as run:
        await run.control.pause(NO_CHECKPOINT, CALLER)
        told = [(each.kind, each.state) for each in await run.events()]
        assert told == [
            ("run_registered", RunState.PENDING),
            ("run_state_changed", RunState.STARTING),
            ("attempt_started", RunState.STARTING),
            ("started", RunState.RUNNING),
            ("run_state_changed", RunState.RUNNING),
            ("operation_updated", RunState.RUNNING),
            ("run_state_changed", RunState.PAUSING),
        ]


async def test_no_secret_is_in_an_event_an_operation_or_the_record_of_a_run() -> None:
    secret = "canary-0123456789"
    async with started_run(secrets=[secret]) as run:
        await run.control.pause(PauseRequest(checkpoint=False, reason=f"because of {secret}"), CALLER)
        failure = Failure(role="rollout", cause=f"401 for {secret}")
        await run.say(
            make_event("worker_lost", f"its token was {secret}", details={"answer": [secret], "api_key": "x"})
        )
        await run.say(make_event(Happening.FAILED, secret, failure=failure))
        operations = await run.plane.operations(run.run_id)
        record = run.control.record
        shown = repr([await run.events(), operations, record.message, record.failure, run.latest(OperationKind.PAUSE)])
        assert secret not in shown
        assert shown.count("[redacted]") >= 5
        assert json.dumps([each.details for each in await run.events("worker_lost")]).count("[redacted]") == 2
