"""Groups of several rounds through the orchestrator: what is told of each round, and what a new policy version does."""

import asyncio
from typing import Any

import pytest
from fake_roles import FakeRollout, FakeShaping, settle
from fake_store import FakeStore
from plan_play import make_plan
from prompt_builders import make_factory
from run_builders import FakeRun, group_ids, make_run

from rollout.requests import GroupFactory
from services.ledger import LedgerLine, LedgerRound
from services.orchestrator import Resumed
from services.ports import RoundHandle, RoundOutcome
from shaping.errors import GroupLost, RoleDied
from shaping.groups import DropReason
from shaping.memories.base import PromptMemory
from shaping.memories.last_values import LastValues
from shaping.records import GroupRequest

STEPS = ("one", "two", "six")
ROUND_TOKENS = 6
"""2 rollouts of 3 tokens."""


class HeldRollout(FakeRollout):
    """Holds rounds of groups, by group and round, until the test lets them go."""

    def __init__(self, *rounds: tuple[str, int]) -> None:
        super().__init__()
        self.rounds = {each: asyncio.Event() for each in rounds}

    async def _generated(self, request: GroupRequest) -> None:
        if held := self.rounds.pop((request.group_id, request.round_index), None):
            self.rounds[request.group_id, -1] = held
            await held.wait()
        await super()._generated(request)

    def let_go(self, group_id: str) -> None:
        self.rounds.pop((group_id, -1)).set()


def rounds_factory(memory: PromptMemory | None = None, **options: Any) -> GroupFactory:
    plan = make_plan("seele", group_size=8, **options)
    return make_factory(plan=plan, memory=memory, solution_steps=STEPS, num_prompts=5)


def correct_by_round(*numbers: int) -> FakeShaping:
    """As many rollouts of each round are correct."""
    shaper = FakeShaping()
    shaper.num_correct = lambda handle: numbers[handle.summary.round_index]
    return shaper


def asked(run: FakeRun, group_id: str) -> list[tuple[int, int, str, int]]:
    """Rounds of a group as they were asked for: index, seed, hint and number of rollouts."""
    return [
        (each.round_index, each.seed, "".join(map(chr, each.hint_ids)), each.num_rollouts)
        for worker in run.workers
        for each in worker.requests
        if each.group_id == group_id
    ]


def line_of(run: FakeRun, group_id: str) -> LedgerLine:
    (line,) = [each for each in run.store.ledger if each.group_id == group_id]
    return line


# -- what is told


async def test_the_ledger_tells_of_every_round_and_the_step_of_its_accuracy() -> None:
    # 2 of 3 steps at first, "one\ntwo\n": all 2 right. Then the curve's jump lies below 2/3: 1 step of 3, "one\n".
    run = make_run(groups_per_step=1, num_steps=1, factory=rounds_factory(), shapers=[correct_by_round(2, 1, 1, 1)])
    await run.finish()
    hints = [hint for _, _, hint, _ in asked(run, group_ids(0)[0])]
    assert hints == ["one\ntwo\n", "one\n", "one\n", "one\n"]
    found = line_of(run, group_ids(0)[0])
    first, later = LedgerRound(rate=2 / 3, hint_tokens=8, scored=2, correct=2), {"hint_tokens": 4, "scored": 2}
    assert found.rounds == (first, *(LedgerRound(rate=1 / 3, correct=1, **later) for _ in range(3)))
    metrics = run.control.steps[0].metrics
    told = {name: value for name, value in metrics.items() if name.startswith("hint_")}
    error = told.pop("hint_fit_error")
    assert told == {
        "hint_round_1_accuracy": 1.0,
        "hint_round_2_accuracy": 0.5,
        "hint_round_3_accuracy": 0.5,
        "hint_round_4_accuracy": 0.5,
        "hint_rate_mean": pytest.approx((2 / 3 + 3 * 1 / 3) / 4),
        "hint_all_wrong_groups_share": 0.0,
        "hint_all_correct_groups_share": 0.0,
        "hint_none_share": 0.0,
        "hint_most_share": 0.0,
        "hint_closed_early_groups_count": 0.0,
        "hint_begun_again_groups_count": 0.0,
    }
    assert 0 <= error < 0.1


async def test_dropped_groups_are_told_of_like_trained_ones() -> None:
    shaper = correct_by_round(0, 0, 0, 0)
    shaper.drops = lambda group_id: DropReason.NO_SIGNAL if group_id in group_ids(0) else None
    run = make_run(groups_per_step=1, num_steps=1, factory=rounds_factory(), shapers=[shaper])
    await run.finish()
    assert [len(each.rounds) for each in run.store.ledger] == [4, 4]
    assert run.store.ledger[0].outcome == "dropped_no_signal"
    metrics = run.control.steps[0].metrics
    assert metrics["hint_round_4_accuracy"] == 0.0 and metrics["hint_most_share"] == 1.0
    assert metrics["hint_all_wrong_groups_share"] == 1.0


async def test_a_plan_of_one_round_says_nothing_of_rounds() -> None:
    run = make_run(groups_per_step=1, num_steps=1)
    await run.finish()
    assert not [name for name in run.control.steps[0].metrics if name.startswith("hint_")]
    (line,) = run.store.ledger
    assert line.rounds == () and "rounds" not in line.as_plain()


async def test_rounds_of_a_prompt_follow_one_another_and_prompts_do_not_wait_for_each_other() -> None:
    slow, other = group_ids(0, 1)
    worker = HeldRollout((slow, 1))
    run = make_run(groups_per_step=2, num_steps=1, factory=rounds_factory(), workers=[worker])
    task = run.begin()
    await settle()
    assert [index for index, *_ in asked(run, slow)] == [0, 1]
    assert [index for index, *_ in asked(run, other)] == [0, 1, 2, 3]
    worker.let_go(slow)
    await task
    assert [index for index, *_ in asked(run, slow)] == [0, 1, 2, 3]


# -- a piece of work that is lost


def uneven_run(*, num_steps: int = 1, memory: PromptMemory | None = None) -> FakeRun:
    factory = rounds_factory(memory)
    return make_run(groups_per_step=1, num_steps=num_steps, factory=factory, shapers=[correct_by_round(2, 1, 0, 1)])


@pytest.mark.parametrize("number", range(4))
async def test_a_round_that_is_lost_is_asked_for_again_with_the_same_seed_and_hint(number: int) -> None:
    runs = []
    for fails in (False, True):
        memory = LastValues()
        run = uneven_run(num_steps=2, memory=memory)
        if fails:
            run.workers[0].script["generate"] = [None] * number + [RoleDied(role="rollout", cause="its process ended")]
        await run.finish()
        runs.append((run, memory.state()))
    (straight, known), (struck, known_again) = runs
    group_id = group_ids(0)[0]
    again = asked(struck, group_id)
    assert again[number] == again.pop(number + 1)
    assert again == asked(straight, group_id)
    assert struck.store.ledger == straight.store.ledger
    assert known_again == known
    assert told(struck) == told(straight)


async def test_a_group_whose_arrays_are_lost_goes_through_the_same_rounds_again() -> None:
    straight, struck = uneven_run(), uneven_run()
    struck.shapers[0].script["shape"] = [GroupLost(role="shaping", cause="its arrays are lost")]
    await straight.finish()
    await struck.finish()
    assert asked(struck, group_ids(0)[0]) == 2 * asked(straight, group_ids(0)[0])
    assert struck.store.ledger == straight.store.ledger and told(struck) == told(straight)


def told(run: FakeRun) -> list[tuple[dict[str, float], int]]:
    """All that steps report but times."""
    return [
        ({name: value for name, value in each.metrics.items() if not name.endswith("_s")}, each.num_response_tokens)
        for each in run.control.steps
    ]


# -- a new policy version between two rounds of a group, under staleness


async def met_by_a_version(run: FakeRun, worker: HeldRollout) -> None:
    """Group 1 of two, sampled ahead, stands in a round while the step of group 0 is trained and published."""
    task = run.begin()
    await settle()
    assert run.learner.batches == [group_ids(0)] and worker.policy_version == 1
    worker.let_go(group_ids(1)[0])
    await task


def two_steps(worker: FakeRollout, shaper: FakeShaping, **options: Any) -> FakeRun:
    factory = rounds_factory(**options)
    return make_run(
        groups_per_step=1, num_steps=2, max_staleness=1, factory=factory, workers=[worker], shapers=[shaper]
    )


async def test_a_group_with_two_outcomes_is_closed_with_the_rounds_of_its_version() -> None:
    worker, shaper, group_id = HeldRollout((group_ids(1)[0], 1)), correct_by_round(1, 2, 2, 2), group_ids(1)[0]
    memory = LastValues()
    run = two_steps(worker, shaper, memory=memory)
    await met_by_a_version(run, worker)
    (rounds,) = [each for each in shaper.shaped if each[0].summary.group_id == group_id]
    assert [each.summary.max_policy_version for each in rounds] == [0]
    assert line_of(run, group_id).rounds == (LedgerRound(rate=2 / 3, hint_tokens=8, scored=2, correct=1),)
    # The round that mixed two versions was sampled: it is counted, and not trained.
    assert [each.num_response_tokens for each in run.control.steps] == [4 * ROUND_TOKENS, 2 * ROUND_TOKENS]
    counts = [each.metrics["hint_closed_early_groups_count"] for each in run.control.steps]
    assert counts == [0.0, 1.0]
    (event,) = run.control.events("group_closed_early")
    assert event.message == f"policy version 1 met group {group_id} in round 2: it ends with the rounds before"
    assert memory.read("p1") == {"hint_rate": 2 / 3}


async def test_a_group_that_was_closed_early_and_then_lost_is_whole_when_it_is_generated_again() -> None:
    worker, shaper, group_id = HeldRollout((group_ids(1)[0], 1)), correct_by_round(1, 2, 2, 2), group_ids(1)[0]
    # The first call shapes group 0, the second what group 1 was closed with.
    shaper.script["shape"] = [None, GroupLost(role="shaping", cause="its arrays are lost")]
    run = two_steps(worker, shaper)
    await met_by_a_version(run, worker)
    assert len(run.control.events("group_closed_early")) == len(run.control.events("group_retried")) == 1
    assert len(line_of(run, group_id).rounds) == 4
    assert [each.metrics["hint_closed_early_groups_count"] for each in run.control.steps] == [0.0, 0.0]


async def test_a_group_of_one_outcome_is_begun_again_and_nothing_is_trained_twice() -> None:
    worker, shaper, group_id = HeldRollout((group_ids(1)[0], 2)), correct_by_round(2, 2, 1, 1), group_ids(1)[0]
    run = two_steps(worker, shaper)
    await met_by_a_version(run, worker)
    (rounds,) = [each for each in shaper.shaped if each[0].summary.group_id == group_id]
    assert [each.summary.min_policy_version for each in rounds] == [1, 1, 1, 1]
    requests = asked(run, group_id)
    assert [index for index, *_ in requests] == [0, 1, 2, 0, 1, 2, 3]
    assert requests[:3] == requests[3:6]
    assert [each.correct for each in line_of(run, group_id).rounds] == [2, 2, 1, 1]
    # 3 rounds given up and 4 kept.
    assert [each.num_response_tokens for each in run.control.steps] == [4 * ROUND_TOKENS, 7 * ROUND_TOKENS]
    assert [each.metrics["hint_begun_again_groups_count"] for each in run.control.steps] == [0.0, 1.0]
    assert run.control.steps[1].metrics["hint_round_1_accuracy"] == 1.0
    (event,) = run.control.events("group_begun_again")
    assert event.message.startswith(f"policy version 1 met group {group_id} in round 3: it is begun again")
    assert run.learner.staleness == [0, 0]


async def test_every_group_that_a_version_meets_is_counted_and_the_first_is_told() -> None:
    ahead = group_ids(2, 3)
    worker = HeldRollout(*((group_id, 1) for group_id in ahead))
    run = make_run(
        groups_per_step=2,
        num_steps=2,
        max_staleness=1,
        factory=rounds_factory(),
        workers=[worker],
        shapers=[correct_by_round(2, 1, 1, 1)],
    )
    task = run.begin()
    await settle()
    for group_id in ahead:
        worker.let_go(group_id)
    await task
    assert [each.metrics["hint_begun_again_groups_count"] for each in run.control.steps] == [0.0, 2.0]
    (event,) = run.control.events("group_begun_again")
    assert ahead[0] in event.message


async def test_a_version_between_two_rounds_is_met_in_the_next_one() -> None:
    # Held while its first round is scored, so that the second is sampled by version 1 alone.
    held, group_id = asyncio.Event(), group_ids(1)[0]

    class HeldShaping(FakeShaping):
        async def score(self, round_handle: RoundHandle) -> RoundOutcome:
            if round_handle.summary.group_id == group_id and not held.is_set():
                await held.wait()
            return await super().score(round_handle)

    shaper = HeldShaping()
    run = two_steps(FakeRollout(), shaper)
    task = run.begin()
    await settle()
    held.set()
    await task
    assert len(run.control.events("group_closed_early")) == 1
    assert len(line_of(run, group_id).rounds) == 1


async def test_rounds_of_several_versions_are_taken_where_the_plan_says_so() -> None:
    worker, shaper, group_id = HeldRollout((group_ids(1)[0], 1)), correct_by_round(1, 2, 2, 2), group_ids(1)[0]
    run = two_steps(worker, shaper, versions="any")
    await met_by_a_version(run, worker)
    (rounds,) = [each for each in shaper.shaped if each[0].summary.group_id == group_id]
    assert [each.summary.max_policy_version for each in rounds] == [0, 1, 1, 1]
    assert "hint_closed_early_groups_count" not in run.control.steps[1].metrics


# -- a checkpoint


@pytest.mark.parametrize("staleness", [0, 2])
async def test_rounds_and_what_they_taught_survive_a_checkpoint(staleness: int) -> None:
    def begin(store: FakeStore, resumed: Resumed | None = None) -> FakeRun:
        run = make_run(
            groups_per_step=2,
            num_steps=4,
            max_staleness=staleness,
            checkpoint_every=1,
            store=store,
            resumed=resumed,
            factory=rounds_factory(versions="any"),
            shapers=[correct_by_round(2, 1, 1, 0)],
        )
        if resumed is not None:
            run.learner.policy_version = resumed.snapshot.version
        return run

    straight, store = begin(FakeStore()), FakeStore()
    await straight.finish()
    await begin(store).finish()
    assert staleness == 0 or any(each.snapshot.buffered for each in store.checkpoints)
    for checkpoint in store.checkpoints[:-1]:
        again = begin(FakeStore(), checkpoint)
        await again.finish()
        whole = [each for each in store.ledger if each.step <= checkpoint.snapshot.version] + again.store.ledger
        assert whole == straight.store.ledger
        assert {len(each.rounds) for each in whole} == {4}
        assert hints_told(again) == hints_told(straight)[checkpoint.snapshot.version :]


def hints_told(run: FakeRun) -> list[dict[str, float]]:
    """Of every step, what its groups' rounds were."""
    return [{name: value for name, value in step.items() if name.startswith("hint_")} for step, _ in told(run)]
