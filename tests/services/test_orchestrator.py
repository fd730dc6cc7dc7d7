"""The run's loops over fake roles: what is trained, in which order, and what becomes of dropped groups."""

import asyncio
import random

import pytest
from fake_roles import settle
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_builders import make_factory
from run_builders import FakeRun, group_ids, make_run

from rollout.plans.hinted_second_round import REMEMBERED, Config, HintedSecondRoundPlan
from rollout.selectors.base import GroupOutcome
from rollout.selectors.sequential import SequentialSelector
from rollout.solution_steps import hint_text
from services.reports import RunEvent
from shaping.groups import DropReason
from shaping.memories.last_values import LastValues
from shaping.records import Sampling


async def finish_in_any_order(run: FakeRun, seed: int) -> None:
    """Let the run go on one group at a time, each time another one that is under way."""
    order = random.Random(seed)
    for worker in run.workers:
        worker.holds_all = True
    task = run.begin()
    while not task.done():
        await settle()
        held = [(worker, each) for worker in run.workers for each in sorted(worker.holds) if each in worker.running]
        if held:
            worker, group_id = held[order.randrange(len(held))]
            worker.holds.pop(group_id).set()
    await task


# -- steps


async def test_a_run_trains_every_step_and_every_engine_follows() -> None:
    run = make_run(groups_per_step=2, num_steps=3, num_workers=2, num_shapers=2)
    await run.finish()
    assert run.learner.batches == [group_ids(0, 1), group_ids(2, 3), group_ids(4, 5)]
    assert [each.policy_version for each in run.workers] == [3, 3]
    assert [(each.step, each.policy_version, each.total_steps) for each in run.control.steps] == [
        (1, 1, 3),
        (2, 2, 3),
        (3, 3, 3),
    ]
    events = [each.kind for each in run.control.reports if isinstance(each, RunEvent)]
    assert events == ["started"]
    assert run.asked == list(group_ids(0, 1, 2, 3, 4, 5))


async def test_a_step_reports_what_its_groups_were() -> None:
    run = make_run(groups_per_step=2, num_steps=1)
    await run.finish()
    (step,) = run.control.steps
    assert step.groups["trained"] == 2
    assert sum(step.groups.values()) == 2
    assert step.num_response_tokens == 12  # 2 groups x 2 rollouts x 3 tokens
    # Each fake group says: total 1 over 2 rollouts.
    assert step.metrics["reward_total_value"] == 0.5
    assert step.metrics["learner_staleness_versions"] == 0.0
    assert step.metrics["learner_loss"] == 0.5


async def test_a_step_reports_the_distributions_of_its_groups_and_of_the_learner() -> None:
    run = make_run(groups_per_step=2, num_steps=1)
    run.shapers[0].drops = lambda group_id: DropReason.NO_SIGNAL if group_id == "g00000001" else None
    await run.finish()
    (step,) = run.control.steps
    assert step.groups["trained"] == 2 and step.groups["dropped_no_signal"] == 1
    # Each fake group has a reward of 0 and one of 1, the dropped one too; two are trained.
    assert (step.histograms["reward_value"].count, step.histograms["reward_value"].total) == (6, 3.0)
    assert step.histograms["learner_importance_ratio"].count == 1
    assert step.histograms["learner_group_staleness_versions"].count == 2
    assert "reward_value" not in step.metrics


async def test_a_step_reports_how_long_its_groups_took_and_waited() -> None:
    run = make_run(groups_per_step=2, num_steps=1, num_workers=2)
    for worker in run.workers:
        worker.holds = {each: asyncio.Event() for each in group_ids(0, 1)}
    run.shapers[0].seconds = {"shape": 0.5}
    task = run.begin()
    await settle()
    # The first group is there after 3 s, shaped half a second later, and then waits 6 + 0.5 s for the second one.
    for group_id, seconds in zip(group_ids(0, 1), (3.0, 6.0), strict=True):
        run.clock.now += seconds
        for worker in run.workers:
            worker.holds[group_id].set()
        await settle()
    await task
    (step,) = run.control.steps
    found = {name: (each.count, each.total) for name, each in step.histograms.items() if name.endswith("_s")}
    assert found == {
        "rollout_group_s": (2, 3.0 + 9.5),
        "queue_shaping_wait_s": (2, 0.5 + 0.5),
        "queue_learner_wait_s": (2, 6.5 + 0.0),
    }
    assert step.histograms["learner_group_staleness_versions"].counts[0] == 2


async def test_phases_of_a_step_add_up_to_it() -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_held_out=1, evaluate_every=1)
    run.workers[0].seconds = {"generate": 1.0, "stage_weights": 0.5, "commit_weights": 0.25}
    run.shapers[0].seconds = {"shape": 0.125, "grade": 0.125}
    run.learner.seconds = {"step": 4.0}
    await run.finish()
    first, second = run.control.steps
    # The second step: 1 + 0.125 s for its group, 4 s training, 0.5 + 0.25 s weights, 1 + 0.125 s for one held-out
    # response. The first group is sampled beside the first evaluation, before time begins.
    assert second.phase_seconds == {"wait_batch": 1.125, "train": 4.0, "weight_sync": 0.75, "evaluation": 1.125}
    assert first.phase_seconds == {**second.phase_seconds, "wait_batch": 0.0}
    for each in (first, second):
        assert each.step_seconds == sum(each.phase_seconds.values())
    assert (first.elapsed_seconds, second.elapsed_seconds) == (5.875, 12.875)


@pytest.mark.parametrize(("every", "versions"), [(0, [0, 4]), (1, [0, 1, 2, 3, 4]), (3, [0, 3, 4])])
async def test_evaluation_comes_first_last_and_as_often_as_asked(every: int, versions: list[int]) -> None:
    run = make_run(groups_per_step=1, num_steps=4, num_held_out=2, evaluate_every=every)
    await run.finish()
    assert [each.policy_version for each in run.control.evaluations] == versions


async def test_mini_batches_and_epochs_are_planned_for_the_learner() -> None:
    run = make_run(groups_per_step=4, num_steps=1, mini_batch_groups=2, num_epochs=3)
    await run.finish()
    assert len(run.learner.plans[0].mini_batches) == 6


# -- order and staleness


@pytest.mark.parametrize("seed", [0, 1, 2])
async def test_synchronous_batches_do_not_depend_on_the_order_of_completion(seed: int) -> None:
    run = make_run(groups_per_step=3, num_steps=3, num_workers=2)
    run.shapers[0].drops = lambda group_id: DropReason.NO_SIGNAL if group_id in group_ids(1, 4) else None
    await finish_in_any_order(run, seed)
    assert run.learner.batches == [group_ids(0, 2, 3), group_ids(5, 6, 7), group_ids(8, 9, 10)]
    assert set(run.learner.staleness) == {0}


@given(st.integers(1, 3), st.integers(0, 3), st.integers(0, 2**16))
@settings(max_examples=15, deadline=None)
def test_no_group_is_ever_staler_than_the_bound(groups: int, staleness: int, seed: int) -> None:
    run = make_run(groups_per_step=groups, num_steps=4, max_staleness=staleness, num_workers=2)
    run.shapers[0].drops = lambda group_id: DropReason.FILTERED if int(group_id[1:]) % 5 == 2 else None
    asyncio.run(finish_in_any_order(run, seed))
    assert max(run.learner.staleness) <= staleness
    assert len(run.learner.batches) == 4
    trained = [group_id for batch in run.learner.batches for group_id in batch]
    assert trained == sorted(trained) and len(trained) == 4 * groups


@pytest.mark.parametrize("staleness", [0, 1, 2])
async def test_admission_stops_at_the_bound_while_the_learner_works(staleness: int) -> None:
    run = make_run(groups_per_step=2, num_steps=9, max_staleness=staleness)
    held = asyncio.Event()
    run.learner.script["step"] = [held]
    task = run.begin()
    await settle()
    # One batch is in the learner; of (staleness + 1) x 2 admitted groups the others wait.
    assert len(run.asked) == 2 * (staleness + 1)
    held.set()
    await task
    assert len(run.learner.batches) == 9


async def test_slots_are_free_only_when_the_new_version_is_live() -> None:
    run = make_run(groups_per_step=1, num_steps=2)
    held = asyncio.Event()
    run.workers[0].script["commit_weights"] = [held]
    task = run.begin()
    await settle()
    assert run.learner.policy_version == 1 and run.asked == list(group_ids(0))
    held.set()
    await task
    assert [each.min_policy_version for each in (h[0].summary for h in run.shapers[0].shaped)] == [0, 1]


async def test_selector_and_plan_learn_in_order_of_admission_whatever_came_first() -> None:
    seen: list[GroupOutcome] = []

    class Selector(SequentialSelector):
        def observe(self, index: int, outcome: GroupOutcome) -> None:
            assert outcome.prompt_id == f"p{index}"
            seen.append(outcome)

    run = make_run(groups_per_step=3, num_steps=2, factory=make_factory(selector=Selector(50)))
    run.shapers[0].drops = lambda group_id: DropReason.NO_SIGNAL if group_id in group_ids(1) else None
    await finish_in_any_order(run, seed=5)
    assert [each.prompt_id for each in seen] == ["p0", "p1", "p2", "p3", "p4", "p5", "p6"]
    assert [each.was_trained for each in seen] == [True, False, True, True, True, True, True]
    assert {(each.num_correct, each.num_scored) for each in seen} == {(1, 2)}


async def test_groups_are_sampled_as_the_schedule_says_for_their_step() -> None:
    factory = make_factory(sampling_at=lambda step: Sampling(temperature=1.0 - 0.25 * step, max_response_tokens=8))
    run = make_run(groups_per_step=1, num_steps=3, factory=factory)
    await run.finish()
    assert [each.sampling.temperature for each in run.workers[0].requests] == [1.0, 0.75, 0.5]


# -- dropped groups


async def test_a_dropped_group_is_replaced_and_counted_with_its_tokens() -> None:
    run = make_run(groups_per_step=2, num_steps=2)
    run.shapers[0].drops = lambda group_id: DropReason.NO_VERDICT if group_id in group_ids(0) else None
    await run.finish()
    assert run.learner.batches == [group_ids(1, 2), group_ids(3, 4)]
    first, second = run.control.steps
    assert (first.groups["trained"], first.groups["dropped_no_verdict"]) == (2, 1)
    assert (second.groups["trained"], second.groups["dropped_no_verdict"]) == (2, 0)
    assert (first.num_response_tokens, second.num_response_tokens) == (18, 12)  # 3 groups, 2 groups of 6 tokens
    assert first.metrics["reward_total_value"] == 0.5


async def test_a_group_dropped_while_the_learner_works_is_counted_with_the_next_step() -> None:
    run = make_run(groups_per_step=1, num_steps=3, max_staleness=1)
    held = asyncio.Event()
    run.learner.script["step"] = [held]
    run.workers[0].holds = {group_id: asyncio.Event() for group_id in group_ids(1)}
    run.shapers[0].drops = lambda group_id: DropReason.FILTERED if group_id in group_ids(1) else None
    task = run.begin()
    await settle()
    run.workers[0].holds[group_ids(1)[0]].set()
    await settle()
    held.set()
    await task
    assert [each.groups["dropped_filtered"] for each in run.control.steps] == [0, 1, 0]
    assert [each.num_response_tokens for each in run.control.steps] == [6, 12, 6]


@pytest.mark.parametrize("staleness", [0, 2])
async def test_when_every_group_is_dropped_the_run_goes_on_with_empty_steps(staleness: int) -> None:
    run = make_run(groups_per_step=2, num_steps=3, max_staleness=staleness, max_attempts_per_step=3)
    run.shapers[0].drops = lambda _: DropReason.NO_SIGNAL
    await run.finish()
    assert run.learner.batches == [(), (), ()]
    assert [each.mini_batches for each in run.learner.plans] == [(), (), ()]
    steps = run.control.steps
    assert [each.groups["trained"] for each in steps] == [0, 0, 0]
    assert sum(each.groups["dropped_no_signal"] for each in steps) == len(run.asked)
    assert run.workers[0].policy_version == 3
    # Nothing was trained, so there is no staleness and no loss to show.
    assert all("learner_staleness_versions" not in each.metrics for each in steps)


async def test_spent_attempts_end_in_a_short_batch() -> None:
    run = make_run(groups_per_step=3, num_steps=1, max_attempts_per_step=4)
    run.shapers[0].drops = lambda group_id: DropReason.NO_SIGNAL if group_id in group_ids(0, 3) else None
    await run.finish()
    assert run.learner.batches == [group_ids(1, 2)]
    assert run.control.steps[0].groups["dropped_no_signal"] == 2


# -- rounds


async def test_the_second_round_follows_from_the_score_of_the_first() -> None:
    steps = ("first", "second", "the answer is \\boxed{3}")
    memory = LastValues()
    plan = HintedSecondRoundPlan(Config(), group_size=4)
    factory = make_factory(plan=plan, memory=memory, solution_steps=steps)
    run = make_run(groups_per_step=2, num_steps=1, factory=factory)
    # Group 0 gets none of its first two rollouts right and needs a hint, group 1 gets both right.
    run.shapers[0].num_correct = lambda handle: 0 if handle.summary.group_id == group_ids(0)[0] else 2
    await run.finish()
    asked = {(each.group_id, each.round_index): each for each in run.workers[0].requests}
    assert set(asked) == {(group_id, index) for group_id in group_ids(0, 1) for index in range(2)}
    hint = [ord(each) for each in hint_text(steps[:2])]
    assert asked[group_ids(0)[0], 1].hint_ids.tolist() == hint
    for key in ((group_ids(0)[0], 0), (group_ids(1)[0], 0), (group_ids(1)[0], 1)):
        assert asked[key].hint_ids.tolist() == []
    assert all(each.num_rollouts == 2 for each in asked.values())
    # Rounds of a group have seeds of their own.
    assert len({each.seed for each in asked.values()}) == 4
    assert sorted(len(rounds) for rounds in run.shapers[0].shaped) == [2, 2]
    assert len(run.shapers[0].scored) == 4
    assert run.control.steps[0].num_response_tokens == 24  # 2 groups x 2 rounds x 2 rollouts x 3 tokens
    # Still wrong with two steps of hint: as many as may be shown, so it stays at two; no hint, nothing remembered.
    assert memory.read("p0") == {REMEMBERED: 2.0} and memory.read("p1") == {}


async def test_a_round_without_a_verdict_is_no_accuracy_of_zero() -> None:
    plan = HintedSecondRoundPlan(Config(), group_size=2)
    run = make_run(groups_per_step=1, num_steps=1, factory=make_factory(plan=plan, solution_steps=("a", "b")))
    run.shapers[0].num_correct = run.shapers[0].num_decided = lambda _: 0
    await run.finish()
    assert [each.hint_ids.tolist() for each in run.workers[0].requests] == [[], []]
