"""Laws of the prompt selectors that are particular to one of them; what all share is in tests/contracts."""

import json
from collections import Counter

import pytest

from rollout.selectors import sequential, shuffled, success_band
from rollout.selectors.base import GroupOutcome, PromptSelector
from rollout.selectors.success_band import SuccessBandSelector
from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError


def take(selector: PromptSelector, count: int) -> list[int]:
    return [selector.next_index() for _ in range(count)]


def outcome(num_correct: int, num_scored: int = 4) -> GroupOutcome:
    return GroupOutcome(prompt_id="p", num_correct=num_correct, num_scored=num_scored, was_trained=True)


def make_band(*, num_prompts: int = 4, explore_rate: float = 1e-9, **options: float) -> SuccessBandSelector:
    config = success_band.Config(explore_rate=explore_rate, **options)
    return success_band.build(config, num_prompts=num_prompts, seed=0)


# -- sequential and shuffled


def test_sequential_gives_the_order_of_the_data_again_and_again() -> None:
    selector = sequential.build(sequential.Config(), num_prompts=3, seed=5)
    assert take(selector, 7) == [0, 1, 2, 0, 1, 2, 0]


def test_shuffled_gives_every_prompt_once_an_epoch_in_new_orders() -> None:
    selector = shuffled.build(shuffled.Config(), num_prompts=50, seed=1)
    epochs = [take(selector, 50) for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_shuffled_order_is_pinned() -> None:
    # From numpy 2.3.5; a change here means that saved runs would go on in another order.
    selector = shuffled.build(shuffled.Config(), num_prompts=8, seed=0)
    assert take(selector, 16) == [2, 4, 3, 6, 5, 0, 1, 7, 1, 3, 7, 6, 0, 4, 2, 5]


@pytest.mark.parametrize("kind", ["shuffled", "success_band"])
def test_another_seed_gives_another_order(kind: str) -> None:
    component = load("rollout.selectors", ComponentSpec(kind=kind), "rollout.selector")
    orders = {tuple(take(component.build(num_prompts=20, seed=seed), 20)) for seed in range(10)}
    assert len(orders) == 10


def test_shuffled_state_is_two_counters_whatever_the_size() -> None:
    selector = shuffled.build(shuffled.Config(), num_prompts=100_000, seed=1)
    take(selector, 150)
    assert selector.state() == {"num_prompts": 100_000, "seed": 1, "epoch": 0, "position": 150}


@pytest.mark.parametrize("kind", ["shuffled", "success_band"])
def test_state_of_other_data_or_another_seed_is_refused(kind: str) -> None:
    component = load("rollout.selectors", ComponentSpec(kind=kind), "rollout.selector")
    saved = component.build(num_prompts=8, seed=0).state()
    with pytest.raises(RecipeError, match=r"saved with num_prompts 8, the run has 9"):
        component.build(num_prompts=9, seed=0).restore(saved)
    with pytest.raises(RecipeError, match=r"saved with seed 0, the run has 1"):
        component.build(num_prompts=8, seed=1).restore(saved)
    with pytest.raises(RecipeError, match="num_prompts None"):
        component.build(num_prompts=8, seed=0).restore({})


def test_damaged_state_is_refused_by_name() -> None:
    selector = shuffled.build(shuffled.Config(), num_prompts=8, seed=0)
    with pytest.raises(RecipeError, match="a saved position must be a whole number >= 0, got -1"):
        selector.restore({**selector.state(), "position": -1})
    band = make_band()
    with pytest.raises(RecipeError, match="a saved outside must be a list"):
        band.restore({**band.state(), "outside": None})


# -- success_band


def test_unseen_prompts_come_first_each_once() -> None:
    selector = make_band(num_prompts=20)
    assert sorted(take(selector, 20)) == list(range(20))


def test_prompt_in_the_band_is_preferred_to_one_outside() -> None:
    selector = make_band()
    take(selector, 4)
    for index, num_correct in ((0, 0), (1, 4), (2, 2), (3, 1)):
        selector.observe(index, outcome(num_correct))
    # Accuracies 0, 1, 1/2, 1/4: prompts 2 and 3 are in [0.2, 0.8], in the order of their outcomes.
    assert take(selector, 2) == [2, 3]
    # The band is used up until an outcome comes back: now the others, oldest outcome first.
    assert take(selector, 2) == [0, 1]


def test_prompt_under_way_is_given_again_only_when_no_other_is_left() -> None:
    selector = make_band(num_prompts=3)
    first = take(selector, 3)
    assert take(selector, 4) == [*first, first[0]]


def test_remembered_accuracy_is_a_moving_average() -> None:
    selector = make_band(num_prompts=1, new_weight=0.25)
    for num_correct in (4, 0, 2):
        take(selector, 1)
        selector.observe(0, outcome(num_correct))
    # 1, then 0.75 * 1 + 0.25 * 0 = 0.75, then 0.75 * 0.75 + 0.25 * 0.5 = 0.6875
    assert selector.state()["accuracy"] == [[0, 0.6875]]


def test_group_without_verdicts_is_not_an_accuracy_of_zero() -> None:
    selector = make_band(num_prompts=2)
    take(selector, 2)
    selector.observe(0, outcome(2))
    selector.observe(0, outcome(0, num_scored=0))
    selector.observe(1, outcome(0, num_scored=0))
    assert selector.state()["accuracy"] == [[0, 0.5]]
    assert selector.state()["in_band"] == [0]
    assert selector.state()["outside"] == [1]


def test_band_holds_its_ends() -> None:
    selector = make_band(num_prompts=4, low=0.25, high=0.75)
    take(selector, 4)
    for index in range(4):
        selector.observe(index, outcome(index))
    assert selector.state()["in_band"] == [1, 2, 3]


def test_explore_rate_is_the_share_of_choices_outside_the_band() -> None:
    selector = make_band(num_prompts=10, explore_rate=0.25)
    take(selector, 10)
    for index in range(10):
        selector.observe(index, outcome(2 if index < 5 else 0))
    given: Counter[bool] = Counter()
    for _ in range(4000):
        index = selector.next_index()
        given[index >= 5] += 1
        selector.observe(index, outcome(2 if index < 5 else 0))
    # Binomial(4000, 0.25): standard deviation 27, five of them are 137.
    assert abs(given[True] - 1000) < 137


def test_prompt_that_becomes_solvable_comes_back_into_the_band() -> None:
    selector = make_band(num_prompts=2)
    take(selector, 2)
    selector.observe(0, outcome(0))
    selector.observe(1, outcome(4))
    assert selector.state()["in_band"] == []
    index = selector.next_index()
    selector.observe(index, outcome(2))
    assert selector.state()["in_band"] == [index]


def test_success_band_goes_on_from_its_state_with_outcomes_missing() -> None:
    def play(selector: SuccessBandSelector, start: int, stop: int) -> list[int]:
        given = []
        for turn in range(start, stop):
            given.append(selector.next_index())
            if turn % 3:
                selector.observe(given[-1], outcome((given[-1] * 7 + turn) % 5))
        return given

    whole = make_band(num_prompts=9, explore_rate=0.3)
    expected = play(whole, 0, 60)[25:]
    first = make_band(num_prompts=9, explore_rate=0.3)
    play(first, 0, 25)
    second = make_band(num_prompts=9, explore_rate=0.3)
    second.restore(json.loads(json.dumps(first.state())))
    assert play(second, 25, 60) == expected


@pytest.mark.parametrize(
    "options", [{"low": 0.8, "high": 0.2}, {"high": 1.2}, {"new_weight": 0.0}, {"explore_rate": 0.0}]
)
def test_impossible_band_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=r"must .*rollout\.selector\.success_band"):
        load("rollout.selectors", ComponentSpec(kind="success_band", options=dict(options)), "rollout.selector")
