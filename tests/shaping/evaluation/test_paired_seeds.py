"""Differences paired by seed: intervals against full enumeration, what few seeds cannot say, and what is declared."""

import itertools
import math

import numpy as np
import pytest

from shaping.evaluation.paired_seeds import (
    Interval,
    Verdict,
    bands,
    interval,
    paired_difference,
    value_at,
)

SIX = np.array([0.3, 1.1, -0.4, 0.9, 2.0, 0.6])


def enumerated_interval(values: np.ndarray, tail: float) -> tuple[float, float]:
    """The bootstrap-t interval over all n^n resamples, each counted once: no random numbers."""
    n, mean, error = len(values), values.mean(), values.std(ddof=1) / math.sqrt(len(values))
    students = []
    for drawn in itertools.product(values.tolist(), repeat=n):
        sample = np.array(drawn)
        spread = sample.std(ddof=1)
        shift = sample.mean() - mean
        students.append(shift / (spread / math.sqrt(n)) if spread > 0 else math.copysign(math.inf, shift))
    ordered = np.sort(students)
    place = int(tail * len(ordered))
    return float(mean - ordered[-1 - place] * error), float(mean - ordered[place] * error)


def test_the_interval_is_that_of_all_resamples() -> None:
    low, high = enumerated_interval(SIX, 0.025)
    found = interval(SIX)
    assert found.low is not None and found.high is not None
    # 50,000 of the 46,656 resamples were drawn; t* at a tail of 0.025 moves by a few hundredths from draw to draw.
    assert (found.low, found.high) == (pytest.approx(low, abs=0.05), pytest.approx(high, abs=0.05))


def test_few_seeds_bound_nothing_and_more_comparisons_bound_less() -> None:
    # Of 3^3 resamples 3 draw one value alone: the most extreme 2.5 % on one side, 0.7 of 27, are all infinitely far.
    assert interval(np.array([1.0, 2.0, 3.5])) == Interval(low=None, high=None)
    # Of 5^5 = 3,125 resamples 5 draw one value alone: 0.16 %, at most 0.096 % on one side with 3 and 2 of them. That is
    # inside the 2.5 % of one comparison, and outside the 0.05 % of fifty.
    five = np.array([0.2, 0.9, 1.6, 3.0, 3.4])
    alone, of_fifty = interval(five), interval(five, num_comparisons=50)
    assert alone.low is not None and alone.high is not None
    assert of_fifty == Interval(low=None, high=None)


@pytest.mark.parametrize("values", [[0.5], [0.1] * 8, [0.0] * 8, [0.1 + 0.2, 0.3, 0.3]])
def test_numbers_without_spread_have_no_interval(values: list[float]) -> None:
    assert interval(np.array(values)) == Interval(low=None, high=None)


def test_the_interval_moves_and_scales_with_the_numbers() -> None:
    plain, moved, mirrored = interval(SIX), interval(3 * SIX + 7), interval(-SIX)
    assert plain.low is not None and plain.high is not None
    assert (moved.low, moved.high) == (pytest.approx(3 * plain.low + 7), pytest.approx(3 * plain.high + 7))
    assert (mirrored.low, mirrored.high) == (pytest.approx(-plain.high), pytest.approx(-plain.low))


def test_a_corrected_interval_holds_the_plain_one() -> None:
    ten = np.random.default_rng(3).normal(0.5, 1.0, 10)
    plain, corrected = interval(ten), interval(ten, num_comparisons=8)
    assert plain.low is not None and plain.high is not None and corrected.low is not None and corrected.high is not None
    assert corrected.low < plain.low < plain.high < corrected.high


def test_columns_of_a_band_are_intervals_of_their_own() -> None:
    table = np.random.default_rng(4).normal(size=(10, 3))
    lows, highs = bands(table)
    for column in range(3):
        found = interval(table[:, column])
        assert (found.low, found.high) == (pytest.approx(lows[column]), pytest.approx(highs[column]))


def test_of_methods_that_do_not_differ_one_in_twenty_intervals_leaves_out_zero() -> None:
    # 600 studies of 10 seeds. Meant are 5 %, with a standard deviation of 0.9 points over 600 draws; allowed are three.
    table = np.random.default_rng(5).normal(size=(10, 600))
    lows, highs = bands(table)
    assert np.mean((lows > 0) | (highs < 0)) == pytest.approx(0.05, abs=0.027)
    # Of 8 comparisons each may leave out 0 in 0.6 %: about 4 of 600, fewer than 13 but for 1 chance in 1,000.
    lows, highs = bands(table, num_comparisons=8)
    assert ((lows > 0) | (highs < 0)).sum() < 13


def test_only_seeds_that_both_have_are_compared() -> None:
    found = paired_difference(np.array([2.0, np.nan, 5.0, 4.0]), np.array([1.0, 9.0, 5.0, np.nan]), num_comparisons=1)
    assert found is not None
    # Differences 1 and 0.
    assert (found.value, found.num_seeds, found.num_better) == (0.5, 2, 1)
    assert paired_difference(np.array([1.0, np.nan]), np.array([np.nan, 1.0]), num_comparisons=1) is None


def test_what_all_seeds_share_does_not_hide_a_difference() -> None:
    rng = np.random.default_rng(6)
    seeds = rng.normal(0, 10.0, 10)
    found = paired_difference(seeds + 1 + rng.normal(0, 0.1, 10), seeds, num_comparisons=8)
    assert found is not None and found.verdict is Verdict.BETTER
    # Unpaired, seeds differ a hundred times as much as the method makes them.
    alone = interval(seeds + 1)
    assert alone.low is not None and alone.low < 0


def test_a_winner_is_declared_only_by_the_corrected_interval() -> None:
    # t of these 10 differences is 3: beyond 2.36, where 95 % of one comparison end, and short of the 3.9 of eight.
    ten = np.arange(10.0) - 4.5
    error = ten.std(ddof=1) / math.sqrt(10)
    zeros = np.zeros(10)
    alone = paired_difference(ten + 3 * error, zeros, num_comparisons=1)
    of_eight = paired_difference(ten + 3 * error, zeros, num_comparisons=8)
    far = paired_difference(ten - 6 * error, zeros, num_comparisons=8)
    assert alone is not None and of_eight is not None and far is not None
    assert (alone.verdict, of_eight.verdict, far.verdict) == (Verdict.BETTER, Verdict.NOT_SHOWN, Verdict.WORSE)
    assert of_eight.interval == alone.interval


def test_a_curve_is_read_on_the_straight_line_and_never_beyond_its_ends() -> None:
    tokens, accuracy = np.array([0.0, 100.0, 300.0]), np.array([0.4, 0.6, 0.7])
    # A quarter of the way from 100 to 300: 0.6 + 0.25 * 0.1.
    assert value_at(150.0, tokens, accuracy) == pytest.approx(0.625)
    assert value_at(300.0, tokens, accuracy) == 0.7
    assert math.isnan(value_at(300.5, tokens, accuracy))
