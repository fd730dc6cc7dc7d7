"""docs/metrics.md, made from the metric catalogue: every number of a run, where it stands, and how it is made."""

import sys
from collections.abc import Iterable, Mapping

from services.metrics.catalogue import Family, FamilyKind, MetricKind, StepMetric
from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES

HEAD = """\
# Every metric

Made by `python -m services.metrics.reference > docs/metrics.md`; a test compares. What to look at first, and what good
looks like, is in the dashboards and in the [runbook](runbook.md); the names in TensorBoard, Weights & Biases and MLflow
are in [logging.md](logging.md).

`/metrics` of the control plane has all of them for Prometheus, `metrics.jsonl` in a run's directory those of each step.
Each Prometheus name below carries the label `run_id` too, but those of the control plane itself. Counters and states
exist from the start; a gauge exists once it was measured, as what nobody measured is not zero.
"""

STEP_HEAD = """\
Named as in a step's line in `metrics.jsonl`; `{...}` becomes a label in Prometheus. *mean*, *max*: over the
step, as the formula says. *sum*: a count of the step, which Prometheus has as a counter. *level*: as it stands at the
step's end. *histogram*: the distribution within the step.
"""

AREAS = {
    "reward": "Rewards",
    "verdict": "Verdicts",
    "rollout": "Rollouts",
    "groups": "Groups",
    "hint": "Hints",
    "admission": "Admission",
    "dot": "Transforms",
    "segments": "Segments",
    "advantage": "Advantages",
    "less": "LESS",
    "learner": "Learner",
    "weight_sync": "Weight sync",
}
"""Heading by the first words of a step's metric; others come under their own first word."""

_NO_UNIT = "1"


def reference() -> str:
    """The whole page."""
    of_run = [each for each in FAMILIES if each.of_run]
    of_plane = [each for each in FAMILIES if not each.of_run]
    parts = [HEAD, "## Of a run", "", *_family_table(of_run)]
    if of_plane:
        parts += ["", "## Of the control plane", "", *_family_table(of_plane)]
    parts += ["", "## Of a step", "", STEP_HEAD]
    for title, metrics in _by_area(catalogue().metrics).items():
        parts += [f"### {title}", "", *_step_table(metrics), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _by_area(metrics: Iterable[StepMetric]) -> dict[str, list[StepMetric]]:
    """Metrics by heading, in the order of the catalogue."""
    found: dict[str, list[StepMetric]] = {}
    for metric in metrics:
        area = next((each for each in AREAS if metric.name.startswith(f"{each}_")), metric.name.partition("_")[0])
        found.setdefault(AREAS.get(area, area.capitalize()), []).append(metric)
    return found


def _family_table(families: Iterable[Family]) -> list[str]:
    rows = [
        (f"`{each.name}`", each.kind.value, _unit(each.unit), _labels(each.labels), each.help + _ends(each.bounds))
        for each in families
    ]
    return _table(("Prometheus", "type", "unit", "labels", "meaning"), rows)


def _step_table(metrics: Iterable[StepMetric]) -> list[str]:
    rows = []
    for each in metrics:
        kind = each.kind.value if each.kind is not MetricKind.SUM else f"sum, {FamilyKind.COUNTER.value}"
        name = f"`{each.name}`" + (f"<br>{_labels({str(each.label): each.values})}" if each.label else "")
        rows.append((name, f"`{each.family}`", kind, _unit(each.unit), each.help, each.formula + _ends(each.bounds)))
    return _table(("`metrics.jsonl`", "Prometheus", "kind", "unit", "meaning", "formula"), rows)


def _labels(labels: Mapping[str, tuple[str, ...]]) -> str:
    """Each label with its values; of an open set the recipe, or what is called, decides."""
    return "; ".join(f"`{name}`: {', '.join(values) or 'open'}" for name, values in labels.items())


def _ends(bounds: tuple[float, ...]) -> str:
    return f". Upper ends: {', '.join(f'{bound:g}' for bound in bounds)}" if bounds else ""


def _unit(unit: str) -> str:
    return "" if unit == _NO_UNIT else unit


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return lines + [f"| {' | '.join(map(_escaped, row))} |" for row in rows]


def _escaped(cell: str) -> str:
    """Text that ends no cell."""
    return cell.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(reference())
