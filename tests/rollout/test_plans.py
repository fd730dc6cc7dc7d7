"""Laws of the rollout plans that are particular to one of them; what all share is in tests/contracts."""

import random

import numpy as np
import pytest

from rollout.plans import hinted_second_round, single_round
from rollout.plans.base import FinishedRound, RolloutPlan, Round
from rollout.plans.hinted_second_round import num_showable_steps
from rollout.solution_steps import hint_text
from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError
from shaping.memories import last_values
from shaping.memories.base import PromptMemory
from shaping.records import Message, Prompt
from shaping.signals import Signal

FIVE_STEPS = ("one", "two", "three", "four", "five")


def make_prompt(steps: tuple[str, ...] = FIVE_STEPS) -> Prompt:
    messages = (Message(role="user", content="?"),)
    return Prompt(prompt_id="p", messages=messages, reference_answer="5", position=0, solution_steps=steps)


def make_plan(*, group_size: int = 8, target: float = 0.5, first_num_steps: int | None = None) -> RolloutPlan:
    config = hinted_second_round.Config(target=target, first_num_steps=first_num_steps)
    return hinted_second_round.build(config, group_size=group_size)


def make_memory() -> PromptMemory:
    return last_values.build(last_values.Config())


def finish(planned: Round, num_correct: int, num_decided: int | None = None) -> FinishedRound:
    decided = planned.num_rollouts if num_decided is None else num_decided
    rewards = np.array([1.0] * num_correct + [0.0] * (decided - num_correct), dtype=np.float32)
    return FinishedRound(round=planned, rewards=rewards, num_correct=num_correct)


def settle(
    plan: RolloutPlan, memory: PromptMemory, finished: tuple[FinishedRound, ...], *, visit: int, prompt: Prompt
) -> None:
    if learned := plan.close(prompt, finished):
        memory.write("p", visit, learned)


def play(
    plan: RolloutPlan, memory: PromptMemory, *num_correct: int, visit: int = 1, prompt: Prompt | None = None
) -> list[FinishedRound]:
    """Run one group whose rounds get these numbers of correct rollouts, and close it."""
    prompt = prompt or make_prompt()
    finished: list[FinishedRound] = []
    for correct in num_correct:
        planned = plan.next_round(prompt, tuple(finished), memory.read("p"))
        assert planned is not None
        finished.append(finish(planned, correct))
    assert plan.next_round(prompt, tuple(finished), memory.read("p")) is None
    settle(plan, memory, tuple(finished), visit=visit, prompt=prompt)
    return finished


# -- single_round


def test_single_round_is_the_whole_group_without_a_hint() -> None:
    plan = single_round.build(single_round.Config(), group_size=8)
    assert (plan.max_rollouts, plan.max_rounds) == (8, 1)
    assert plan.next_round(make_prompt(), (), make_memory()) == Round(num_rollouts=8)


# -- hinted_second_round


@pytest.mark.parametrize(("group_size", "sizes"), [(8, [4, 4]), (7, [3, 4]), (2, [1, 1])])
def test_two_rounds_make_the_group(group_size: int, sizes: list[int]) -> None:
    rounds = play(make_plan(group_size=group_size), make_memory(), 0, 0)
    assert [each.round.num_rollouts for each in rounds] == sizes


def test_first_round_never_has_a_hint() -> None:
    memory = make_memory()
    for visit in range(1, 4):
        assert play(make_plan(), memory, 0, 0, visit=visit)[0].round.hint == ""


def test_low_accuracy_calls_for_a_hint_of_all_steps_but_the_last() -> None:
    # SEELE's cold start: (|y| - 1) / |y| of 5 steps is 4 steps.
    second = play(make_plan(), make_memory(), 1, 0)[1]
    assert second.round.hint == "one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize("num_correct", [2, 3, 4])
def test_accuracy_at_or_above_target_gives_no_hint_and_teaches_nothing(num_correct: int) -> None:
    memory = make_memory()
    assert play(make_plan(), memory, num_correct, 0)[1].round.hint == ""
    assert memory.read("p") == {}


def test_hint_shrinks_after_success_and_grows_after_failure() -> None:
    memory = make_memory()
    plan = make_plan(first_num_steps=2)
    lengths = []
    # Round 2 gets 4, 4, 0, 2, 0 of 4 right: 2 -> 1 -> 1 (least) -> 2 -> 2 (on target) -> 3
    for visit, correct in enumerate((4, 4, 0, 2, 0, 0), start=1):
        lengths.append(play(plan, memory, 0, correct, visit=visit)[1].round.hint.count("\n"))
    assert lengths == [2, 1, 1, 2, 2, 3]


def test_hint_never_grows_to_the_last_step() -> None:
    memory = make_memory()
    for visit in range(1, 9):
        hint = play(make_plan(), memory, 0, 0, visit=visit)[1].round.hint
        assert hint == "one\ntwo\nthree\nfour\n"


def test_closing_a_visit_twice_moves_the_hint_once() -> None:
    memory = make_memory()
    plan = make_plan()
    finished = tuple(play(plan, memory, 0, 4, visit=1))
    once = memory.read("p")
    settle(plan, memory, finished, visit=1, prompt=make_prompt())
    assert memory.read("p") == once == {"num_hint_steps": 3.0}


@pytest.mark.parametrize("steps", [(), ("only",), ("so \\boxed{5}", "check")])
def test_prompt_without_a_step_to_show_gets_no_hint(steps: tuple[str, ...]) -> None:
    memory = make_memory()
    assert play(make_plan(), memory, 0, 0, prompt=make_prompt(steps))[1].round.hint == ""
    assert memory.read("p") == {}


def test_step_with_a_box_is_never_shown() -> None:
    assert num_showable_steps(("a", "b", "so \\boxed{5}", "indeed", "\\boxed{5}")) == 2
    assert num_showable_steps(FIVE_STEPS) == 4


def test_round_without_verdicts_is_not_an_accuracy_of_zero() -> None:
    plan, memory, prompt = make_plan(), make_memory(), make_prompt()
    undecided = finish(Round(num_rollouts=4), 0, num_decided=0)
    second = plan.next_round(prompt, (undecided,), memory.read("p"))
    assert second is not None
    assert second.hint == ""
    hinted = Round(num_rollouts=4, hint=hint_text(FIVE_STEPS[:2]))
    assert plan.close(prompt, (undecided, finish(hinted, 0, num_decided=0))) == {}


def test_accuracy_is_over_decided_rollouts() -> None:
    # 1 of 2 decided is on the target of 0.5, though 1 of 4 is not.
    second = make_plan().next_round(make_prompt(), (finish(Round(num_rollouts=4), 1, num_decided=2),), {})
    assert second is not None
    assert second.hint == ""


def test_remembered_length_is_cut_to_a_shorter_solution() -> None:
    memory = make_memory()
    memory.write("p", 1, {"num_hint_steps": 4.0})
    assert play(make_plan(), memory, 0, 0, visit=2, prompt=make_prompt(("a", "b")))[1].round.hint == "a\n"


def test_hint_length_settles_where_the_target_is() -> None:
    # 300 prompts of 6 steps; with k steps shown a response is right with probability 0, 0.1, 0.3, 0.5, 0.7, 0.9: the
    # target 0.5 is met at k = 3. After 12 visits the mean length must be near it, from the start at 5.
    success = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    rng = random.Random(0)
    plan, prompt = make_plan(group_size=16), make_prompt(("a", "b", "c", "d", "e", "f"))
    last = []
    for _ in range(300):
        memory = make_memory()
        for visit in range(1, 13):
            first = finish(Round(num_rollouts=8), 0)
            second = plan.next_round(prompt, (first,), memory.read("p"))
            assert second is not None
            length = second.hint.count("\n")
            finished = finish(second, sum(rng.random() < success[length] for _ in range(8)))
            settle(plan, memory, (first, finished), visit=visit, prompt=prompt)
        last.append(length)
    assert abs(sum(last) / len(last) - 3) < 0.25


def test_plan_declares_what_it_needs_and_refuses_what_cannot_work() -> None:
    component = load("rollout.plans", ComponentSpec(kind="hinted_second_round"), "rollout.plan")
    assert Signal.SOLUTION_STEPS in component.needs
    with pytest.raises(RecipeError, match="group_size must be >= 2 for two rounds, got 1"):
        component.build(group_size=1)
    for options, fault in (({"target": 0}, "target must be"), ({"first_num_steps": 0}, "first_num_steps must be")):
        with pytest.raises(RecipeError, match=fault):
            load("rollout.plans", ComponentSpec(kind="hinted_second_round", options=options), "rollout.plan")
