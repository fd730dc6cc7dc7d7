"""The run's loops over fake roles: pause, resume, cancel, and what ends a run."""

import asyncio

import pytest
from fake_roles import FakeShaping, make_order, settle
from prompt_builders import make_factory
from run_builders import group_ids, make_run

from rollout.plans.hinted_second_round import Config, HintedSecondRoundPlan
from services.pausing import RunCancelled
from services.ports import RoundHandle, ShapedHandle
from services.reports import Intent, IntentKind, RunState, StepReport
from shaping.errors import RecordError, RunFailed
from shaping.groups import DropReason

# -- pause, resume, cancel


async def test_a_pause_drains_and_a_resume_goes_on_where_it_was() -> None:
    run = make_run(groups_per_step=2, num_steps=3, num_workers=2)
    for worker in run.workers:
        worker.holds_all = True
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.PAUSE)
    await settle()
    # Groups under way go on; nothing is said before they have ended.
    assert run.control.events("paused") == []
    for worker in run.workers:
        for event in worker.holds.values():
            event.set()
    await settle()
    (drained,) = run.control.events("paused")
    assert drained.state is RunState.PAUSED
    assert drained.message == "Paused at version 0; 2 shaped groups wait"
    # A whole batch waits, yet no step begins and no group is asked for.
    assert run.learner.calls.count("step") == 0 and run.asked == list(group_ids(0, 1))
    for worker in run.workers:
        worker.holds_all = False
    await run.control.want(IntentKind.RUN)
    await task
    assert [each.state for each in run.control.events("resumed")] == [RunState.RUNNING]
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3), group_ids(4, 5)]
    assert len(run.control.events("paused")) == 1


async def test_no_group_is_asked_for_in_a_pause_even_where_a_slot_is_free() -> None:
    run = make_run(groups_per_step=2, num_steps=1)
    run.workers[0].holds = {group_id: asyncio.Event() for group_id in group_ids(0, 1)}
    run.shapers[0].drops = lambda group_id: DropReason.NO_SIGNAL if group_id in group_ids(0) else None
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.PAUSE)
    await settle()
    for event in run.workers[0].holds.values():
        event.set()
    await settle()
    assert run.control.events("paused")[0].message == "Paused at version 0; 1 shaped groups wait"
    assert run.asked == list(group_ids(0, 1))
    await run.control.want(IntentKind.RUN)
    await task
    assert run.learner.batches == [group_ids(1, 2)]


async def test_a_pause_lets_the_learner_step_end_and_its_version_go_live() -> None:
    run = make_run(groups_per_step=1, num_steps=2)
    held = asyncio.Event()
    run.learner.script["step"] = [held]
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.PAUSE)
    await settle()
    assert run.control.events("paused") == []
    held.set()
    await settle()
    (drained,) = run.control.events("paused")
    assert drained.message == "Paused at version 1; 0 shaped groups wait"
    assert run.workers[0].policy_version == 1 and len(run.control.steps) == 1
    assert not task.done()
    await run.control.want(IntentKind.RUN)
    await task


async def test_a_pause_lets_the_first_evaluation_end() -> None:
    run = make_run(groups_per_step=1, num_steps=1, num_held_out=1)
    run.workers[0].holds = {"held_out-00000-000": asyncio.Event()}
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.PAUSE)
    await settle()
    assert run.control.events("paused") == []
    run.workers[0].holds["held_out-00000-000"].set()
    await settle()
    assert len(run.control.events("paused")) == 1
    run.clock.now += 1000.0
    await run.control.want(IntentKind.RUN)
    await task
    # The thousand seconds of the pause belong to no phase, and no phase is negative.
    assert all(seconds == 0.0 for seconds in run.control.steps[0].phase_seconds.values())


async def test_time_in_a_pause_is_no_training_time() -> None:
    run = make_run(groups_per_step=1, num_steps=2)
    run.learner.seconds = {"step": 2.0}
    run.workers[0].holds = {group_id: asyncio.Event() for group_id in group_ids(1)}
    task = run.begin()
    await run.control.until(lambda reports: any(isinstance(each, StepReport) for each in reports))
    await run.control.want(IntentKind.PAUSE)
    await settle()
    run.clock.now += 5.0  # the last group drains: that is waiting
    run.workers[0].holds[group_ids(1)[0]].set()
    await settle()
    assert len(run.control.events("paused")) == 1
    run.clock.now += 1000.0
    await run.control.want(IntentKind.RUN)
    await task
    second = run.control.steps[1]
    assert second.phase_seconds == {"wait_batch": 5.0, "train": 2.0, "weight_sync": 0.0, "evaluation": 0.0}
    assert second.elapsed_seconds == 9.0


async def test_a_run_paused_before_it_begins_asks_for_nothing() -> None:
    run = make_run(groups_per_step=1, num_steps=1)
    run.control.intent = Intent(generation=2, kind=IntentKind.PAUSE, order=make_order())
    task = run.begin()
    await run.control.until(lambda _: bool(run.control.events("paused")))
    await settle()
    assert run.learner.batches == []
    await run.control.want(IntentKind.RUN)
    await task
    assert run.learner.batches == [group_ids(0)]


async def test_every_pause_is_answered_even_one_asked_for_before_the_resume_was_seen() -> None:
    run = make_run(groups_per_step=1, num_steps=1)
    run.workers[0].holds_all = True
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.PAUSE)
    await settle()
    run.workers[0].holds[group_ids(0)[0]].set()
    await settle()
    assert len(run.control.events("paused")) == 1
    # Resume and pause again at once: the run only ever sees the second pause.
    run.control.intent = Intent(generation=run.control.intent.generation + 1, kind=IntentKind.RUN)
    await run.control.want(IntentKind.PAUSE)
    await settle()
    assert len(run.control.events("paused")) == 2 and run.control.events("resumed") == []
    await run.control.want(IntentKind.RUN)
    await task


async def test_a_cancel_ends_the_run_at_once_and_says_why() -> None:
    run = make_run()
    run.workers[0].holds_all = True
    task = run.begin()
    await settle()
    await run.control.want(IntentKind.CANCEL, "wrong data")
    with pytest.raises(RunCancelled, match="wrong data"):
        await task
    assert run.workers[0].running == []


async def test_a_cancel_during_a_weight_sync_leaves_no_engine_paused() -> None:
    run = make_run(groups_per_step=1, num_workers=2)
    run.workers[1].script["commit_weights"] = [asyncio.Event()]
    task = run.begin()
    await settle()
    assert run.workers[1].is_paused
    await run.control.want(IntentKind.CANCEL)
    with pytest.raises(RunCancelled):
        await task
    assert not any(worker.is_paused for worker in run.workers)


# -- failures


async def test_a_failed_group_is_asked_for_again_as_the_same_group_on_another_worker() -> None:
    run = make_run(groups_per_step=1, num_steps=1, num_workers=2)
    run.workers[0].script["generate"] = [RunFailed(role="rollout", cause="out of memory", group_id=group_ids(0)[0])]
    await run.finish()
    first, second = run.workers[0].requests[0], run.workers[1].requests[0]
    assert (first.group_id, first.seed, first.prompt) == (second.group_id, second.seed, second.prompt)
    (retried,) = run.control.events("group_retried")
    assert retried.message == "attempt 1 of group g00000000: out of memory"
    assert run.learner.batches == [group_ids(0)]


async def test_a_single_worker_is_tried_again_itself() -> None:
    run = make_run(groups_per_step=1, num_steps=1, group_attempts=3)
    failure = RunFailed(role="rollout", cause="lost", group_id=group_ids(0)[0])
    run.workers[0].script["generate"] = [failure, failure]
    await run.finish()
    assert len(run.control.events("group_retried")) == 2


async def test_a_group_that_fails_too_often_fails_the_run_by_role_and_group() -> None:
    run = make_run(groups_per_step=2, num_workers=2)
    for worker in run.workers:
        worker.script["generate"] = [RunFailed(role="rollout", cause="out of memory", group_id=group_ids(0)[0])] * 9
    with pytest.raises(RunFailed) as caught:
        await run.finish()
    assert (caught.value.role, caught.value.group_id) == ("rollout", group_ids(0)[0])
    assert caught.value.cause == "out of memory"


async def test_samples_of_another_policy_than_the_learners_end_the_run_before_anything_is_published() -> None:
    run = make_run(num_steps=3)
    run.learner.metrics = {"learner_logprob_difference_mean_nats": 5.44}
    with pytest.raises(RunFailed, match=r"within 1 nats per token on average, found 5\.44 in step 1") as failure:
        await run.begin()
    assert failure.value.role == "learner"
    assert "send_weights" not in run.learner.calls


async def test_a_broken_record_counts_as_a_failure_of_its_worker() -> None:
    run = make_run(groups_per_step=1, num_steps=1, num_workers=2)
    broken = RecordError("entropies must be <= ln 100 = 4.6052 nats, got 9.0000 (RolloutGroup g00000000, rollout 0)")
    run.workers[0].script["generate"] = [broken]
    await run.finish()
    assert "generation by rollout-0: entropies must be" in run.control.events("group_retried")[0].message
    again = make_run(groups_per_step=1, num_steps=1)
    again.workers[0].script["generate"] = [broken, broken]
    with pytest.raises(RunFailed, match=r"rollout \(group g00000000\): generation by rollout-0: entropies must be"):
        await again.finish()


async def test_the_first_cause_is_the_one_that_is_told() -> None:
    # The learner fails; the group under way fails as well, because it is cancelled.
    class Fragile(FakeShaping):
        async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
            if rounds[0].summary.group_id in group_ids(1):
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    raise RunFailed(role="shaping", cause="its process ended") from None
            return await super().shape(rounds)

    run = make_run(groups_per_step=1, num_steps=3, max_staleness=1, shapers=[Fragile()])
    run.learner.script["step"] = [RunFailed(role="learner", cause="the loss is nan in step 0")]
    with pytest.raises(RunFailed, match="learner: the loss is nan in step 0"):
        await run.finish()


@pytest.mark.parametrize(
    ("role", "method", "message"),
    [
        ("workers", "generate", "rollout (group g00000000): generation by rollout-0 took longer than 0.02 s"),
        ("shapers", "shape", "shaping (group g00000000): shaping by shaping-0 took longer than 0.02 s"),
        ("shapers", "score", "shaping (group g00000000): scoring by shaping-0 took longer than 0.02 s"),
    ],
)
async def test_a_group_that_hangs_ends_the_run_with_its_role(role: str, method: str, message: str) -> None:
    plan = HintedSecondRoundPlan(Config(), group_size=2)
    factory = make_factory(plan=plan, solution_steps=("a", "b"))
    run = make_run(groups_per_step=1, group_seconds=0.02, group_attempts=1, factory=factory)
    getattr(run, role)[0].script[method] = [asyncio.Event()]
    with pytest.raises(RunFailed) as caught:
        await run.finish()
    assert str(caught.value) == f"{message} (run.deadlines.group_seconds)"


async def test_a_learner_step_that_hangs_ends_the_run() -> None:
    run = make_run(groups_per_step=1, step_seconds=0.02)
    run.learner.script["step"] = [asyncio.Event()]
    with pytest.raises(RunFailed) as caught:
        await run.finish()
    assert str(caught.value) == "learner: step 1 took longer than 0.02 s (run.deadlines.step_seconds)"


async def test_a_failed_run_leaves_no_work_behind() -> None:
    run = make_run(groups_per_step=3, group_attempts=1)
    run.workers[0].holds = {group_ids(1)[0]: asyncio.Event()}
    run.workers[0].script["generate"] = [RunFailed(role="rollout", cause="lost")]
    with pytest.raises(RunFailed):
        await run.finish()
    assert run.workers[0].running == []
    assert asyncio.all_tasks() == {asyncio.current_task()}
