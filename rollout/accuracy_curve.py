"""How the accuracy of one prompt rises with the share of its solution that is given as a hint, and a fit of it.

    f(p) = b + (1 - b) / (1 + exp(-k (p + mu)))        p: hint rate in [0, 1]; a: accuracy in [0, 1]
    f^-1(a) = -mu - ln((1 - b) / (a - b) - 1) / k      b < a < 1

k is the slope, mu the capability (the rate at half height is -mu), b the accuracy of a guess. Pure arithmetic: what
rates mean, and which one comes next, is a rollout plan's business.

Source: SEELE (arXiv:2509.06923), Eq. 12 and 13 and Algorithm 1.
Deviation: the paper names no start and no bounds of the fit, and with few points many curves fit equally well, so these
decide; here both are fixed and can be chosen. The Jacobian is exact.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

_CACHED = 4096

Point = tuple[float, float]
"""A hint rate and the accuracy seen there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyCurve:
    """f. Args:
    slope: k > 0.
    shift: mu.
    guess: b in [0, 1).
    """

    slope: float
    shift: float
    guess: float

    def accuracy(self, rate: float) -> float:
        """f(p)."""
        return self.guess + (1.0 - self.guess) * 0.5 * (1.0 + math.tanh(0.5 * self.slope * (rate + self.shift)))

    def rate(self, accuracy: float) -> float | None:
        """f^-1(a), which may lie outside [0, 1]; None where f reaches it nowhere: a <= b or a >= 1."""
        if not self.guess < accuracy < 1.0:
            return None
        return -self.shift - math.log((1.0 - self.guess) / (accuracy - self.guess) - 1.0) / self.slope


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRules:
    """Where a fit begins and what it may come to, each as (slope, shift, guess).

    Raises:
        ValueError: not three numbers each, a start outside the bounds, or bounds beyond those of a curve.
    """

    start: tuple[float, ...] = (10.0, -0.5, 0.05)
    lower: tuple[float, ...] = (1e-3, -2.0, 0.0)
    upper: tuple[float, ...] = (50.0, 1.0, 0.999)

    def __post_init__(self) -> None:
        sizes = [len(each) for each in (self.start, self.lower, self.upper)]
        if sizes != [3, 3, 3]:
            raise ValueError(f"start and bounds of a fit must be (slope, shift, guess), got {sizes} numbers")
        triples = zip(self.lower, self.start, self.upper, strict=True)
        if not all(low < first < high for low, first, high in triples):
            raise ValueError(
                f"the start of a fit must lie between its bounds, got {self.start} in {self.lower}..{self.upper}"
            )
        if self.lower[0] <= 0 or self.lower[2] < 0 or self.upper[2] >= 1:
            raise ValueError(f"bounds must have slope > 0 and guess in [0, 1), got {self.lower}..{self.upper}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveFit:
    """Args:
    error: root of the mean squared difference to the points.
    """

    curve: AccuracyCurve
    error: float


def with_margins(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points, with (0, 0) where rate 0 was not tried and (1, 1) where rate 1 was not: nothing known, all known."""
    tried = {rate for rate, _ in points}
    return (*points, *(margin for margin in ((0.0, 0.0), (1.0, 1.0)) if margin[0] not in tried))


def averaged(points: Sequence[Point]) -> tuple[Point, ...]:
    """One point for each rate, in rising order: the mean of the accuracies that were seen there."""
    by_rate = groupby(sorted(points), key=lambda point: point[0])
    found = [(rate, [accuracy for _, accuracy in group]) for rate, group in by_rate]
    return tuple((rate, sum(accuracies) / len(accuracies)) for rate, accuracies in found)


@lru_cache(maxsize=_CACHED)
def fit_curve(points: tuple[Point, ...], rules: FitRules) -> CurveFit:
    """The curve with the least squared difference to the points, by the trust region reflective method.

    Args:
        points: one for each rate (`averaged`), at least one.
    """
    rates, seen = (np.array(column, dtype=np.float64) for column in zip(*points, strict=True))

    def differences(found: NDArray[np.float64]) -> NDArray[np.float64]:
        guess = float(found[2])
        return guess + (1.0 - guess) * _logistic(found, rates) - seen

    def jacobian(found: NDArray[np.float64]) -> NDArray[np.float64]:
        slope, shift, guess = found
        height = _logistic(found, rates)
        rise = (1.0 - guess) * height * (1.0 - height)
        return np.column_stack([rise * (rates + shift), rise * slope, 1.0 - height])

    solved = least_squares(differences, rules.start, jac=jacobian, bounds=(rules.lower, rules.upper), method="trf")
    slope, shift, guess = map(float, solved.x)
    error = float(np.sqrt(np.mean(np.square(solved.fun))))
    return CurveFit(curve=AccuracyCurve(slope=slope, shift=shift, guess=guess), error=error)


def _logistic(found: NDArray[np.float64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    slope, shift, _ = found
    # By the hyperbolic tangent, which no slope lets overflow.
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * slope * (rates + shift))), dtype=np.float64)
