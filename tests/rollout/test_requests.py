"""From a prompt to the requests of its group: everything random follows from seed, ordinal and round."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from plan_play import make_plan
from prompt_builders import make_factory

from rollout.plans.base import FinishedRound, Round, round_metrics
from rollout.requests import OpenGroup, derive_seed
from rollout.selectors.base import GroupOutcome
from rollout.selectors.sequential import SequentialSelector
from shaping.memories.last_values import LastValues
from shaping.metrics import Mean, Metric, metric_values
from shaping.records import GroupRequest, Prompt, Sampling


class ThreeRounds:
    """A plan of three rounds that cool down; remembers whom it closed."""

    max_rollouts = 6
    max_rounds = 3
    one_version = False

    def __init__(self) -> None:
        self.closed: list[tuple[str, int]] = []

    def next_round(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> Round | None:
        del prompt, recalled
        return None if len(finished) == 3 else Round(num_rollouts=2, hint="ab", temperature_scale=0.5 ** len(finished))

    def refusal(self, prompt: Prompt) -> str:
        del prompt
        return ""

    def longest_hint(self, prompt: Prompt) -> str:
        del prompt
        return "ab"

    def metrics(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, Metric]:
        return {"hint_fit_error": Mean(len(prompt.prompt_id), len(finished))}

    def close(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, float]:
        self.closed.append((prompt.prompt_id, len(finished)))
        return {"rounds": float(len(finished))}


def request_of(ordinal: int, *, seed: int = 0, step: int = 0) -> GroupRequest:
    factory = make_factory(seed=seed)
    group = [factory.open(each) for each in range(ordinal + 1)][-1]
    planned = factory.next_request(group, num_rounds_done=0, step=step)
    assert planned is not None
    return planned[1]


def test_seeds_are_their_own_for_every_tuple() -> None:
    tuples = [(seed, ordinal, index) for seed in range(3) for ordinal in range(20) for index in range(3)]
    seeds = [derive_seed(*each) for each in tuples]
    assert len(set(seeds)) == len(tuples)
    assert all(0 <= each < 2**32 for each in seeds)
    assert derive_seed(1, 2, 3) == derive_seed(1, 2, 3)


def test_the_same_group_is_asked_for_in_the_same_way() -> None:
    first, again = request_of(3), request_of(3)
    assert (first.group_id, first.seed, first.prompt) == ("g00000003", again.seed, again.prompt)
    assert first.prompt_ids.tolist() == [ord(each) for each in "say 3"] == again.prompt_ids.tolist()
    assert request_of(3, seed=1).seed != first.seed != request_of(2).seed


def test_one_round_needs_no_score() -> None:
    factory = make_factory(group_size=4)
    assert not factory.scores_rounds
    group = factory.open(0)
    planned = factory.next_request(group, num_rounds_done=0, step=0)
    assert planned is not None and planned[1].num_rollouts == 4 and planned[1].hint_ids.tolist() == []
    assert factory.next_request(group, num_rounds_done=1, step=0) is None


def test_rounds_follow_one_another_with_their_own_seed_temperature_and_hint() -> None:
    factory = make_factory(plan=ThreeRounds(), sampling_at=lambda step: Sampling(temperature=0.8 + step))
    assert factory.scores_rounds
    group, requests = factory.open(0), []
    while (planned := factory.next_request(group, num_rounds_done=len(requests), step=1)) is not None:
        requests.append(planned[1])
        group.finished.append(FinishedRound(round=planned[0], rewards=None, num_correct=0))  # type: ignore[arg-type]
    assert [each.round_index for each in requests] == [0, 1, 2]
    assert [each.sampling.temperature for each in requests] == [1.8, 0.9, 0.45]
    assert [each.hint_ids.tolist() for each in requests] == [[97, 98]] * 3
    assert len({each.seed for each in requests}) == 3


def test_what_a_group_taught_reaches_plan_and_selector_with_its_visit() -> None:
    seen: list[tuple[int, int]] = []

    class Selector(SequentialSelector):
        def observe(self, index: int, outcome: GroupOutcome) -> None:
            seen.append((index, outcome.num_correct))

    plan, memory = ThreeRounds(), LastValues()
    factory = make_factory(num_prompts=2, plan=plan, memory=memory, selector=Selector(2))
    groups: list[OpenGroup] = [factory.open(ordinal) for ordinal in range(3)]
    assert [each.visit for each in groups] == [1, 1, 2]
    for group in groups:
        outcome = GroupOutcome(prompt_id=group.prompt.prompt_id, num_correct=0, num_scored=2, was_trained=True)
        factory.settle(group, outcome)
    assert plan.closed == [("p0", 0), ("p1", 0), ("p0", 0)]
    assert seen == [(0, 0), (1, 0), (0, 0)]
    assert memory.state()["p0"] == {"visit": 2, "values": {"rounds": 0.0}}


def test_plan_and_shaping_are_remembered_beside_each_other_and_recalled_at_the_next_visit() -> None:
    factory = make_factory(num_prompts=1, plan=ThreeRounds(), memory=LastValues())
    first, early = factory.open(0), factory.open(1)
    outcome = GroupOutcome(prompt_id="p0", num_correct=1, num_scored=2, was_trained=False, remembered={"shortest": 5.0})
    factory.settle(first, outcome)
    factory.settle(first, outcome)
    learned = {"rounds": 0.0, "shortest": 5.0}
    again = factory.open(2)
    assert (first.recalled, early.recalled, again.recalled) == ({}, {}, learned)
    planned = factory.next_request(again, num_rounds_done=0, step=0)
    assert planned is not None and planned[1].recalled == learned
    factory.settle(again, GroupOutcome(prompt_id="p0", num_correct=0, num_scored=2, was_trained=True))
    assert factory.open(3).recalled == learned


def test_a_hint_in_tokens_is_cut_half_to_even_and_never_goes_into_the_last_step() -> None:
    # Characters are tokens here: the solution "ab\nc\nef\n" has 8, all but its last step 5.
    plan = make_plan("seele", group_size=8, unit="tokens")
    factory = make_factory(num_prompts=1, plan=plan, solution_steps=("ab", "c", "ef"))
    given = []
    # 0.25 of 8 is 2; 0.3125 is 2.5, to even 2; 0.4375 is 3.5, to even 4; 0.9 is 7.2, beyond the 5 that may be shown.
    for rate in (0.25, 0.3125, 0.4375, 0.9, 0.0):
        group = replace(factory.open(0), recalled={"hint_rate": rate})
        planned = factory.next_request(group, num_rounds_done=0, step=0)
        assert planned is not None
        given.append((planned[0].hint_rate, planned[0].planned_rate, "".join(map(chr, planned[1].hint_ids))))
    assert given == [
        (0.25, 0.25, "ab"),
        (0.25, 0.3125, "ab"),
        (0.5, 0.4375, "ab\nc"),
        (0.625, 0.625, "ab\nc\n"),
        (0.0, 0.0, ""),
    ]


def test_what_a_groups_rounds_tell_is_the_plans_own_and_that_of_all_plans() -> None:
    factory = make_factory(plan=ThreeRounds())
    group = factory.open(0)
    assert not factory.keeps_one_version
    for num_correct, rewards in ((1, [1.0, 0.0]), (0, []), (0, [0.0])):
        finished = FinishedRound(
            round=Round(num_rollouts=2, hint_rate=0.3), rewards=np.array(rewards, np.float32), num_correct=num_correct
        )
        group.finished.append(finished)
    # The second round has no verdict, and so no accuracy; "p0" has 2 letters, over 3 rounds.
    assert metric_values(factory.metrics(group)) == {
        "hint_round_1_accuracy": 0.5,
        "hint_round_3_accuracy": 0.0,
        "hint_rate_mean": pytest.approx(0.3),
        "hint_all_wrong_groups_share": 0.0,
        "hint_all_correct_groups_share": 0.0,
        "hint_fit_error": pytest.approx(2 / 3),
    }
    assert make_factory(group_size=4).metrics(group) == {}


@pytest.mark.parametrize(
    ("num_correct", "num_decided", "all_wrong", "all_correct"), [(0, 2, 1.0, 0.0), (2, 2, 0.0, 1.0), (1, 2, 0.0, 0.0)]
)
def test_groups_of_one_outcome_are_counted_over_all_rounds(
    num_correct: int, num_decided: int, all_wrong: float, all_correct: float
) -> None:
    rewards = np.zeros(num_decided, np.float32)
    finished = (FinishedRound(round=Round(num_rollouts=2), rewards=rewards, num_correct=num_correct),) * 2
    values = metric_values(round_metrics(finished))
    assert values["hint_all_wrong_groups_share"] == all_wrong
    assert values["hint_all_correct_groups_share"] == all_correct


def test_a_group_without_a_verdict_is_of_no_outcome() -> None:
    finished = (FinishedRound(round=Round(num_rollouts=2), rewards=np.zeros(0, np.float32), num_correct=0),)
    assert metric_values(round_metrics(finished)) == {"hint_rate_mean": 0.0}
