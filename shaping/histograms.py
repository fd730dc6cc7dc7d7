"""Distributions that merge exactly: how many values lie in which range, and their sum. Binned where the values are.

Bounds are upper ends, as Prometheus counts: a value equal to a bound lies below it. They are fixed here, for those who
bin and for those who show: two histograms with other bounds cannot be merged.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

ENTROPY_NATS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MULTIPLIERS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
ADVANTAGES = (-4.0, -2.0, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
IMPORTANCE_RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0, 1.01, 1.05, 1.1, 1.2, 1.28, 1.5, 2.0)
SEGMENT_TOKENS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 64.0, 128.0)
RESPONSE_TOKENS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0)
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
REWARDS = (-1.0, -0.5, 0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 2.0)
VERSIONS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0)
SHORT_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0)
_KNOWN: dict[tuple[float, ...], tuple[float, ...]] = {
    each: each
    for each in (
        *(ENTROPY_NATS, MULTIPLIERS, ADVANTAGES, IMPORTANCE_RATIOS, SEGMENT_TOKENS, RESPONSE_TOKENS),
        *(SHARES, REWARDS, VERSIONS, SHORT_SECONDS, SECONDS),
    )
}


@dataclass(frozen=True, slots=True)
class Histogram:
    """Values by range.

    Args:
        bounds: rising upper ends of the ranges, in the unit of the values.
        counts: values in each range, and at the end those above the last bound; one more than bounds.
        total: sum of the values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    def __post_init__(self) -> None:
        if not all(left < right for left, right in pairwise(self.bounds)):
            raise ValueError(f"the bounds of a histogram must rise, got {self.bounds}")
        if len(self.counts) != len(self.bounds) + 1 or min(self.counts) < 0:
            raise ValueError(f"a histogram of {len(self.bounds)} bounds must have a count for each range, got {self}")
        # One tuple for all that have the same: a run's history holds thousands of histograms.
        object.__setattr__(self, "bounds", _KNOWN.get(self.bounds, self.bounds))

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def value(self) -> None:
        """A distribution is no number: see `histograms_of`."""
        return None

    @staticmethod
    def of(values: ArrayLike, bounds: Sequence[float]) -> "Histogram":
        """Bin finite values of any shape."""
        flat = np.asarray(values).reshape(-1)
        # A comparison a bound: for the few bounds that a histogram has, much faster than a search for each value.
        below = [int(np.count_nonzero(flat <= bound)) for bound in bounds]
        counts = tuple(high - low for low, high in pairwise((0, *below, len(flat))))
        return Histogram(tuple(bounds), counts, float(flat.sum(dtype=np.float64)))

    @staticmethod
    def merged(histograms: "Iterable[Histogram]") -> "Histogram":
        """All values together.

        Raises:
            ValueError: not all have the same bounds.
        """
        first, *others = histograms
        if any(each.bounds != first.bounds for each in others):
            raise ValueError(f"histograms with other bounds cannot be merged, got {first} and {others}")
        counts = tuple(map(sum, zip(first.counts, *(each.counts for each in others), strict=True)))
        return Histogram(first.bounds, counts, first.total + sum(each.total for each in others))
