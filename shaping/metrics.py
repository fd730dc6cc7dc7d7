"""Numbers that merge: a mean carries its count, so that merging groups never averages averages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mean:
    """A sum and how many things it sums; its value does not exist when nothing was counted."""

    total: float
    count: float

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None

    def merged(self, other: "Mean") -> "Mean":
        return Mean(self.total + other.total, self.count + other.count)


@dataclass(frozen=True, slots=True)
class Sum:
    """A count of things."""

    total: float

    @property
    def value(self) -> float:
        return self.total

    def merged(self, other: "Sum") -> "Sum":
        return Sum(self.total + other.total)


@dataclass(frozen=True, slots=True)
class Max:
    """The largest value seen."""

    highest: float

    @property
    def value(self) -> float:
        return self.highest

    def merged(self, other: "Max") -> "Max":
        return Max(max(self.highest, other.highest))


Metric = Mean | Sum | Max
Metrics = Mapping[str, Metric]


def merge_metrics(parts: Iterable[Metrics]) -> dict[str, Metric]:
    """Merge metrics by name.

    Raises:
        TypeError: one name is used with two kinds of metric.
    """
    merged: dict[str, Metric] = {}
    for part in parts:
        for name, metric in part.items():
            seen = merged.get(name)
            if seen is None:
                merged[name] = metric
            elif type(seen) is not type(metric):
                raise TypeError(f"metric {name} is a {type(seen).__name__} and a {type(metric).__name__}")
            else:
                merged[name] = seen.merged(metric)  # type: ignore[arg-type]
    return merged


def metric_values(metrics: Metrics) -> dict[str, float]:
    """Plain numbers by name; a mean over nothing is left out rather than shown as zero."""
    return {name: metric.value for name, metric in metrics.items() if metric.value is not None}
