"""Numbers that merge: a mean carries its count, so that merging groups never averages averages."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shaping.histograms import Histogram


@dataclass(frozen=True, slots=True)
class Mean:
    """A sum and how many things it sums; its value does not exist when nothing was counted."""

    total: float
    count: float

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None

    @staticmethod
    def merged(means: "Iterable[Mean]") -> "Mean":
        total = count = 0.0
        for each in means:
            total += each.total
            count += each.count
        return Mean(total, count)


@dataclass(frozen=True, slots=True)
class Sum:
    """A count of things."""

    total: float

    @property
    def value(self) -> float:
        return self.total

    @staticmethod
    def merged(sums: "Iterable[Sum]") -> "Sum":
        return Sum(sum(each.total for each in sums))


@dataclass(frozen=True, slots=True)
class Max:
    """The largest value seen."""

    highest: float

    @property
    def value(self) -> float:
        return self.highest

    @staticmethod
    def merged(highest: "Iterable[Max]") -> "Max":
        return Max(max(each.highest for each in highest))


@dataclass(frozen=True, slots=True)
class EffectiveShare:
    """Effective size of a weighted sample as a share of its size n: (sum w)^2 / (n sum w^2), 1 for equal weights.

    Source: Kish 1965, Survey Sampling.
    """

    total: float
    squares: float
    count: float

    @property
    def value(self) -> float | None:
        return self.total**2 / (self.count * self.squares) if self.squares else None

    @staticmethod
    def merged(shares: "Iterable[EffectiveShare]") -> "EffectiveShare":
        total = squares = count = 0.0
        for each in shares:
            total, squares, count = total + each.total, squares + each.squares, count + each.count
        return EffectiveShare(total, squares, count)


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of the values that were summed, over their number."""

    total: float
    squares: float
    count: float

    @property
    def value(self) -> float | None:
        if not self.count:
            return None
        mean = self.total / self.count
        return math.sqrt(max(0.0, self.squares / self.count - mean**2))

    @staticmethod
    def merged(spreads: "Iterable[Spread]") -> "Spread":
        total = squares = count = 0.0
        for each in spreads:
            total, squares, count = total + each.total, squares + each.squares, count + each.count
        return Spread(total, squares, count)


Metric = Mean | Sum | Max | EffectiveShare | Spread | Histogram
Metrics = Mapping[str, Metric]


def merge_metrics(parts: Iterable[Metrics]) -> dict[str, Metric]:
    """Merge metrics by name.

    Raises:
        TypeError: one name is used with two kinds of metric.
    """
    by_name: dict[str, list[Metric]] = {}
    for part in parts:
        for name, metric in part.items():
            seen = by_name.get(name)
            if seen is None:
                by_name[name] = [metric]
            else:
                seen.append(metric)
    return {name: _merge(name, metrics) for name, metrics in by_name.items()}


def _merge(name: str, metrics: list[Metric]) -> Metric:
    first = metrics[0]
    kind = type(first)
    for each in metrics:
        if type(each) is not kind:
            raise TypeError(f"metric {name} is a {kind.__name__} and a {type(each).__name__}")
    return first.merged(metrics)  # type: ignore[arg-type]


def metric_values(metrics: Metrics) -> dict[str, float]:
    """Plain numbers by name; a mean over nothing is left out rather than shown as zero."""
    return {name: metric.value for name, metric in metrics.items() if metric.value is not None}


def histograms_of(metrics: Metrics) -> dict[str, Histogram]:
    """The distributions among them, by name."""
    return {name: metric for name, metric in metrics.items() if isinstance(metric, Histogram)}


def plain_metrics(metrics: Metrics) -> dict[str, list[Any]]:
    """Metrics as JSON data that `metrics_from_plain` reads back exactly."""
    return {
        name: [type(each).__name__.lower(), *(_plain(getattr(each, item)) for item in each.__slots__)]
        for name, each in metrics.items()
    }


def metrics_from_plain(plain: Mapping[str, Sequence[Any]]) -> dict[str, Metric]:
    """Read what `plain_metrics` wrote.

    Raises:
        ValueError: an entry that is no metric.
    """
    kinds: dict[str, Callable[..., Metric]] = {
        "mean": Mean,
        "sum": Sum,
        "max": Max,
        "effectiveshare": EffectiveShare,
        "spread": Spread,
        "histogram": Histogram,
    }
    metrics: dict[str, Metric] = {}
    for name, (kind, *numbers) in plain.items():
        rows = [each if isinstance(each, list) else [each] for each in numbers]
        if kind not in kinds or not all(isinstance(each, int | float) for row in rows for each in row):
            raise ValueError(f"metric {name} must be a kind of metric with its numbers, got {[kind, *numbers]}")
        metrics[name] = kinds[kind](*(tuple(each) if isinstance(each, list) else each for each in numbers))
    return metrics


def _plain(numbers: float | tuple[float, ...]) -> float | list[float]:
    return list(numbers) if isinstance(numbers, tuple) else numbers
