"""Values of metric families as Prometheus reads them: counters, gauges, histograms with exact sums, and facts.

prometheus_client's own histograms take one observation at a time; ours take whole distributions, binned where the
values were. So the values are here, and its collector interface shows them.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, product

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from services.metrics.catalogue import Family, FamilyKind
from shaping.histograms import Histogram

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Distribution:
    counts: list[int]
    total: float = 0.0


class FamilyValues(Collector):
    """A collector of these families. Every combination of closed label values of a counter or histogram is there from
    the start, so that a rate sees the first event; a gauge is there once it has a value, since a level that nobody
    measured is not zero.

    Args:
        labels: that every sample has.
        unusable: name of the counter of numbers that were left out: not finite, or a count below 0; "" counts none.
    """

    def __init__(
        self, families: Iterable[Family], labels: Mapping[str, str] | None = None, *, unusable: str = ""
    ) -> None:
        self._unusable = unusable
        self._families = {family.name: family for family in families}
        self._constant = dict(labels or {})
        self._numbers: dict[str, dict[Labels, float]] = {name: {} for name in self._families}
        self._distributions: dict[str, dict[Labels, _Distribution]] = {name: {} for name in self._families}
        self._facts: dict[str, dict[str, str]] = {}
        for family in self._families.values():
            # None where a label is open.
            for values in product(*family.labels.values()):
                self._begin(family, values)

    def add(self, name: str, amount: float, **labels: str) -> None:
        """A counter rises."""
        if not (math.isfinite(amount) and amount >= 0):
            self._leave_out()
            return
        values = self._values(name, FamilyKind.COUNTER, labels)
        self._numbers[name][values] = self._numbers[name].get(values, 0.0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge has this value now; one that is not finite leaves the last."""
        values = self._values(name, FamilyKind.GAUGE, labels)
        if math.isfinite(value):
            self._numbers[name][values] = value
        else:
            self._leave_out()

    def forget(self, *names: str, **labels: str) -> None:
        """Gauges whose values nobody knows any more.

        Args:
            labels: only those with these values.
        """
        for name in names:
            known = tuple(self._families[name].labels)
            for values in [*self._numbers[name]]:
                if all(values[known.index(label)] == value for label, value in labels.items()):
                    del self._numbers[name][values]

    def observe(self, name: str, value: float, **labels: str) -> None:
        """A histogram sees one more value."""
        if math.isfinite(value):
            self.merge(name, Histogram.of([value], self._families[name].bounds), **labels)
        else:
            self._leave_out()

    def merge(self, name: str, histogram: Histogram, **labels: str) -> None:
        """A histogram sees all of these values; ones that were binned by other bounds are left out."""
        values = self._values(name, FamilyKind.HISTOGRAM, labels)
        if histogram.bounds != self._families[name].bounds or not math.isfinite(histogram.total):
            self._leave_out()
            return
        kept = self._distributions[name].setdefault(values, _Distribution([0] * len(histogram.counts)))
        kept.counts = [before + more for before, more in zip(kept.counts, histogram.counts, strict=True)]
        kept.total += histogram.total

    def stay_above(self, before: "FamilyValues") -> None:
        """Raise counters and histograms to what these showed before: one that falls, and not to zero, is to Prometheus
        one that began anew and rose to what it is.
        """
        for name, numbers in before._numbers.items():
            if self._families[name].kind is FamilyKind.COUNTER:
                own = self._numbers[name]
                own.update({values: max(number, own.get(values, 0.0)) for values, number in numbers.items()})
        for name, distributions in before._distributions.items():
            for values, each in distributions.items():
                now = self._distributions[name].get(values)
                if now is None or sum(now.counts) <= sum(each.counts):
                    self._distributions[name][values] = each

    def tell(self, name: str, facts: Mapping[str, str]) -> None:
        """Facts of an info family."""
        self._facts[name] = dict(facts)

    def collect(self) -> Iterator[Metric]:
        """Families in the order that they were given in; one without a value is not there."""
        return (metric for metric in map(self._metric, self._families.values()) if metric.samples)

    def _metric(self, family: Family) -> Metric:
        names, constant = [*self._constant, *family.labels], list(self._constant.values())
        if family.kind is FamilyKind.HISTOGRAM:
            shown = HistogramMetricFamily(family.name, family.help, labels=names)
            bounds = [*map(repr, family.bounds), "+Inf"]
            for values, each in self._distributions[family.name].items():
                buckets = list(zip(bounds, map(float, accumulate(each.counts)), strict=True))
                shown.add_metric([*constant, *values], buckets, each.total)
            return shown
        if family.kind is FamilyKind.INFO:
            info = InfoMetricFamily(family.name.removesuffix("_info"), family.help, labels=names)
            if family.name in self._facts:
                info.add_metric(constant, self._facts[family.name])
            return info
        kind = CounterMetricFamily if family.kind is FamilyKind.COUNTER else GaugeMetricFamily
        numbers = kind(family.name, family.help, labels=names)
        for values, number in self._numbers[family.name].items():
            numbers.add_metric([*constant, *values], number)
        return numbers

    def _leave_out(self) -> None:
        if self._unusable:
            self._numbers[self._unusable][()] += 1

    def _begin(self, family: Family, values: Labels) -> None:
        if family.kind is FamilyKind.COUNTER:
            self._numbers[family.name][values] = 0.0
        elif family.kind is FamilyKind.HISTOGRAM:
            self._distributions[family.name][values] = _Distribution([0] * (len(family.bounds) + 1))

    def _values(self, name: str, kind: FamilyKind, labels: Mapping[str, str]) -> Labels:
        family = self._families[name]
        if family.kind is not kind or labels.keys() != family.labels.keys():
            raise ValueError(f"{name} is a {family.kind} with labels {[*family.labels]}, got a {kind} with {[*labels]}")
        return tuple(labels[each] for each in family.labels)
