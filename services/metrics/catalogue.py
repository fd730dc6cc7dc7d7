"""What a metric is, and how one is found by the name that a report uses. The entries are in entries.py.

A StepMetric is a name of `StepReport.metrics` or `.histograms`, `area_thing_unit`, and from it follows the Prometheus
family that it is exported as. A name may hold one placeholder, `segments_{segment_class}_tokens`, that becomes a label
of the family. A Family is one that is fed by something else than a step's numbers.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

PREFIX = "less_"
_UNITS = frozenset({"nats", "tokens", "rollouts", "count", "share", "s", "versions", "bytes"})
_PROMETHEUS_UNITS = {"share": "ratio", "s": "seconds"}


class MetricKind(StrEnum):
    """How a number came about in the step, and so how it may be summed up over steps.

    MEAN: a mean or share over the things that the formula names. MAX: the largest. LEVEL: as it stands at the step's
    end. These are gauges, or with bounds histograms of steps. SUM: a count of the step, exported as a counter.
    HISTOGRAM: a distribution within the step, exported as a histogram.
    """

    MEAN = "mean"
    MAX = "max"
    LEVEL = "level"
    SUM = "sum"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class StepMetric:
    """One name, or one name per label value.

    Args:
        name: as in StepReport.metrics; at most one `{label}`.
        formula: what is divided by what, or summed over what.
        values: the closed set of the label; empty where the recipe decides (names of rewards).
        stem: what the Prometheus name is made of where another metric would have the same; "" takes `name`.
        bounds: of a histogram, upper ends in the metric's unit.
    """

    name: str
    kind: MetricKind
    help: str
    formula: str
    values: tuple[str, ...] = ()
    stem: str = ""
    bounds: tuple[float, ...] = ()

    @property
    def label(self) -> str | None:
        """The placeholder, which is the Prometheus label."""
        found = re.search(r"{(\w+)}", self.name)
        return found.group(1) if found else None

    @property
    def unit(self) -> str:
        """The last word of the name where it is one; "share" is a part of a whole, "1" has no unit."""
        last = (self.stem or self.name).rsplit("_", 1)[-1]
        return last if last in _UNITS else "1"

    @property
    def family(self) -> str:
        """Prometheus name: the name without its placeholder, base units in full, `_total` for counters."""
        base = self.stem or self.name.replace(f"_{{{self.label}}}", "")
        for unit, base_unit in _PROMETHEUS_UNITS.items():
            if self.unit == unit:
                base = base.removesuffix(unit) + base_unit
        if self.kind is MetricKind.SUM:
            base = base.removesuffix("_count") + "_total"
        return base if base.startswith(PREFIX) else PREFIX + base

    @property
    def family_kind(self) -> "FamilyKind":
        """What Prometheus makes of it."""
        if self.bounds:
            return FamilyKind.HISTOGRAM
        return FamilyKind.COUNTER if self.kind is MetricKind.SUM else FamilyKind.GAUGE

    def as_family(self) -> "Family":
        """What Prometheus is shown."""
        how = {FamilyKind.COUNTER: "summed over steps", FamilyKind.GAUGE: "last step"}.get(self.family_kind)
        return Family(
            self.family,
            self.family_kind,
            f"{self.help}; {self.formula}" + (f", {how}" if how else ""),
            self.unit,
            {self.label: self.values} if self.label else {},
            self.bounds,
        )

    @property
    def is_closed(self) -> bool:
        """Whether every name is known beforehand."""
        return self.label is None or bool(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of a closed metric, in the order of `values`."""
        if self.label is None:
            return (self.name,)
        return tuple(self.name.replace(f"{{{self.label}}}", value) for value in self.values)


class FamilyKind(StrEnum):
    """What Prometheus makes of a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Family:
    """A Prometheus family; every combination of its closed label values exists from the start.

    Args:
        name: in full, with prefix, base unit, and `_total` or `_info` where the kind asks for it.
        unit: of its values, in words; "1" has none.
        labels: set of values per label; an empty one is open: the recipe, or what is called, decides.
        bounds: of a histogram, upper ends in the family's unit.
        of_run: whether each run has one, with the label run_id; otherwise the control plane itself has it.
    """

    name: str
    kind: FamilyKind
    help: str
    unit: str = "1"
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()
    of_run: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a name of a step report belongs: its metric, and its label value where it has one."""

    metric: StepMetric
    value: str | None


class Catalogue:
    """Finds metrics by the names that reports use.

    Raises:
        ValueError: two metrics share a name.
    """

    def __init__(self, metrics: Iterable[StepMetric]) -> None:
        self.metrics = tuple(metrics)
        self._entries: dict[str, Entry] = {}
        for metric in self.metrics:
            values: tuple[str | None, ...] = metric.values or (None,)
            for name, value in zip(metric.names, values, strict=True) if metric.is_closed else ():
                if name in self._entries:
                    raise ValueError(f"metric names must be unique, found {name} twice in the catalogue")
                self._entries[name] = Entry(metric, value)
        self._open = [(_pattern(metric), metric) for metric in self.metrics if not metric.is_closed]

    def find(self, name: str) -> Entry | None:
        """The entry of a name; None when the catalogue does not know it."""
        if name in self._entries:
            return self._entries[name]
        for pattern, metric in self._open:
            if found := pattern.fullmatch(name):
                return Entry(metric, found.group(1))
        return None

    def unknown(self, names: Iterable[str]) -> list[str]:
        """Names that the catalogue does not know, sorted."""
        return sorted(name for name in names if self.find(name) is None)


def _pattern(metric: StepMetric) -> re.Pattern[str]:
    before, after = metric.name.split(f"{{{metric.label}}}")
    return re.compile(f"{re.escape(before)}([a-z0-9_]+){re.escape(after)}")
