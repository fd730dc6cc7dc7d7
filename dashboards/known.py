"""Every series that a panel may ask for, with its labels: ours from the catalogue, others' from ray_metrics.py."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dashboards.ray_metrics import FOREIGN, Foreign, Source
from services.metrics.catalogue import Family, FamilyKind, StepMetric
from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES

SCRAPE_LABELS = ("job", "instance")
INFO_LABELS = {"less_build_info": ("version",), "less_run_info": ("model", "algorithm", "shaping", "recipe_hash")}
"""An info's facts are labels, which the catalogue leaves to the exporter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A series' name.

    Args:
        family: in the catalogue; of another's the name itself.
        labels: values of each, none where the set is open.
        only_rates: a counter, of which only the rate means something.
        job: the variable that its job must match.
    """

    family: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    only_rates: bool = False
    job: str = "$job"
    is_of_run: bool = True


def known_series() -> dict[str, Known]:
    """By the name of the series."""
    found: dict[str, Known] = {}
    for name, known in _ours():
        found[name] = known
    for foreign in FOREIGN:
        found.update(_foreign(foreign))
    return found


def families() -> tuple[str, ...]:
    """Every family of the catalogue."""
    return tuple(metric.family for metric in catalogue().metrics) + tuple(family.name for family in FAMILIES)


def _ours() -> Iterator[tuple[str, Known]]:
    for metric in catalogue().metrics:
        yield from _series(metric.family, metric.family_kind, _step_labels(metric), metric.bounds, is_of_run=True)
    for family in FAMILIES:
        yield from _series(family.name, family.kind, _family_labels(family), family.bounds, is_of_run=family.of_run)


def _step_labels(metric: StepMetric) -> dict[str, tuple[str, ...]]:
    return {} if metric.label is None else {metric.label: tuple(map(str, metric.values))}


def _family_labels(family: Family) -> dict[str, tuple[str, ...]]:
    labels = {label: tuple(map(str, values)) for label, values in family.labels.items()}
    return labels | _open(INFO_LABELS.get(family.name, ()))


def _series(
    family: str,
    kind: FamilyKind,
    labels: Mapping[str, tuple[str, ...]],
    bounds: tuple[float, ...],
    *,
    is_of_run: bool,
) -> Iterator[tuple[str, Known]]:
    own = {**_open(SCRAPE_LABELS), **(_open(["run_id"]) if is_of_run else {}), **labels}
    if kind is not FamilyKind.HISTOGRAM:
        only_rates = kind is FamilyKind.COUNTER
        yield family, Known(family=family, labels=own, only_rates=only_rates, is_of_run=is_of_run)
        return
    yield f"{family}_bucket", Known(family=family, labels=own | _open(["le"]), only_rates=True, is_of_run=is_of_run)
    # Values below 0 make a sum that falls, which is no counter: the format has none then, and no count.
    for ending in ("_sum", "_count") if bounds[0] >= 0 else ():
        yield family + ending, Known(family=family, labels=own, only_rates=True, is_of_run=is_of_run)


def _foreign(metric: Foreign) -> Iterator[tuple[str, Known]]:
    labels = _open((*SCRAPE_LABELS, *metric.labels))
    job = "$job" if metric.source is Source.PROMETHEUS else "$ray_job"
    if not metric.is_histogram:
        yield (
            metric.name,
            Known(family=metric.name, labels=labels, only_rates=metric.is_counter, job=job, is_of_run=False),
        )
        return
    yield (
        f"{metric.name}_bucket",
        Known(family=metric.name, labels=labels | _open(["le"]), only_rates=True, job=job, is_of_run=False),
    )


def _open(labels: Iterable[str]) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(labels, ())
