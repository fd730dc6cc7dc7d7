"""Asks a Prometheus everything that a dashboard asks: variables first, then panels and annotations."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.proof.filling import Window, filled
from dashboards.proof.prometheus import Prometheus, Series
from dashboards.reading import Annotation, PanelView, Target, Variable, annotations, panels, variables

_LABEL_VALUES = re.compile(r"label_values\(\s*(?P<selector>.+?)\s*,\s*(?P<label>\w+)\s*\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetAnswer:
    """What a query of a panel gave.

    Args:
        expression: as it was asked.
        refusal: why there is no answer, or "".
    """

    target: Target
    expression: str
    series: tuple[Series, ...]
    refusal: str = ""

    @property
    def num_finite(self) -> int:
        return sum(math.isfinite(value) for each in self.series for value in each.values)

    @property
    def num_nan(self) -> int:
        return sum(math.isnan(value) for each in self.series for value in each.values)

    @property
    def num_infinite(self) -> int:
        return sum(math.isinf(value) for each in self.series for value in each.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelAnswer:
    """A panel with what its queries gave."""

    panel: PanelView
    targets: tuple[TargetAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableAnswer:
    """Values of a variable; of one that is no query, none."""

    variable: Variable
    values: tuple[str, ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationAnswer:
    """Marks of an annotation.

    Args:
        marks: (first, last) in seconds since the epoch, in order.
    """

    annotation: Annotation
    marks: tuple[tuple[float, float], ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardAnswer:
    """A dashboard filled with a run."""

    uid: str
    title: str
    window: Window
    panels: tuple[PanelAnswer, ...]
    variables: tuple[VariableAnswer, ...]
    annotations: tuple[AnnotationAnswer, ...]


def ask(dashboard: Mapping[str, Any], prometheus: Prometheus, window: Window) -> DashboardAnswer:
    """Everything that the dashboard asks, with all of each variable chosen."""
    known: dict[str, str] = {}
    asked = []
    for variable in variables(dict(dashboard)):
        answer = _values(variable, prometheus, window, known)
        known[variable.name] = variable.all_value or "|".join(map(re.escape, answer.values)) or ".+"
        asked.append(answer)
    return DashboardAnswer(
        uid=dashboard["uid"],
        title=dashboard["title"],
        window=window,
        panels=tuple(_panel(each, prometheus, window, known) for each in panels(dict(dashboard))),
        variables=tuple(asked),
        annotations=tuple(_marks(each, prometheus, window, known) for each in annotations(dict(dashboard))),
    )


def _values(variable: Variable, prometheus: Prometheus, window: Window, known: Mapping[str, str]) -> VariableAnswer:
    if variable.kind != "query":
        return VariableAnswer(variable=variable, values=())
    found = _LABEL_VALUES.fullmatch(variable.query)
    if found is None:
        return VariableAnswer(
            variable=variable, values=(), refusal=f"not label_values(selector, label): {variable.query}"
        )
    try:
        selector = filled(found["selector"], window, known)
        values = prometheus.label_values(selector, found["label"], start=window.start, end=window.end)
    except ValueError as error:
        return VariableAnswer(variable=variable, values=(), refusal=str(error))
    return VariableAnswer(variable=variable, values=tuple(values))


def _panel(panel: PanelView, prometheus: Prometheus, window: Window, known: Mapping[str, str]) -> PanelAnswer:
    return PanelAnswer(panel=panel, targets=tuple(_target(each, prometheus, window, known) for each in panel.targets))


def _target(target: Target, prometheus: Prometheus, window: Window, known: Mapping[str, str]) -> TargetAnswer:
    try:
        expression = filled(target.expression, window, known)
        if target.is_instant:
            series = prometheus.at(expression, window.end)
        else:
            series = prometheus.range(expression, start=window.start, end=window.end, step=window.step)
    except ValueError as error:
        return TargetAnswer(target=target, expression=target.expression, series=(), refusal=str(error))
    return TargetAnswer(target=target, expression=expression, series=series)


def _marks(each: Annotation, prometheus: Prometheus, window: Window, known: Mapping[str, str]) -> AnnotationAnswer:
    try:
        expression = filled(each.expression, window, known)
        series = prometheus.range(expression, start=window.start, end=window.end, step=window.step)
    except ValueError as error:
        return AnnotationAnswer(annotation=each, marks=(), refusal=str(error))
    found = _times(series) if each.value_is_time else _stretches(series, window.step)
    shown = [mark for mark in found if window.start <= mark[1] and mark[0] <= window.end]
    return AnnotationAnswer(annotation=each, marks=tuple(sorted(shown)))


def _times(series: tuple[Series, ...]) -> Iterator[tuple[float, float]]:
    """Each value is when it was, in milliseconds."""
    for each in series:
        yield from ((value / 1000, value / 1000) for value in dict.fromkeys(each.values))


def _stretches(series: tuple[Series, ...], step: float) -> Iterator[tuple[float, float]]:
    """Points above 0 that are no further apart than a step are one mark."""
    for each in series:
        first = last = None
        for when in (when for when, value in zip(each.times, each.values, strict=True) if value > 0):
            if first is None or last is None:
                first = when
            elif when > last + step * 1.5:
                yield first, last
                first = when
            last = when
        if first is not None and last is not None:
            yield first, last
