"""Pauses over fake roles: memory that is given back, the beginning and the end of a run, evaluations, deaths."""

import asyncio

import pytest
from fake_roles import make_order, settle
from pause_builders import held_run, let_go, paused
from run_builders import FakeRun, group_ids, make_run

from services.pausing import Released, RunCancelled
from services.reports import Intent, IntentKind, PauseMode, ReleaseLevel, StepReport
from shaping.errors import RoleDied, RunFailed

FREEZE, ABORT, DRAIN = PauseMode.FREEZE, PauseMode.ABORT, PauseMode.DRAIN


# -- memory


async def test_memory_that_no_engine_can_give_back_is_refused_before_anything_is_stopped() -> None:
    run = held_run(can_release=frozenset())
    task = run.begin()
    await settle()
    order = await run.control.pause(ABORT, release=ReleaseLevel.KV_CACHE)
    await settle()
    (failed,) = run.control.events("pause_failed")
    assert failed.details["operation_id"] == order.operation_id
    assert failed.details["error"] == (
        "release must be one that every engine can do, all, none, got kv_cache (rollout engines)"
    )
    assert run.workers[0].running == [*group_ids(0, 1)] and run.control.phases == []
    let_go(run)
    await task


async def test_weights_that_were_given_back_come_before_the_kv_cache_and_before_any_group() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_workers=2, with_canary=True)
    held = asyncio.Event()
    run.learner.script["step"] = [held]
    task = run.begin()
    await settle()
    await run.control.pause(DRAIN, release=ReleaseLevel.ROLLOUT_WEIGHTS)
    held.set()
    await settle()
    assert [worker.policy_version for worker in run.workers] == [-1, -1]
    assert {each.standing for each in run.orchestrator._rollout.statuses()} == {"behind"}
    assert paused(run.control)[0]["released"] == "rollout_weights" and run.control.phases[-1] == "releasing"
    assert run.asked == [*group_ids(0)]
    before = [len(worker.calls) for worker in run.workers]
    await run.control.want(IntentKind.RUN)
    await task
    for worker, start in zip(run.workers, before, strict=True):
        calls = [each for each in worker.calls[start:] if each != "ping"]
        weights = ["connect_weights", "stage_weights", "verify_weights", "commit_weights"]
        assert calls[:6] == ["wake rollout_weights", *weights, "wake kv_cache"]
    assert run.learner.batches == [group_ids(0), group_ids(1)]


async def test_nothing_is_admitted_before_everything_is_taken_again() -> None:
    run = make_run(groups_per_step=1, num_steps=2)
    held, waking = asyncio.Event(), asyncio.Event()
    run.learner.script["step"] = [held]
    run.workers[0].script["wake kv_cache"] = [waking]
    task = run.begin()
    await settle()
    await run.control.pause(DRAIN, release=ReleaseLevel.KV_CACHE)
    held.set()
    await settle()
    await run.control.want(IntentKind.RUN)
    await settle()
    assert run.orchestrator.in_flight == () and run.control.events("resumed") == []
    waking.set()
    await task
    assert len(run.control.events("resumed")) == 1


async def test_an_engine_that_cannot_give_memory_back_fails_the_pause_and_is_started_again() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_workers=2)
    run.workers[1].script["release kv_cache"] = [RunFailed(role="rollout", cause="out of memory")]
    held = asyncio.Event()
    run.learner.script["step"] = [held]
    task = run.begin()
    await settle()
    await run.control.pause(DRAIN, release=ReleaseLevel.KV_CACHE)
    held.set()
    await task
    (failed,) = run.control.events("pause_failed")
    assert failed.details["phase"] == "releasing" and "out of memory" in failed.details["error"]
    assert run.workers[1].calls.count("restart") == 1 and paused(run.control) == []
    assert run.workers[0].released is None
    assert run.learner.batches == [group_ids(0), group_ids(1)]


async def test_giving_everything_back_ends_the_orchestrator_after_the_checkpoint() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    order = await run.control.pause(ABORT, checkpoint=True, release=ReleaseLevel.ALL)
    with pytest.raises(Released) as released:
        await task
    assert (released.value.checkpoint, released.value.operation_id) == ("checkpoint-1", order.operation_id)
    # Whoever ends the roles says that they have ended.
    assert paused(run.control) == []
    again = make_run(groups_per_step=2, num_steps=2, resumed=run.store.checkpoints[0])
    await again.finish()
    assert again.learner.batches == [group_ids(0, 1), group_ids(2, 3)]


async def test_a_resume_while_the_checkpoint_is_written_gives_nothing_back() -> None:
    run = held_run()
    held = asyncio.Event()
    run.shapers[0].script["save_groups"] = [held]
    task = run.begin()
    await settle()
    await run.control.pause(ABORT, checkpoint=True, release=ReleaseLevel.ALL)
    await settle()
    await run.control.want(IntentKind.RUN)
    held.set()
    run.workers[0].holds.clear()
    await task
    assert len(run.store.checkpoints) == 1 and paused(run.control) == []
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]


# -- the whole life


async def test_nothing_is_asked_for_before_the_user_was_heard() -> None:
    run = make_run(groups_per_step=1, num_steps=1)
    run.control.intent = Intent(generation=0, kind=IntentKind.RUN)
    task = run.begin()
    await settle()
    await run.control.pause(DRAIN)
    await settle()
    assert run.workers[0].requests == [] and len(paused(run.control)) == 1
    await run.control.want(IntentKind.RUN)
    await task


async def test_a_run_that_starts_paused_publishes_evaluates_and_admits_nothing() -> None:
    store = make_run(groups_per_step=1, num_steps=2, checkpoint_every=1)
    await store.finish()
    run = make_run(groups_per_step=1, num_steps=2, num_held_out=1, resumed=store.store.checkpoints[0])
    run.learner.policy_version = 1
    run.control.intent = Intent(generation=2, kind=IntentKind.PAUSE, order=make_order(checkpoint=True))
    task = run.begin()
    await settle()
    (details,) = paused(run.control)
    assert details["checkpoint"] == "checkpoint-1"
    assert run.learner.calls.count("send_weights") == 0 and run.workers[0].requests == []
    await run.control.want(IntentKind.RUN)
    await task
    assert [each.step for each in run.control.steps] == [2]


async def test_a_worker_that_dies_in_a_pause_is_started_again_and_gets_its_weights_at_resume() -> None:
    run = make_run(groups_per_step=1, num_steps=3, num_workers=2)
    held = asyncio.Event()
    run.learner.script["step"] = [None, held]
    task = run.begin()
    await run.control.until(lambda _: len(run.control.steps) == 1)
    await run.control.pause(DRAIN)
    held.set()
    await run.control.until(lambda _: bool(run.control.events("paused")))
    run.orchestrator._rollout.leave_out("rollout-1", "its process ended")
    sent = run.learner.calls.count("send_weights")
    await settle()
    assert run.workers[1].calls.count("restart") == 1
    assert run.learner.calls.count("send_weights") == sent and run.workers[1].policy_version == 0
    await run.control.want(IntentKind.RUN)
    await task
    assert run.workers[1].policy_version == 3


async def test_a_cancel_that_saves_aborts_first() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    order = make_order("op-9", mode=ABORT, checkpoint=True)
    await run.control.want(IntentKind.CANCEL, "enough", order=order)
    with pytest.raises(RunCancelled, match="enough"):
        await task
    assert [each.ordinal for each in run.store.checkpoints[0].snapshot.in_flight] == [0, 1]
    assert paused(run.control) == []


async def test_a_cancel_of_a_paused_run_keeps_the_checkpoint_of_the_pause() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    await run.control.pause(FREEZE, checkpoint=True)
    await settle()
    assert len(run.store.checkpoints) == 1
    await run.control.want(IntentKind.CANCEL, order=make_order("op-9", mode=ABORT, checkpoint=True))
    with pytest.raises(RunCancelled):
        await task
    assert len(run.store.checkpoints) == 1 and run.workers[0].running == []
    # What was frozen is given up first, and the control plane sees it.
    assert run.control.phases[-1] == "aborting"


async def test_a_cancel_of_a_paused_run_takes_back_nothing_that_was_given_back() -> None:
    run = held_run(with_canary=True)
    task = run.begin()
    await settle()
    await run.control.pause(ABORT, release=ReleaseLevel.ROLLOUT_WEIGHTS)
    await settle()
    sent = run.learner.calls.count("send_weights")
    await run.control.want(IntentKind.CANCEL, order=make_order("op-9", mode=ABORT, checkpoint=True))
    with pytest.raises(RunCancelled):
        await task
    assert len(run.store.checkpoints) == 1 and run.learner.calls.count("send_weights") == sent
    assert not any(each.startswith("wake") for each in run.workers[0].calls)


async def test_a_cancel_whose_checkpoint_fails_is_a_cancel() -> None:
    run = held_run()
    run.store.save_errors = ["no space left on device"]
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.CANCEL, order=make_order("op-9", mode=ABORT, checkpoint=True))
    with pytest.raises(RunCancelled):
        await task
    assert run.control.events("pause_failed") == []


# -- evaluations


async def evaluating(run: FakeRun) -> asyncio.Task[None]:
    """Until the evaluation after the first step is under way."""
    question = "held_out-00000-000"
    task = run.begin()
    await run.control.until(lambda _: len(run.control.evaluations) == 1)
    for worker in run.workers:
        worker.holds[question] = asyncio.Event()
    await settle()
    assert run.workers[0].running == [question] and run.control.steps == []
    return task


@pytest.mark.parametrize("mode", [FREEZE, ABORT])
async def test_a_freeze_or_abort_in_an_evaluation_tells_the_step_pauses_and_then_goes_on_with_it(
    mode: PauseMode,
) -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_held_out=1, evaluate_every=1, checkpoint_every=1)
    task = await evaluating(run)
    await run.control.pause(mode, checkpoint=True)
    await settle()
    kinds = [type(each).__name__ for each in run.control.reports if isinstance(each, StepReport)]
    assert kinds == ["StepReport"] and len(paused(run.control)) == 1
    assert run.store.checkpoints[0].snapshot.version == 1
    assert run.workers[0].running == ([] if mode is ABORT else ["held_out-00000-000"])
    let_go(run)
    run.workers[0].holds.clear()
    await settle()
    assert len(run.control.evaluations) == 1
    await run.control.want(IntentKind.RUN)
    await task
    assert [each.policy_version for each in run.control.evaluations] == [0, 1, 2]
    assert [each.step for each in run.control.steps] == [1, 2]
    # The pause's, then those that were due.
    assert [each.snapshot.version for each in run.store.checkpoints] == [1, 1, 2]


async def test_a_drain_waits_for_an_evaluation() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_held_out=1, evaluate_every=1)
    task = await evaluating(run)
    await run.control.pause(DRAIN)
    await settle()
    assert paused(run.control) == []
    let_go(run)
    await settle()
    assert len(paused(run.control)) == 1 and len(run.control.evaluations) == 2
    await run.control.want(IntentKind.RUN)
    await task


async def test_an_evaluation_beside_training_is_lost_with_its_weights_and_said_so() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_workers=2, num_held_out=1, evaluation_workers=1)
    for worker in run.workers:
        worker.holds["held_out-00000-000"] = asyncio.Event()
        worker.holds[group_ids(0)[0]] = asyncio.Event()
    task = run.begin()
    await settle()
    await run.control.pause(ABORT, release=ReleaseLevel.ROLLOUT_WEIGHTS)
    await settle()
    assert len(paused(run.control)) == 1
    for worker in run.workers:
        worker.holds.clear()
    await run.control.want(IntentKind.RUN)
    await task
    (lost,) = run.control.events("evaluation_lost")
    assert lost.message.startswith("the evaluation of version 0 is given up")
    assert run.learner.batches == [group_ids(0), group_ids(1)]


async def test_an_evaluation_beside_training_outlives_an_abort_on_the_same_engine() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_workers=2, num_held_out=1, evaluation_workers=1)
    for worker in run.workers:
        worker.holds["held_out-00000-000"] = asyncio.Event()
        worker.holds[group_ids(0)[0]] = asyncio.Event()
    task = run.begin()
    await settle()
    await run.control.pause(ABORT)
    await settle()
    assert len(paused(run.control)) == 1
    for worker in run.workers:
        worker.holds.clear()
    await run.control.want(IntentKind.RUN)
    await task
    assert run.control.events("evaluation_lost") == []
    assert [each.policy_version for each in run.control.evaluations] == [0, 2]
    asked = [[each.group_id for each in worker.requests].count("held_out-00000-000") for worker in run.workers]
    assert sum(asked) == 3 and max(asked) >= 2, "the engine that was lent was asked twice, one of both for the end"


async def test_an_engine_that_does_not_freeze_is_left_out_and_its_groups_are_asked_for_elsewhere() -> None:
    run = held_run(num_workers=2)
    run.workers[0].script["freeze"] = [RoleDied(role="rollout", cause="its process ended")]
    task = run.begin()
    await settle()
    await run.control.pause(FREEZE)
    await settle()
    assert len(paused(run.control)) == 1 and run.workers[0].calls.count("restart") == 1
    for worker in run.workers:
        worker.holds.clear()
    let_go(run)
    await run.control.want(IntentKind.RUN)
    await settle()
    let_go(run)
    await task
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]
