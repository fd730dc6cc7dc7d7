"""Runs of several methods from the same seeds: differences paired by seed, and what may be said of them.

A seed is one draw of everything random in a run. The interval of a mean over S seeds is the bootstrap-t (Efron and
Tibshirani 1993, section 12.5): seeds are drawn with replacement, t* = (mean* - mean) / se* of each resample, and the
interval is [mean - q(1 - a/2) se, mean - q(a/2) se], with q the quantiles of t* and se = std / sqrt(S), std over S - 1.
The percentile interval is too narrow for few seeds: of methods that do not differ, with normal differences from 10
seeds, it leaves out 0 in 9 of 100 comparisons where 5 are meant, this one in 4 to 5. A resample that drew one value
alone has no spread and counts as infinitely far: from few seeds, or with many comparisons, an end of the interval is
then open, which is the honest answer. Of differences that are all the same there is no interval at all.

With C comparisons the interval that decides has confidence 1 - 0.05 / C (Bonferroni): in at most 5 of 100 studies of
methods that do not differ, any of them is called better or worse.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from shaping.evaluation.bootstrap import CONFIDENCE, Column, resampled_means

NUM_RESAMPLES = 50_000
_NO_SPREAD = 1e-18
"""Share of the squared size of the numbers below which a variance is rounding."""


class Verdict(StrEnum):
    """What a study says of a method, against the baseline."""

    BETTER = "better"
    WORSE = "worse"
    NOT_SHOWN = "no difference shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval of a mean; an end that is None is open: the seeds do not bound it."""

    low: float | None
    high: float | None

    @property
    def is_above_zero(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        return self.high is not None and self.high < 0

    def as_dict(self) -> dict[str, float | None]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """A method minus the baseline, over the seeds that both have.

    Args:
        value: mean of the differences.
        num_better: seeds in which the method is above the baseline.
        interval: 95 %, of this comparison alone.
        corrected: of 1 - 0.05 / num_comparisons; it decides.
    """

    value: float
    num_seeds: int
    num_better: int
    interval: Interval
    corrected: Interval
    num_comparisons: int

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the corrected interval lies on one side of 0; more counts as better."""
        if self.corrected.is_above_zero:
            return Verdict.BETTER
        return Verdict.WORSE if self.corrected.is_below_zero else Verdict.NOT_SHOWN

    def as_dict(self) -> dict[str, Any]:
        """In JSON's types; an open end is null. The verdict is not among them: not every difference is judged."""
        return {
            "value": self.value,
            "num_seeds": self.num_seeds,
            "num_better": self.num_better,
            **self.interval.as_dict(),
            "corrected": self.corrected.as_dict(),
            "num_comparisons": self.num_comparisons,
        }


def paired_difference(arm: Column, baseline: Column, *, num_comparisons: int) -> PairedDifference | None:
    """Compare [S] numbers of a method with those of the baseline from the same seeds.

    Args:
        arm, baseline: one number a seed, NaN where a run has none; the seeds that both have are compared.
        num_comparisons: that are judged together.
    Returns:
        None where they have no seed in common.
    """
    differences = arm - baseline
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return None
    return PairedDifference(
        value=float(differences.mean()),
        num_seeds=len(differences),
        num_better=int((differences > 0).sum()),
        interval=interval(differences),
        corrected=interval(differences, num_comparisons=num_comparisons),
        num_comparisons=num_comparisons,
    )


def interval(values: Column, *, num_comparisons: int = 1) -> Interval:
    """Of the mean of [S] finite numbers, at confidence 1 - 0.05 / num_comparisons."""
    lows, highs = bands(values[:, None], num_comparisons=num_comparisons)
    low, high = float(lows[0]), float(highs[0])
    return Interval(low=low if math.isfinite(low) else None, high=high if math.isfinite(high) else None)


def bands(table: Column, *, num_comparisons: int = 1) -> tuple[Column, Column]:
    """Ends of the intervals of the means of [S, X] finite numbers, a row a seed; all columns are resampled alike.

    Returns:
        [X] lower and [X] upper ends, -inf and inf where open.
    """
    num_seeds = len(table)
    mean = table.mean(axis=0)
    centred = table - mean
    error = centred.std(axis=0, ddof=1) / math.sqrt(num_seeds) if num_seeds > 1 else np.zeros(len(mean))
    negligible = _NO_SPREAD * (table**2).max(axis=0)
    has_spread = error**2 > negligible
    drawn = resampled_means(np.concatenate([centred, centred**2], axis=1), num_resamples=NUM_RESAMPLES)
    shift, square = np.split(drawn, 2, axis=1)
    variance = square - shift**2
    scaled = np.sqrt(np.maximum(variance, 0) / max(1, num_seeds - 1))
    far = np.where(np.abs(shift) > np.sqrt(negligible), np.copysign(np.inf, shift), 0.0)
    spread = variance > np.maximum(negligible, 1e-9 * centred.var(axis=0))
    students = np.sort(np.divide(shift, scaled, out=far, where=spread), axis=0)
    place = int((1 - CONFIDENCE) / num_comparisons / 2 * NUM_RESAMPLES)
    with np.errstate(invalid="ignore"):
        lows = np.where(has_spread, mean - students[-1 - place] * error, -np.inf)
        highs = np.where(has_spread, mean - students[place] * error, np.inf)
    return lows, highs


def value_at(position: float, positions: Column, values: Column) -> float:
    """A curve at a position between those measured, on the straight line between its neighbours.

    Args:
        positions, values: [E] each, positions ascending.
    Returns:
        NaN outside the positions: nothing is extrapolated.
    """
    return float(np.interp(position, positions, values, left=math.nan, right=math.nan))
