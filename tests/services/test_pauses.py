"""Pauses over fake roles: what is waited for, what is saved and given back, and that nothing is lost by it."""

import asyncio

import pytest
from fake_roles import make_order, settle
from pause_builders import held_run, let_go, paused
from run_builders import group_ids, make_run

from services.reports import IntentKind, PauseMode
from services.virtual_time import run_virtual, virtual_clock
from shaping.errors import RunFailed

FREEZE, ABORT, DRAIN = PauseMode.FREEZE, PauseMode.ABORT, PauseMode.DRAIN


# -- freeze


async def test_a_freeze_keeps_what_is_under_way_and_asks_for_nothing_twice() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    order = await run.control.pause(FREEZE)
    await settle()
    assert paused(run.control) == [
        {"operation_id": order.operation_id, "checkpoint": "", "released": "none", "exactness": "none"}
    ]
    assert run.control.events("paused")[0].message.endswith("0 shaped groups wait, 2 groups are under way")
    # The script has come to its end, the engine has not: it stands still.
    let_go(run)
    await settle()
    assert run.shapers[0].shaped == [] and run.workers[0].running == [*group_ids(0, 1)]
    await run.control.want(IntentKind.RUN)
    await task
    assert [each.group_id for each in run.workers[0].requests] == [*group_ids(0, 1, 2, 3)]
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]
    assert len(run.control.events("resumed")) == 1


async def test_a_step_under_way_ends_with_its_weights_on_frozen_engines_which_stay_frozen() -> None:
    run = make_run(groups_per_step=1, num_steps=3, max_staleness=1, with_canary=True)
    held = asyncio.Event()
    run.learner.script["step"] = [held]
    run.workers[0].holds = {each: asyncio.Event() for each in group_ids(1)}
    task = run.begin()
    await settle()
    await run.control.pause(FREEZE)
    await settle()
    assert run.workers[0].is_frozen and paused(run.control) == []
    assert run.control.phases == ["freezing", "finishing_step"]
    held.set()
    await settle()
    assert run.workers[0].policy_version == 1 and run.workers[0].is_frozen
    assert len(paused(run.control)) == 1 and len(run.control.steps) == 1
    # A frozen engine samples no canary; the number is absent, not zero.
    assert "weight_sync_canary_difference_nats" not in run.control.steps[0].metrics
    let_go(run)
    await run.control.want(IntentKind.RUN)
    await task
    assert "weight_sync_canary_difference_nats" in run.control.steps[1].metrics


async def test_a_weight_sync_under_way_finishes_before_engines_are_frozen() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_workers=2, with_canary=True)
    held = asyncio.Event()
    run.workers[1].script["commit_weights"] = [held]
    task = run.begin()
    await settle()
    await run.control.pause(FREEZE)
    await settle()
    assert not any("freeze" in worker.calls for worker in run.workers)
    held.set()
    await settle()
    for worker in run.workers:
        assert worker.calls.index("canary") < worker.calls.index("freeze")
    assert len(paused(run.control)) == 1
    await run.control.want(IntentKind.RUN)
    await task


def test_a_freeze_of_hours_is_no_call_that_takes_hours() -> None:
    async def law() -> None:
        run = held_run(group_seconds=20.0, group_attempts=1)
        task = asyncio.ensure_future(run.orchestrator.run())
        await asyncio.sleep(15.0)
        await run.control.pause(FREEZE)
        await asyncio.sleep(10_000.0)
        await run.control.want(IntentKind.RUN)
        # 15 of its 20 seconds are spent.
        await asyncio.sleep(4.0)
        let_go(run)
        await task
        late = held_run(group_seconds=20.0, group_attempts=1)
        task = asyncio.ensure_future(late.orchestrator.run())
        await asyncio.sleep(15.0)
        await late.control.pause(FREEZE)
        await asyncio.sleep(10_000.0)
        await late.control.want(IntentKind.RUN)
        with pytest.raises(RunFailed, match="generation by rollout-0 took longer than 20 s"):
            await task
        assert virtual_clock() == pytest.approx(15 + 10_000 + 4 + 15 + 10_000 + 5, abs=0.1)

    run_virtual(law())


# -- abort


async def test_an_abort_gives_up_what_is_under_way_and_asks_for_the_same_groups_again() -> None:
    run = held_run(group_attempts=1)
    task = run.begin()
    await settle()
    await run.control.pause(ABORT)
    await settle()
    assert len(paused(run.control)) == 1 and run.workers[0].running == []
    assert [each.ordinal for each in run.orchestrator.in_flight] == [0, 1]
    assert run.control.phases == ["aborting"]
    run.workers[0].holds.clear()
    await run.control.want(IntentKind.RUN)
    await task
    first, again = run.workers[0].requests[:2], run.workers[0].requests[2:4]
    assert [(each.group_id, each.prompt, each.seed) for each in first] == [
        (each.group_id, each.prompt, each.seed) for each in again
    ]
    # Nobody failed: it counts as no attempt, and nobody was left out.
    assert run.control.events("group_retried") == [] and run.control.events("worker_left_out") == []
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]


async def test_an_abort_lets_what_is_shaped_finish() -> None:
    run = held_run()
    held = asyncio.Event()
    run.shapers[0].script["shape"] = [held]
    task = run.begin()
    await settle()
    run.workers[0].holds[group_ids(0)[0]].set()
    await settle()
    await run.control.pause(ABORT)
    await settle()
    assert paused(run.control) == [] and run.control.phases == ["aborting", "shaping_tail"]
    held.set()
    await settle()
    assert run.control.events("paused")[0].message == (
        "Paused at version 0; 1 shaped groups wait, 1 groups are under way"
    )
    run.workers[0].holds.clear()
    await run.control.want(IntentKind.RUN)
    await task


async def test_a_drain_grows_harder_under_the_same_operation() -> None:
    run = held_run()
    task = run.begin()
    await settle()
    order = await run.control.pause(DRAIN)
    await settle()
    assert paused(run.control) == [] and run.control.phases == ["draining"]
    await run.control.want(IntentKind.PAUSE, order=make_order(order.operation_id, mode=FREEZE))
    await settle()
    assert run.workers[0].is_frozen and len(paused(run.control)) == 1
    await run.control.want(IntentKind.PAUSE, order=make_order(order.operation_id, mode=ABORT))
    await settle()
    assert run.workers[0].running == [] and not run.workers[0].is_frozen
    run.workers[0].holds.clear()
    await run.control.want(IntentKind.RUN)
    await task
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]


@pytest.mark.parametrize("mode", [DRAIN, FREEZE, ABORT])
async def test_a_resume_before_the_run_has_paused_withdraws_the_pause(mode: PauseMode) -> None:
    run = held_run()
    held = asyncio.Event()
    run.shapers[0].script["shape"] = [held]
    task = run.begin()
    await settle()
    run.workers[0].holds[group_ids(0)[0]].set()
    await settle()
    await run.control.pause(mode)
    await settle()
    await run.control.want(IntentKind.RUN)
    held.set()
    await settle()
    let_go(run)
    run.workers[0].holds.clear()
    await task
    assert paused(run.control) == [] and run.control.events("resumed") == []
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]


# -- checkpoints


async def test_paused_is_said_only_once_the_checkpoint_is_there() -> None:
    run = held_run()
    held = asyncio.Event()
    run.shapers[0].script["save_groups"] = [held]
    task = run.begin()
    await settle()
    run.workers[0].holds[group_ids(0)[0]].set()
    await settle()
    await run.control.pause(ABORT, checkpoint=True)
    await settle()
    assert paused(run.control) == [] and run.control.phases[-1] == "saving"
    held.set()
    await settle()
    (details,) = paused(run.control)
    assert (details["checkpoint"], details["exactness"]) == ("checkpoint-1", "learner_exact")
    snapshot = run.store.checkpoints[0].snapshot
    assert [each.ordinal for each in snapshot.in_flight] == [1] and [each.ordinal for each in snapshot.buffered] == [0]
    run.workers[0].holds.clear()
    await run.control.want(IntentKind.RUN)
    await task


async def test_what_ended_before_a_pause_is_learned_from_when_the_step_ends_as_ever() -> None:
    """The saved outcome of a group is told to selector and plan with the others of its step, not before."""
    run = held_run()
    task = run.begin()
    await settle()
    run.workers[0].holds[group_ids(1)[0]].set()
    await settle()
    await run.control.pause(ABORT, checkpoint=True)
    await settle()
    (ended,) = run.store.checkpoints[0].snapshot.ended
    assert (ended.ordinal, ended.outcome["was_trained"]) == (1, True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    again = make_run(groups_per_step=2, num_steps=2, resumed=run.store.checkpoints[0])
    told: list[int] = []
    settled = again.orchestrator._groups._factory.settle
    again.orchestrator._groups._factory.settle = lambda group, outcome: (  # type: ignore[method-assign]
        told.append(group.ordinal),
        settled(group, outcome),
    )
    await again.finish()
    assert told == [0, 1, 2, 3]


async def test_a_pause_whose_checkpoint_fails_fails_and_the_run_goes_on() -> None:
    run = held_run(checkpoint_every=0)
    run.store.save_errors = ["no space left on device"]
    task = run.begin()
    await settle()
    order = await run.control.pause(ABORT, checkpoint=True)
    await settle()
    (failed,) = run.control.events("pause_failed")
    assert failed.details == {
        "operation_id": order.operation_id,
        "phase": "saving",
        "error": "no checkpoint could be committed: no space left on device",
    }
    # The control plane has said nothing yet.
    assert run.control.intent.kind is IntentKind.PAUSE and paused(run.control) == []
    let_go(run)
    run.workers[0].holds.clear()
    await task
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3)]
