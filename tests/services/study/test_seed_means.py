"""Means over seeds: Student's t intervals, by tables of its quantiles."""

import math

import numpy as np
import pytest

from services.study.seed_means import bands, seed_mean
from shaping.evaluation.paired_seeds import Interval


def test_a_mean_reaches_as_far_as_students_t_says() -> None:
    # Mean 3, deviations -2 .. 2: std sqrt(10 / 4), error sqrt(0.5); t of 4 degrees of freedom at 97.5 % is 2.7764.
    found = seed_mean(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert found is not None and found.interval.low is not None and found.interval.high is not None
    assert (found.value, found.num_seeds) == (3.0, 5)
    assert (found.interval.low, found.interval.high) == pytest.approx((3 - 1.96320, 3 + 1.96320), abs=1e-4)


def test_a_mean_over_seeds_leaves_out_what_is_no_number() -> None:
    found = seed_mean(np.array([1.0, np.nan, 3.0]))
    assert found is not None and (found.value, found.num_seeds) == (2.0, 2)
    assert seed_mean(np.array([np.nan])) is None


def test_one_seed_bounds_nothing_and_equal_seeds_bound_all() -> None:
    alone, equal = seed_mean(np.array([0.5])), seed_mean(np.full(4, 0.5))
    assert alone is not None and alone.interval == Interval(low=None, high=None)
    assert equal is not None and equal.interval == Interval(low=0.5, high=0.5)


def test_each_point_of_a_band_is_an_interval_of_its_own() -> None:
    table = np.random.default_rng(0).normal(size=(10, 3))
    lows, highs = bands(table)
    for column in range(3):
        found = seed_mean(table[:, column])
        assert found is not None and (found.interval.low, found.interval.high) == (lows[column], highs[column])


def test_nineteen_of_twenty_bands_hold_the_mean() -> None:
    # 2,000 of 10 seeds each: 5 % leave it out, with a standard deviation of 0.49 points; allowed are three.
    lows, highs = bands(np.random.default_rng(1).normal(size=(10, 2000)))
    assert np.mean((lows > 0) | (highs < 0)) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 2000))
