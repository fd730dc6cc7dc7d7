"""The rounds of SEELE: where the first begins, where a fit sends the next, what is remembered, what is refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_play import finish, make_plan, make_stepped_prompt, play_group, play_visit

from rollout.plans.base import FinishedRound, RolloutPlan, Round
from rollout.plans.seele import REMEMBERED
from rollout.solution_steps import hint_text
from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError
from shaping.memories.last_values import LastValues
from shaping.metrics import metric_values
from shaping.signals import Signal


def seele(**options: Any) -> RolloutPlan:
    return make_plan("seele", group_size=options.pop("group_size", 32), **options)


def script(*num_correct: int) -> Any:
    """Correct rollouts of the rounds, in order."""
    numbers: Iterator[int] = iter(num_correct)
    return lambda _: next(numbers)


def rates(finished: tuple[FinishedRound, ...]) -> list[float]:
    return [each.round.hint_rate for each in finished]


def shown(rate: float, num_steps: int = 5) -> Round:
    """A round that showed this share of the steps."""
    return Round(
        num_rollouts=8,
        hint=hint_text(make_stepped_prompt(num_steps).solution_steps[: round(rate * num_steps)]),
        planned_rate=rate,
        hint_rate=rate,
    )


# -- rounds


def test_rounds_are_of_one_size_and_make_the_group() -> None:
    plan = seele(group_size=32)
    assert (plan.max_rollouts, plan.max_rounds, plan.one_version) == (32, 4, True)
    finished = play_group(plan, make_stepped_prompt(), lambda _: 4)
    assert [each.round.num_rollouts for each in finished] == [8, 8, 8, 8]
    halves = play_group(seele(num_rounds=2), make_stepped_prompt(), script(1, 1))
    assert [each.round.num_rollouts for each in halves] == [16, 16]


@pytest.mark.parametrize(("num_steps", "rate", "hint"), [(5, 0.8, "s1\ns2\ns3\ns4\n"), (2, 0.5, "s1\n"), (1, 0.0, "")])
def test_the_first_round_of_a_prompt_shows_all_steps_but_the_last(num_steps: int, rate: float, hint: str) -> None:
    first = seele().next_round(make_stepped_prompt(num_steps), (), {})
    assert first == Round(num_rollouts=8, hint=hint, planned_rate=rate, hint_rate=rate)


@pytest.mark.parametrize(
    # 0.5 and 4.5 and 2.5 are halves, which go to the even number; 0.9 is beyond 4 of 5, the last useful prefix.
    ("rate", "num_steps"),
    [(0.1, 0), (0.3, 2), (0.5, 2), (0.7, 4), (0.9, 4), (0.0, 0), (0.29, 1), (1.0, 4), (-0.5, 0)],
)
def test_a_rate_becomes_whole_steps_half_to_even(rate: float, num_steps: int) -> None:
    first = seele().next_round(make_stepped_prompt(), (), {REMEMBERED: rate})
    assert first is not None
    assert first.hint.count("\n") == num_steps
    assert first.hint_rate == num_steps / 5


def test_the_rounds_after_the_first_follow_the_curve() -> None:
    # From 0.8 with 8 of 8 the fit gives about 0.46: 2 of 5 steps. With (0.4, 0.25) about 0.43: 2 steps again, which
    # makes (0.4, (0.25 + 0.75) / 2), a point on the target: still 2 steps.
    finished = play_group(seele(), make_stepped_prompt(), script(8, 2, 6, 4))
    assert rates(finished) == [0.8, 0.4, 0.4, 0.4]
    # 5 of 8 at 0.6 and 2 of 8 at 0.4: about 0.53, and 2.65 steps are 3.
    known = (finish(shown(0.8), 8), finish(shown(0.4), 2), finish(shown(0.6), 5))
    last = seele().next_round(make_stepped_prompt(), known, {})
    assert last is not None
    assert last.planned_rate == pytest.approx(0.53, abs=0.01) and last.hint_rate == 0.6


def test_a_first_round_that_fails_is_followed_by_the_longest_hint() -> None:
    # 0 of 8 with 4 of 5 steps: the jump lies behind 0.8, where no useful prefix is left.
    finished = play_group(seele(), make_stepped_prompt(), script(0, 0, 0, 0))
    assert rates(finished) == [0.8] * 4


def test_a_round_without_verdicts_is_no_point() -> None:
    plan, prompt = seele(), make_stepped_prompt()
    undecided = finish(shown(0.8), 0, num_decided=0)
    again = plan.next_round(prompt, (undecided,), {})
    assert again is not None and again.hint_rate == 0.8
    known = (finish(shown(0.8), 8), finish(shown(0.4), 2))
    assert plan.next_round(prompt, (*known, finish(shown(0.4), 0, num_decided=0)), {}) == plan.next_round(
        prompt, known, {}
    )


def test_accuracy_is_over_decided_rollouts() -> None:
    plan, prompt = seele(), make_stepped_prompt()
    some = plan.next_round(prompt, (finish(shown(0.8), 4, num_decided=4),), {})
    assert some == plan.next_round(prompt, (finish(shown(0.8), 8),), {})


# -- options


def test_a_guess_rate_above_the_target_needs_no_hint_or_keeps_the_rate() -> None:
    prompt, known = make_stepped_prompt(), (finish(shown(0.0), 6), finish(shown(0.4), 6))
    assert seele().next_round(prompt, known, {}) == Round(num_rollouts=8)
    kept = seele(guess_above_target="last_rate").next_round(prompt, known, {})
    assert kept is not None and kept.hint_rate == 0.4


def test_the_printed_algorithm_begins_with_the_margins_at_every_visit() -> None:
    plan, prompt = seele(first_round="algorithm"), make_stepped_prompt()
    for recalled in ({}, {REMEMBERED: 0.0}):
        first = plan.next_round(prompt, (), recalled)
        # Between (0, 0) and (1, 1) the start decides: about 0.57, 3 of 5 steps.
        assert first is not None
        assert first.planned_rate == pytest.approx(0.573, abs=0.01) and first.hint_rate == 0.6


def test_points_and_memory_are_of_realised_rates_or_of_predicted_ones() -> None:
    prompt = make_stepped_prompt()
    known = tuple(finish(Round(num_rollouts=8, planned_rate=0.46, hint_rate=0.4), 2) for _ in range(2))
    assert seele().close(prompt, known) == {REMEMBERED: 0.4}
    assert seele(rate="predicted").close(prompt, known) == {REMEMBERED: 0.46}
    realised, predicted = (seele(rate=rate).next_round(prompt, known[:1], {}) for rate in ("realised", "predicted"))
    assert realised is not None and predicted is not None
    assert realised.planned_rate < predicted.planned_rate


def test_another_fit_after_the_last_round_may_be_what_is_remembered() -> None:
    prompt = make_stepped_prompt()
    known = (finish(shown(0.8), 8), finish(shown(0.4), 2), finish(shown(0.6), 5))
    assert seele(num_rounds=4).close(prompt, known) == {REMEMBERED: 0.6}
    assert seele(remembered="refit").close(prompt, known)[REMEMBERED] == pytest.approx(0.53, abs=0.01)
    undecided = (finish(shown(0.8), 0, num_decided=0),)
    assert seele(remembered="refit").close(prompt, undecided) == {REMEMBERED: 0.8}


def test_start_and_bounds_decide_what_few_points_leave_open() -> None:
    # (0.8, 1) and the margins are met by any steep curve whose jump, at minus the shift, lies between 0 and 0.8.
    known, prompt = (finish(shown(0.8), 8),), make_stepped_prompt(50)
    early = seele(start=(10.0, -0.2, 0.05), lower=(1e-3, -0.3, 0.0)).next_round(prompt, known, {})
    late = seele(start=(10.0, -0.7, 0.05), upper=(50.0, -0.6, 0.999)).next_round(prompt, known, {})
    assert early is not None and late is not None
    assert early.planned_rate <= 0.31 and late.planned_rate >= 0.59


def test_tokens_are_asked_for_as_a_share_of_the_whole_solution() -> None:
    plan, prompt = seele(unit="tokens"), make_stepped_prompt(3)
    first = plan.next_round(prompt, (), {})
    assert first == Round(num_rollouts=8, hint="s1\ns2\n", solution="s1\ns2\ns3\n", planned_rate=1.0, hint_rate=1.0)
    # What whoever counts the tokens made of it is what counts.
    given = Round(num_rollouts=8, hint="s1\ns2\n", solution="s1\ns2\ns3\n", planned_rate=0.7, hint_rate=0.65)
    assert plan.close(prompt, (finish(given, 4),)) == {REMEMBERED: 0.65}


def test_rounds_may_be_of_several_versions() -> None:
    assert not seele(versions="any").one_version


# -- memory


def test_the_next_visit_begins_where_the_last_one_ended() -> None:
    plan, memory, prompt = seele(), LastValues(), make_stepped_prompt()
    first = play_visit(plan, memory, prompt, script(8, 2, 6, 4), visit=1)
    again = play_visit(plan, memory, prompt, script(4, 4, 4, 4), visit=2)
    assert rates(first)[-1] == rates(again)[0] == 0.4
    assert memory.read("p") == {REMEMBERED: 0.4}


def test_a_group_that_was_closed_early_remembers_the_rate_it_came_to() -> None:
    finished = play_group(seele(), make_stepped_prompt(), script(8, 2, 6, 4))
    assert seele().close(make_stepped_prompt(), finished[:1]) == {REMEMBERED: 0.8}
    assert seele().close(make_stepped_prompt(), ()) == {}


# -- prompts without usable steps


@pytest.mark.parametrize("steps", [(), ("a", "so \\boxed{42}", "b")])
def test_a_prompt_without_usable_steps_is_refused_or_gets_plain_rounds(steps: tuple[str, ...]) -> None:
    prompt = make_stepped_prompt(steps)
    assert seele().refusal(prompt).startswith(("a solution must have steps", "only the last solution step may"))
    plan, memory = seele(without_steps="plain"), LastValues()
    assert plan.refusal(prompt) == plan.longest_hint(prompt) == ""
    finished = play_visit(plan, memory, prompt, script(0, 0, 0, 0), visit=1)
    assert [each.round for each in finished] == [Round(num_rollouts=8)] * 4
    assert memory.read("p") == plan.metrics(prompt, finished) == {}


def test_the_longest_hint_is_all_steps_but_the_last() -> None:
    assert seele().refusal(make_stepped_prompt()) == ""
    assert seele().longest_hint(make_stepped_prompt(3)) == "s1\ns2\n"


@settings(max_examples=60, deadline=None)
@given(
    num_steps=st.integers(1, 7),
    correct=st.lists(st.integers(0, 8), min_size=4, max_size=4),
    recalled=st.floats(-1, 2),
    unit=st.sampled_from(("steps", "tokens")),
    rate=st.sampled_from(("realised", "predicted")),
)
def test_a_hint_is_never_the_whole_solution(
    num_steps: int, correct: list[int], recalled: float, unit: str, rate: str
) -> None:
    prompt = make_stepped_prompt(num_steps)
    plan = seele(unit=unit, rate=rate)
    finished = play_group(plan, prompt, script(*correct), recalled={REMEMBERED: recalled})
    for each in finished:
        assert plan.longest_hint(prompt).startswith(each.round.hint)
        assert 0 <= each.round.planned_rate <= 1
        assert unit == "tokens" or each.round.hint.count("\n") == round(each.round.planned_rate * num_steps) < num_steps


# -- metrics


def test_the_last_fit_and_the_ends_that_cut_a_rate_are_measured() -> None:
    plan, prompt = seele(), make_stepped_prompt()
    # Nothing is right at 0.8, so rounds 2 to 4 are wanted behind it: 3 of 3 fitted rounds are cut at the top.
    failing = metric_values(plan.metrics(prompt, play_group(plan, prompt, script(0, 0, 0, 0))))
    assert (failing["hint_none_share"], failing["hint_most_share"]) == (0.0, 1.0)
    # All right at rate 0: the curve is above the target everywhere, and no hint is wanted.
    easy = play_group(plan, prompt, lambda _: 8, recalled={REMEMBERED: 0.0})
    assert rates(easy) == [0.0] * 4
    values = metric_values(plan.metrics(prompt, easy))
    assert (values["hint_none_share"], values["hint_most_share"]) == (1.0, 0.0)
    # The last fit is to (0.8, 1), (0.4, 0.25), (0.6, 0.625) and the margins, that of test_accuracy_curve.
    known = (finish(shown(0.8), 8), finish(shown(0.4), 2), finish(shown(0.6), 5), finish(shown(0.6), 4))
    assert metric_values(plan.metrics(prompt, known))["hint_fit_error"] == pytest.approx(0.0375, abs=1e-3)


def test_a_group_without_a_fit_has_no_error_and_no_share() -> None:
    plan, prompt = seele(), make_stepped_prompt()
    assert metric_values(plan.metrics(prompt, (finish(shown(0.8), 8),))) == {}


def test_a_length_that_is_cut_at_the_last_token_is_cut_at_the_top() -> None:
    # Of tokens, only whoever counts them knows the last useful prefix: it makes of 1.0 what there is, say 0.7.
    plan, prompt = seele(unit="tokens"), make_stepped_prompt(3)
    cut = Round(num_rollouts=8, hint="s1\ns2\n", solution="s1\ns2\ns3\n", planned_rate=0.7, hint_rate=0.7)
    values = metric_values(plan.metrics(prompt, (finish(cut, 0), finish(cut, 0))))
    assert values["hint_most_share"] == 1.0


# -- what is refused


def test_what_cannot_be_played_is_refused() -> None:
    component = load("rollout.plans", ComponentSpec(kind="seele"), "rollout.plan")
    assert component.needs == {Signal.SOLUTION_STEPS, Signal.VERDICTS}
    with pytest.raises(RecipeError, match=r"num_rounds must divide rollout\.group_size, got 4 and 30"):
        component.build(group_size=30)
    for options, fault in (
        ({"num_rounds": 1}, "num_rounds must be in 2..8, got 1"),
        ({"num_rounds": 9}, "num_rounds must be in 2..8, got 9"),
        ({"target": 1.0}, r"target must be in \(0, 1\), got 1.0"),
        ({"start": [60, -0.5, 0.05]}, "the start of a fit must lie between its bounds"),
        ({"unit": "words"}, "must be one of steps, tokens"),
    ):
        with pytest.raises(RecipeError, match=fault):
            load("rollout.plans", ComponentSpec(kind="seele", options=options), "rollout.plan")


def test_what_is_remembered_is_plain_data() -> None:
    learned = seele().close(make_stepped_prompt(), (finish(shown(0.8), 8),))
    assert json.loads(json.dumps(learned)) == learned == {REMEMBERED: 0.8}
