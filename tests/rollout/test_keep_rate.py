"""Keep rate: the estimate finds the true share, and a shortage is said once, before it is felt."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.keep_rate import KeepRate, chance_of_fewer
from shaping.errors import RecipeError


def feed(estimate: KeepRate, rate: float, num_groups: int, *, seed: int = 0) -> list[str]:
    """Warnings while groups are kept with probability `rate`."""
    rng = random.Random(seed)
    warnings = (estimate.count(is_kept=rng.random() < rate) for _ in range(num_groups))
    return [each for each in warnings if each is not None]


@given(st.integers(1, 12), st.integers(0, 12), st.floats(0, 1))
@settings(max_examples=200, deadline=None)
def test_the_chance_of_fewer_is_the_sum_of_the_binomial_terms(wanted: int, more: int, rate: float) -> None:
    tried = wanted + more
    terms = [math.comb(tried, k) * rate**k * (1 - rate) ** (tried - k) for k in range(wanted)]
    assert chance_of_fewer(wanted, tried, rate) == pytest.approx(sum(terms), abs=1e-9)


def test_the_chance_of_fewer_does_not_underflow() -> None:
    # 0.5 of 8000 is 4000 on average: fewer than 4000 are as likely as more, but for the half of P(exactly 4000).
    middle = math.sqrt(2 / (math.pi * 8000)) / 2
    assert chance_of_fewer(4000, 8000, 0.5) == pytest.approx(0.5 - middle, abs=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5, 1.0])
def test_the_estimate_finds_the_share_of_kept_groups(rate: float) -> None:
    estimate = KeepRate(groups_per_step=16, max_attempts=64)
    assert estimate.value is None
    feed(estimate, rate, 4000)
    # Half-life 64 groups: weights d^i, d = 2^(-1/64), have the variance of (1 + d) / (1 - d) = 184 equal ones.
    found = estimate.value
    assert found is not None
    assert abs(found - rate) <= 4 * math.sqrt(rate * (1 - rate) / 184)


def test_enough_kept_groups_are_no_reason_to_warn_and_too_few_are_one_warning() -> None:
    # 16 of 64 are needed. At 0.5 the chance of fewer is 2e-5; at 0.02 a step needs 800 attempts.
    assert feed(KeepRate(groups_per_step=16, max_attempts=64), 0.5, 4000) == []
    (warning,) = feed(KeepRate(groups_per_step=16, max_attempts=64), 0.02, 4000)
    assert "a step of 16 groups needs" in warning
    assert "64 are allowed" in warning
    assert "raise run.max_attempts_per_step" in warning


def test_the_warning_comes_before_a_steps_attempts_are_spent() -> None:
    estimate = KeepRate(groups_per_step=16, max_attempts=64)
    assert feed(estimate, 0.0, 15) == []
    (warning,) = feed(estimate, 0.0, 1)
    assert warning.startswith("0.0% of the groups are kept: a step of 16 groups needs endless attempts")


def test_a_shortage_is_said_again_only_after_it_was_over() -> None:
    estimate = KeepRate(groups_per_step=16, max_attempts=64)
    assert len(feed(estimate, 0.1, 400)) == 1
    assert feed(estimate, 0.1, 400, seed=1) == []
    assert feed(estimate, 0.9, 400) == []
    assert len(feed(estimate, 0.1, 400)) == 1


def test_a_share_near_the_border_does_not_make_it_say_the_same_again_and_again() -> None:
    estimate = KeepRate(groups_per_step=16, max_attempts=64)

    def feed_evenly(share: float) -> int:
        """400 groups, kept at even distances."""
        ends = [estimate.count(is_kept=int((i + 1) * share) > int(i * share)) for i in range(400)]
        return len([each for each in ends if each is not None])

    # The chance of fewer than 16 of 64 is 0.75 at 0.22, 0.38 at 0.26 and 0.09 at 0.31.
    chances = [chance_of_fewer(16, 64, share) for share in (0.22, 0.26, 0.31)]
    assert chances == pytest.approx([0.67, 0.37, 0.11], abs=0.05)
    assert [feed_evenly(share) for share in (0.22, 0.26, 0.22)] == [1, 0, 0]
    assert [feed_evenly(share) for share in (0.31, 0.22)] == [0, 1]


def test_it_looks_once_for_each_further_step_of_groups() -> None:
    # 8 of 12 are needed: fewer than two thirds are kept 8 drops after 16 kept ones, which the check after 32 finds.
    estimate = KeepRate(groups_per_step=8, max_attempts=12)
    found = [estimate.count(is_kept=index < 16) for index in range(64)]
    assert [index for index, warning in enumerate(found) if warning] == [31]


def test_expected_attempts_are_a_reason_even_where_the_chance_is_not() -> None:
    # B 1, cap 4, 3 kept of 16: 1 / 0.19 > 4 attempts are expected, though 0.81^4 = 0.43 is the chance of none.
    estimate = KeepRate(groups_per_step=1, max_attempts=4)
    warnings = [estimate.count(is_kept=index % 6 == 0) for index in range(16)]
    assert [each is not None for each in warnings] == [False] * 15 + [True]


@given(st.lists(st.booleans(), max_size=200), st.lists(st.booleans(), max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_restored_estimate_goes_on_as_the_saved_one(before: list[bool], after: list[bool]) -> None:
    first, second = (KeepRate(groups_per_step=4, max_attempts=16) for _ in range(2))
    for each in before:
        first.count(is_kept=each)
    second.restore(json.loads(json.dumps(first.state())))
    for each in after:
        assert first.count(is_kept=each) == second.count(is_kept=each)
        assert first.value == second.value


def test_a_state_of_something_else_is_refused() -> None:
    with pytest.raises(RecipeError, match="a saved kept must be a number >= 0, got None"):
        KeepRate(groups_per_step=1, max_attempts=1).restore({})
