"""Small dashboards, and what a Prometheus could have answered to them."""

from collections.abc import Sequence
from typing import Any

from dashboards import model
from dashboards.frame import annotation, query_variable
from dashboards.model import Json, Kind, Panel, Query, Unit
from dashboards.proof.asking import DashboardAnswer, PanelAnswer, TargetAnswer
from dashboards.proof.filling import Window
from dashboards.proof.prometheus import Series
from dashboards.reading import panels

WINDOW = Window(start=1000.0, end=1010.0, step=2, scrape=1)


def panel_json(title: str, *expressions: str, kind: Kind = Kind.LINES, **looks: Any) -> Json:
    """A panel at the top left, whose series are named by their run."""
    queries = tuple(Query(each, "{{run_id}}") for each in expressions)
    panel = Panel(title=title, description="", queries=queries, unit=Unit.COUNT, kind=kind, **looks)
    return model.panel_json(panel, 1, {"x": 0, "y": 0, "w": panel.width, "h": panel.height})


def variable_json(name: str, query: str, all_value: str = ".+") -> Json:
    """A query variable."""
    return {**query_variable(name, name, query, ""), "allValue": all_value}


def annotation_json(name: str, expression: str, *, value_is_time: bool = False) -> Json:
    """An annotation."""
    return annotation(name, expression, "#ffffff", "", value_is_time=value_is_time)


def dashboard_json(*shown: Json, variables: Sequence[Json] = (), annotations: Sequence[Json] = ()) -> Json:
    """A dashboard of these parts."""
    return {
        "uid": "test",
        "title": "Test",
        "panels": list(shown),
        "templating": {"list": list(variables)},
        "annotations": {"list": list(annotations)},
    }


def series(*values: float, start: float = WINDOW.start, **labels: str) -> Series:
    """A value at each of the window's points, from `start` on."""
    times = tuple(start + WINDOW.step * number for number in range(len(values)))
    return Series(labels=labels, times=times, values=values)


def panel_answer(title: str, *answered: Series, expression: str = "x", **looks: Any) -> PanelAnswer:
    """A panel of one query that gave these series."""
    [panel] = panels(dashboard_json(panel_json(title, expression, **looks)))
    target = TargetAnswer(target=panel.targets[0], expression=expression, series=answered)
    return PanelAnswer(panel=panel, targets=(target,))


def dashboard_answer(*shown: PanelAnswer, **more: Any) -> DashboardAnswer:
    """A dashboard that was filled."""
    parts: dict[str, Any] = {"variables": (), "annotations": (), **more}
    return DashboardAnswer(uid="test", title="Test", window=WINDOW, panels=shown, **parts)
