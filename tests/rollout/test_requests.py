"""From a prompt to the requests of its group: everything random follows from seed, ordinal and round."""

from collections.abc import Mapping

from prompt_builders import make_factory

from rollout.plans.base import FinishedRound, Round
from rollout.requests import OpenGroup, derive_seed
from rollout.selectors.base import GroupOutcome
from rollout.selectors.sequential import SequentialSelector
from shaping.memories.last_values import LastValues
from shaping.records import GroupRequest, Prompt, Sampling


class ThreeRounds:
    """A plan of three rounds that cool down; remembers whom it closed."""

    max_rollouts = 6
    max_rounds = 3

    def __init__(self) -> None:
        self.closed: list[tuple[str, int]] = []

    def next_round(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> Round | None:
        del prompt, recalled
        return None if len(finished) == 3 else Round(num_rollouts=2, hint="ab", temperature_scale=0.5 ** len(finished))

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
