"""A dashboard's JSON read back as records: its panels, queries, variables and annotations."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A query of a panel.

    Args:
        expression: PromQL with Grafana's variables in it.
        legend: a series' name, labels in double braces.
        form: "time_series"; "heatmap", whose series are cumulative over the label le; or "table", one row per series.
        is_instant: asked for one point in time and not for a range.
        ref: its letter in the panel.
        datasource: uid of whom it asks.
    """

    expression: str
    legend: str
    form: str
    is_instant: bool
    ref: str
    datasource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a panel is, of 24 columns; from the top in rows of 30 pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelView:
    """A panel; a heading has the kind "row", and no targets.

    Args:
        limits: (value, colour), lowest first; the first value is minus infinity.
        colours: (pattern of a series' name, colour), the first that is found counts.
        minimum: of the axis; None leaves it to the values. So is maximum.
        datasource: uid; "" for a heading.
    """

    panel_id: int
    kind: str
    title: str
    description: str
    unit: str
    place: Place
    targets: tuple[Target, ...]
    limits: tuple[tuple[float, str], ...]
    colours: tuple[tuple[str, str], ...]
    axis: str
    is_stacked: bool
    minimum: float | None
    maximum: float | None
    datasource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable. `query` is "label_values(selector, label)" for kind "query", and "prometheus" for "datasource"."""

    name: str
    label: str
    kind: str
    query: str
    refresh: int
    is_multiple: bool
    all_value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """Marks wherever the expression is above 0; marks no further apart than the query's step are one.

    Args:
        text: what a mark says, labels in double braces.
        value_is_time: a sample's value is when it was, in milliseconds since 1970; each value is one mark.
    """

    name: str
    expression: str
    text: str
    colour: str
    value_is_time: bool


def panels(dashboard: Json) -> Iterator[PanelView]:
    """In their order on the page, headings too."""
    for panel in dashboard["panels"]:
        yield _panel(panel)
        yield from (_panel(inner) for inner in panel.get("panels", ()))


def targets(dashboard: Json) -> Iterator[tuple[PanelView, Target]]:
    """Every query, with its panel."""
    for panel in panels(dashboard):
        yield from ((panel, target) for target in panel.targets)


def variables(dashboard: Json) -> Iterator[Variable]:
    """In the order in which they are asked: a later one may use those before it."""
    for each in dashboard["templating"]["list"]:
        query = each["query"]
        yield Variable(
            name=each["name"],
            label=each.get("label", ""),
            kind=each["type"],
            query=query["query"] if isinstance(query, dict) else query,
            refresh=each["refresh"],
            is_multiple=each["multi"],
            all_value=each.get("allValue", ""),
        )


def annotations(dashboard: Json) -> Iterator[Annotation]:
    """Those that ask Prometheus."""
    for each in dashboard["annotations"]["list"]:
        yield Annotation(
            name=each["name"],
            expression=each["expr"],
            text=each["textFormat"],
            colour=each["iconColor"],
            value_is_time=each["useValueForTime"],
        )


def _panel(panel: Json) -> PanelView:
    place = panel["gridPos"]
    config = panel.get("fieldConfig", {})
    defaults = config.get("defaults", {})
    style = defaults.get("custom", {})
    return PanelView(
        panel_id=panel["id"],
        kind=panel["type"],
        title=panel.get("title", ""),
        description=panel.get("description", ""),
        unit=defaults.get("unit", ""),
        place=Place(left=place["x"], top=place["y"], width=place["w"], height=place["h"]),
        targets=tuple(_target(each) for each in panel.get("targets", ())),
        limits=tuple(
            (float("-inf") if each["value"] is None else each["value"], each["color"])
            for each in defaults.get("thresholds", {}).get("steps", ())
        ),
        colours=tuple(_colour(each) for each in config.get("overrides", ())),
        axis=style.get("axisLabel") or panel.get("options", {}).get("yAxis", {}).get("axisLabel", ""),
        is_stacked=style.get("stacking", {}).get("mode", "none") != "none",
        minimum=defaults.get("min"),
        maximum=defaults.get("max"),
        datasource=panel.get("datasource", {}).get("uid", ""),
    )


def _target(target: Json) -> Target:
    return Target(
        expression=target["expr"],
        legend=target["legendFormat"],
        form=target["format"],
        is_instant=target["instant"],
        ref=target["refId"],
        datasource=target["datasource"]["uid"],
    )


def _colour(override: Json) -> tuple[str, str]:
    pattern: str = override["matcher"]["options"]
    return pattern.strip("/"), override["properties"][0]["value"]["fixedColor"]
