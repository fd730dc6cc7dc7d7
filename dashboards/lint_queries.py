"""Rules of expressions: PromQL that asks for what exists, by labels that exist, as rates where it must."""

import re
from collections.abc import Iterator, Mapping

from dashboards.faults import Fault
from dashboards.known import Known
from dashboards.queries import Query, Selector, read

_RANGE = re.compile(r"\[([^\]]*)\]")
_LEGEND = re.compile(r"{{\s*(\w+)\s*}}")
RATE_RANGE = "$__rate_interval"
WITHOUT_JOB = {"ALERTS": "an alert about several jobs has none"}
"""Series that need not match a job, each with its reason."""


def query_faults(expression: str, legend: str, where: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    """What is wrong with an expression and the template of its series' names."""
    try:
        query = read(expression)
    except ValueError as error:
        yield Fault(
            rule="target-promql", where=where, found=f"an expression must be PromQL, found {expression}: {error}"
        )
        return
    for found in _RANGE.findall(expression):
        if found != RATE_RANGE:
            yield Fault(rule="target-rate-interval", where=where, found=f"a range must be {RATE_RANGE}, found {found}")
    for selector in query.selectors:
        yield from _selector_faults(selector, where, known)
        if not selector.says_by:
            found = "an aggregation must name the labels that it keeps with by"
            yield Fault(rule="aggregation-by", where=where, found=found)
    yield from _join_faults(query, where)
    kept = {label for selector in query.selectors for label in selector.kept}
    for label in _LEGEND.findall(legend):
        if label not in kept:
            yield Fault(
                rule="legend-label", where=where, found=f"a legend must name labels that are kept, found {label}"
            )


def possible_endings(expression: str, legend: str, known: Mapping[str, Known]) -> frozenset[str] | None:
    """Last words that names of an expression's series may have; None where the values of a label are not known."""
    *_, last = legend.split()
    found = _LEGEND.fullmatch(last)
    if found is None:
        return frozenset([last])
    values: set[str] = set()
    for selector in read(expression).selectors:
        of_label = known[selector.name].labels.get(found.group(1), ()) if selector.name in known else ()
        values.update(of_label)
    return frozenset(values) or None


def selector_faults(text: str, where: str, known: Mapping[str, Known], *, chosen: str) -> Iterator[Fault]:
    """What is wrong with the selector of a variable; `chosen` is the label that is asked for."""
    try:
        query = read(text)
    except ValueError as error:
        yield Fault(
            rule="template-label-promql", where=where, found=f"a selector must be PromQL, found {text}: {error}"
        )
        return
    for selector in query.selectors:
        yield from _name_faults(selector, where, known)
        if selector.name in known and chosen not in known[selector.name].labels:
            yield Fault(rule="label-known", where=where, found=f"{selector.name} must have the label, found {chosen}")


def _selector_faults(selector: Selector, where: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    yield from _name_faults(selector, where, known)
    if selector.name not in known:
        return
    series = known[selector.name]
    if selector.name not in WITHOUT_JOB and ("job", "=~", series.job) not in selector.matchers:
        yield Fault(rule="target-job", where=where, found=f'{selector.name} must match job=~"{series.job}"')
    if series.is_of_run and ("run_id", "=~", "$run_id") not in selector.matchers:
        yield Fault(rule="target-run", where=where, found=f'{selector.name} must match run_id=~"$run_id"')
    if series.only_rates and not selector.has_rate:
        yield Fault(
            rule="target-counter-agg", where=where, found=f"{selector.name} is a counter, it must stand in a rate"
        )
    if selector.has_rate and not series.only_rates:
        yield Fault(
            rule="rate-of-counter", where=where, found=f"{selector.name} is a gauge, it must not stand in a rate"
        )
    for label in sorted(selector.kept - series.labels.keys()):
        yield Fault(rule="label-known", where=where, found=f"{selector.name} must have the label, found {label}")


def _name_faults(selector: Selector, where: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    if selector.name not in known:
        yield Fault(
            rule="metric-known",
            where=where,
            found=f"a metric must be in the catalogue or in ray_metrics.py, found {selector.name}",
        )
        return
    for label, operator, value in selector.matchers:
        values = known[selector.name].labels.get(label)
        if values is None:
            yield Fault(rule="label-known", where=where, found=f"{selector.name} must have the label, found {label}")
        elif values and not value.startswith("$"):
            wanted = value.split("|") if operator.endswith("~") else [value]
            for each in wanted:
                if each not in values:
                    found = f"{label} of {selector.name} must be one of {', '.join(values)}, found {each}"
                    yield Fault(rule="label-value", where=where, found=found)


def _join_faults(query: Query, where: str) -> Iterator[Fault]:
    kept = {label for selector in query.selectors for label in selector.kept}
    for label in sorted(query.joined - kept):
        yield Fault(
            rule="label-known", where=where, found=f"sides must be matched on labels that are kept, found {label}"
        )
