"""Means over seeds with Student's t intervals: what a study shows of each arm by itself. Nothing is judged by them.

Of few seeds they are what the bootstrap-t of the paired differences (shaping/evaluation/paired_seeds.py) is not: no end
runs away because a resample drew nearly the same value five times, at the price of taking the seeds' means for normal.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from shaping.evaluation.bootstrap import CONFIDENCE, Column
from shaping.evaluation.paired_seeds import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedMean:
    """A mean over seeds with its 95 % interval, open on both sides of a single seed."""

    value: float
    num_seeds: int
    interval: Interval

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types; an open end is null."""
        return {"value": self.value, "num_seeds": self.num_seeds, **self.interval.as_dict()}


def seed_mean(values: Column) -> SeedMean | None:
    """The mean of [S] numbers, one a seed; NaN is no number. None where there is none."""
    found = values[np.isfinite(values)]
    if not len(found):
        return None
    lows, highs = bands(found[:, None])
    low, high = (float(each[0]) if math.isfinite(each[0]) else None for each in (lows, highs))
    return SeedMean(value=float(found.mean()), num_seeds=len(found), interval=Interval(low=low, high=high))


def bands(table: Column) -> tuple[Column, Column]:
    """Ends of the intervals of the means of [S, X] finite numbers, a row a seed: mean +- t std / sqrt(S).

    Returns:
        [X] lower and [X] upper ends, -inf and inf of a single seed.
    """
    num_seeds, mean = len(table), table.mean(axis=0)
    if num_seeds == 1:
        return np.full(len(mean), -np.inf), np.full(len(mean), np.inf)
    reach = stdtrit(num_seeds - 1, (1 + CONFIDENCE) / 2) * table.std(axis=0, ddof=1) / math.sqrt(num_seeds)
    return mean - reach, mean + reach
