"""What a run is asked to do beside training: done once, at a border or beside it, and answered by name."""

import asyncio

from fake_roles import settle
from pause_builders import held_run, let_go
from run_builders import FakeRun, group_ids, make_run

from services.reports import BufferReport, IntentKind, OperationReport, PauseMode, RunTask, TaskKind
from services.virtual_time import run_virtual
from shaping.errors import RunFailed


def task_of(kind: TaskKind, **options: str) -> RunTask:
    return RunTask(operation_id=f"op-{kind}", kind=kind, options=options)


async def ask(run: FakeRun, *tasks: RunTask) -> None:
    await run.control.want(IntentKind.RUN, tasks=tasks)
    await settle()


def answers(run: FakeRun, kind: str = "task_done") -> list[dict[str, object]]:
    return [dict(each.details) for each in run.control.events(kind)]


async def test_a_checkpoint_is_taken_while_the_learner_waits_and_once_however_often_it_is_asked_for() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    wanted = task_of(TaskKind.CHECKPOINT, tag="before the change")
    await ask(run, wanted)
    await ask(run, wanted)
    assert answers(run) == [{"operation_id": "op-checkpoint", "result": {"checkpoint": "checkpoint-1"}}]
    assert run.store.tags == ["before the change"]
    assert [each.ordinal for each in run.store.checkpoints[0].snapshot.in_flight] == [0, 1]
    let_go(run)
    await task
    assert len(run.store.checkpoints) == 1


async def test_a_checkpoint_that_fails_is_a_failed_task_and_no_end() -> None:
    run = held_run()
    run.store.save_errors = ["no space left on device"]
    task = run.begin()
    await settle()
    await ask(run, task_of(TaskKind.CHECKPOINT))
    assert answers(run, "task_failed") == [{"operation_id": "op-checkpoint", "error": "no space left on device"}]
    let_go(run)
    await task


async def test_nothing_is_begun_in_a_pause_and_it_is_done_after_it() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    order = await run.control.pause(PauseMode.DRAIN)
    await run.control.want(IntentKind.PAUSE, order=order, tasks=(task_of(TaskKind.CHECKPOINT),))
    await settle()
    assert answers(run) == [] and run.control.events("paused") == []
    let_go(run)
    await settle()
    assert answers(run) == [] and len(run.control.events("paused")) == 1
    await run.control.want(IntentKind.RUN)
    await task
    assert len(answers(run)) == 1


async def test_an_evaluation_is_made_as_if_it_were_due() -> None:
    run = held_run(num_held_out=1)
    task = run.begin()
    await settle()
    assert run.book.measured == [0]
    await ask(run, task_of(TaskKind.EVAL))
    # Version 0 has its result.
    assert answers(run) == [{"operation_id": "op-eval", "result": {"policy_version": 0}}]
    let_go(run)
    await task
    later = make_run(groups_per_step=1, num_steps=3, num_held_out=1)
    held = asyncio.Event()
    later.workers[0].holds = {group_ids(1)[0]: held}
    task = later.begin()
    await settle()
    await ask(later, task_of(TaskKind.EVAL))
    assert answers(later) == [{"operation_id": "op-eval", "result": {"policy_version": 1, "accuracy": 1.0}}]
    held.set()
    await task
    assert [each.policy_version for each in later.control.evaluations] == [0, 1, 3]


async def test_an_evaluation_on_lent_engines_is_answered_once_it_has_ended() -> None:
    run = make_run(groups_per_step=1, num_steps=3, num_workers=2, num_held_out=1, evaluation_workers=1)
    held = {group_ids(1)[0]: asyncio.Event()}
    for worker in run.workers:
        worker.holds = held
    task = run.begin()
    await settle()
    held["held_out-00000-000"] = asyncio.Event()
    await ask(run, task_of(TaskKind.EVAL))
    assert answers(run) == []
    held["held_out-00000-000"].set()
    await settle()
    assert answers(run) == [{"operation_id": "op-eval", "result": {"policy_version": 1, "accuracy": 1.0}}]
    held[group_ids(1)[0]].set()
    await task


async def test_a_run_that_evaluates_nothing_says_so() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    await ask(run, task_of(TaskKind.EVAL))
    assert "the recipe must name what to evaluate on" in str(answers(run, "task_failed")[0]["error"])
    let_go(run)
    await task


async def test_a_worker_is_started_again_at_no_cost_and_its_groups_are_asked_for_elsewhere() -> None:
    run = held_run(num_workers=2, max_worker_restarts=0)
    task = run.begin()
    await settle()
    await ask(run, task_of(TaskKind.RESTART_WORKER, worker_id="rollout-1"))
    assert answers(run) == [{"operation_id": "op-restart_worker", "result": {"worker_id": "rollout-1", "restarts": 1}}]
    assert run.workers[1].calls.count("restart") == 1 and run.workers[0].calls.count("restart") == 0
    let_go(run)
    for worker in run.workers:
        worker.holds.clear()
    await task
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]


async def test_a_worker_is_drained_before_it_is_started_again() -> None:
    run = make_run(groups_per_step=2, num_steps=3, num_workers=2, max_worker_restarts=0)
    run.workers[0].holds = {group_ids(0)[0]: asyncio.Event()}
    task = run.begin()
    await settle()
    await ask(run, task_of(TaskKind.DRAIN_WORKER, worker_id="rollout-0"))
    assert answers(run) == [] and run.workers[0].calls.count("restart") == 0
    let_go(run)
    await task
    assert run.workers[0].calls.count("restart") == 1 and len(answers(run)) == 1
    assert run.control.events("group_retried") == []


async def test_a_worker_that_is_not_there_is_named() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    await ask(run, task_of(TaskKind.RESTART_WORKER, worker_id="learner"))
    (failed,) = answers(run, "task_failed")
    assert failed["error"] == (
        "worker_id must name a rollout or shaping worker, got 'learner'; the learner is one group"
    )
    let_go(run)
    await task


async def test_a_worker_that_cannot_be_started_again_is_a_failed_task() -> None:
    run = held_run(num_workers=2, max_worker_restarts=0)
    run.workers[1].script["start"] = [RunFailed(role="rollout", cause="no memory")]
    task = run.begin()
    await settle()
    await ask(run, task_of(TaskKind.RESTART_WORKER, worker_id="rollout-1"))
    (failed,) = answers(run, "task_failed")
    assert "rollout-1 could not be started again" in str(failed["error"])
    let_go(run)
    for worker in run.workers:
        worker.holds.clear()
    await task


def test_queues_and_workers_are_told_where_they_change_and_at_most_once_a_second() -> None:
    async def law() -> None:
        run = held_run(num_workers=2)
        running = asyncio.ensure_future(run.orchestrator.run())
        await asyncio.sleep(5.5)
        (counts,) = [each for each in run.control.reports if isinstance(each, BufferReport)]
        assert counts.queues == {"in_flight": (2, 2), "buffered": (0, 2), "rollout": (2, 2), "shaping": (0, 2)}
        assert [(each.worker_id, each.standing, each.restarts) for each in counts.workers] == [
            ("rollout-0", "serving", 0),
            ("rollout-1", "serving", 0),
            ("shaping-0", "serving", 0),
        ]
        await run.control.pause(PauseMode.DRAIN)
        await asyncio.sleep(1.0)
        run.workers[0].holds[group_ids(0)[0]].set()
        await asyncio.sleep(1.0)
        progress = [each for each in run.control.reports if isinstance(each, OperationReport)]
        assert [(each.phase, each.inflight_groups) for each in progress] == [
            ("draining", 2),
            ("draining", 2),
            ("draining", 1),
        ]
        let_go(run)
        await asyncio.sleep(2.0)
        await run.control.want(IntentKind.RUN)
        await running

    run_virtual(law())
