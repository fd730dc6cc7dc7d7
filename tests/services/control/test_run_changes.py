"""What a run is asked to do beside training, and which of its values are changed meanwhile."""

from control_builders import CALLER, Run, started_run
from report_builders import make_event, make_worker

from services.control.calls import CancelRequest, PauseRequest
from services.control.live_config import ConfigAnswer
from services.control.machine import Happening, OperationKind, Refused
from services.control.records import Operation
from services.reports import (
    IntentKind,
    RunState,
    TaskKind,
)

NO_CHECKPOINT = PauseRequest(checkpoint=False, timeout_seconds=60.0, reason="maintenance")
LEARNING_RATE = "learner.optimizer.learning_rate"


async def paused(run: Run, request: PauseRequest = NO_CHECKPOINT) -> None:
    await run.control.pause(request, CALLER)
    await run.tell(Happening.PAUSED, operation_id=run.latest(OperationKind.PAUSE).operation_id)
    assert run.state is RunState.PAUSED


# -- tasks -------------------------------------------------------------------------------------------------------------


async def test_a_task_is_told_to_the_run_until_it_is_done() -> None:
    async with started_run() as run:
        operation = await run.control.start_task(OperationKind.CHECKPOINT, {"tag": "before"}, CALLER)
        assert isinstance(operation, Operation)
        (task,) = run.control.intent.tasks
        assert (task.kind, task.operation_id, task.options) == (
            TaskKind.CHECKPOINT,
            operation.operation_id,
            {"tag": "before"},
        )
        assert run.control.intent.generation == 2
        await run.tell("task_done", operation_id=operation.operation_id, result={"checkpoint": "step-000003"})
        assert run.latest(OperationKind.CHECKPOINT).result == {"checkpoint": "step-000003"}
        assert run.control.intent.tasks == ()
        # The run knows already: it need not be woken.
        assert run.control.intent.generation == 2


async def test_a_task_of_a_kind_that_is_open_answers_in_its_place() -> None:
    async with started_run() as run:
        first = await run.control.start_task(OperationKind.EVAL, {}, CALLER)
        assert await run.control.start_task(OperationKind.EVAL, {}, CALLER) == first
        assert isinstance(first, Operation)
        await run.tell("task_failed", "no engine", operation_id=first.operation_id)
        assert run.latest(OperationKind.EVAL).error == "no engine"
        again = await run.control.start_task(OperationKind.EVAL, {}, CALLER)
        assert isinstance(again, Operation) and again.operation_id != first.operation_id


async def test_a_task_needs_a_worker_that_there_is_and_a_run_that_goes_on() -> None:
    async with started_run() as run:
        restart, options = OperationKind.RESTART_WORKER, {"worker_id": "rollout-0"}
        unknown = await run.control.start_task(restart, options, CALLER)
        assert isinstance(unknown, Refused) and unknown.slug == "worker-not-found"
        await run.say(make_event("worker_started", workers=(make_worker("rollout-0"),)))
        assert isinstance(await run.control.start_task(restart, options, CALLER), Operation)
        await run.control.cancel(CancelRequest(), CALLER)
        late = await run.control.start_task(OperationKind.EVAL, {}, CALLER)
        assert isinstance(late, Refused) and late.slug == "invalid-transition"
        await run.tell(Happening.CANCELLED)
        ended = await run.control.start_task(OperationKind.EVAL, {}, CALLER)
        assert isinstance(ended, Refused) and ended.slug == "run-finished"
        assert "ended first" in run.latest(restart).error
        assert run.control.open_operations == ()


# -- live config -------------------------------------------------------------------------------------------------------


async def test_a_live_change_is_a_generation_that_is_told_to_the_run_and_dated_when_it_took() -> None:
    async with started_run() as run:
        answer = await run.control.change_config({LEARNING_RATE: 2e-6}, 1, CALLER)
        assert isinstance(answer, ConfigAnswer)
        assert (answer.generation, answer.applied) == (2, {})
        assert (answer.pending[LEARNING_RATE].value, answer.pending[LEARNING_RATE].applies) == (2e-6, "next_step")
        (change,) = run.control.intent.changes
        assert (change.generation, change.values, change.at_step) == (2, {LEARNING_RATE: 2e-6}, None)
        await run.tell("config_applied", generation=2, step=5, values={LEARNING_RATE: 2e-6})
        (config,) = run.control.configs
        assert (config.at_step, config.by) == (5, "ada")
        assert run.control.intent.changes[0].at_step == 5
        assert await run.kinds("config_changed", "config_applied") == ["config_changed", "config_applied"]


async def test_a_change_is_checked_against_the_config_that_is_in_force() -> None:
    async with started_run() as run:
        stale = await run.control.change_config({LEARNING_RATE: 2e-6}, 7, CALLER)
        assert isinstance(stale, Refused) and stale.slug == "precondition-failed"
        foreign = await run.control.change_config({"seed": 3}, 1, CALLER)
        assert isinstance(foreign, Refused) and foreign.slug == "key-not-live"
        assert [each.pointer for each in foreign.problems] == ["#/seed"]
        assert run.control.configs == ()
        await run.control.change_config({LEARNING_RATE: 2e-6}, 1, CALLER)
        # The same once more changes nothing, so that it is no generation.
        same = await run.control.change_config({LEARNING_RATE: 2e-6}, 2, CALLER)
        assert same == ConfigAnswer(generation=2, applied={LEARNING_RATE: 2e-6})


async def test_a_change_that_the_run_could_not_take_is_told_to_no_later_process() -> None:
    async with started_run() as run:
        await run.control.change_config({LEARNING_RATE: 2e-6}, 1, CALLER)
        await run.tell("config_failed", "the learner refused", generation=2)
        assert run.control.configs[0].error == "the learner refused"
        assert run.control.intent.changes == ()


async def test_the_config_changes_while_paused_and_not_after_the_end() -> None:
    async with started_run() as run:
        await paused(run)
        assert isinstance(await run.control.change_config({LEARNING_RATE: 2e-6}, 1, CALLER), ConfigAnswer)
        assert run.control.intent.kind is IntentKind.PAUSE
        assert run.control.intent.order is not None
        await run.tell(Happening.FAILED)
        refused = await run.control.change_config({LEARNING_RATE: 3e-6}, 2, CALLER)
        assert isinstance(refused, Refused) and refused.slug == "run-finished"
