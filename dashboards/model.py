"""What a dashboard is made of, and Grafana's classic JSON of it (schema 42)."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dashboards.palette import CLEAR, GREEN, ORANGE, VERMILION

SCHEMA_VERSION = 42
COLUMNS = 24
TAG = "lessrl"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

Json = dict[str, Any]


class Kind(StrEnum):
    """Grafana's names of the panels that are used."""

    LINES = "timeseries"
    STAT = "stat"
    BARS = "bargauge"
    HEATMAP = "heatmap"
    STATES = "state-timeline"
    TABLE = "table"


class Unit(StrEnum):
    """Grafana's names of units. A word after a colon is written behind the number."""

    RATIO = "percentunit"
    SECONDS = "s"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    NATS = "suffix: nats"
    PER_SECOND = "suffix:/s"
    COUNT = "short"
    NUMBER = "none"
    SMALL = "sci"


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel.

    Args:
        legend: Grafana's template of a series' name; labels stand in double braces.
    """

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Limit:
    """From this value on a panel has this colour."""

    value: float
    colour: str


def good_below(limit: float, bad: float | None = None) -> tuple[Limit, ...]:
    """Attention from `limit`, and alarm from `bad`."""
    last = () if bad is None else (Limit(bad, VERMILION),)
    return (Limit(float("-inf"), GREEN), Limit(limit, ORANGE), *last)


def good_above(limit: float, bad: float | None = None) -> tuple[Limit, ...]:
    """Attention below `limit`, and alarm below `bad`."""
    if bad is None:
        return (Limit(float("-inf"), ORANGE), Limit(limit, GREEN))
    return (Limit(float("-inf"), VERMILION), Limit(bad, ORANGE), Limit(limit, GREEN))


def good_between(low: float, high: float) -> tuple[Limit, ...]:
    """Attention outside of a band."""
    return (Limit(float("-inf"), ORANGE), Limit(low, GREEN), Limit(high, ORANGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One picture.

    Args:
        description: what it shows, and what good looks like.
        width: in columns of 24.
        height: in Grafana's grid rows of 30 pixels.
        limits: lowest first; lines are drawn at them.
        colours: by the last word of a series' name.
        axis: what stands beside the axis where the unit does not say it.
        is_stacked: lines are areas on top of one another.
        is_rare: bars, where an event is a few points among many zeros.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    limits: tuple[Limit, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)
    axis: str = ""
    minimum: float | None = None
    maximum: float | None = None
    is_stacked: bool = False
    is_rare: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under a heading, placed from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """One page of Grafana."""

    uid: str
    title: str
    description: str
    sections: tuple[Section, ...]
    variables: tuple[Json, ...]
    annotations: tuple[Json, ...]

    def to_json(self) -> Json:
        """As Grafana reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,
            "liveNow": False,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "timepicker": {},
            "timezone": "",
            "weekStart": "",
            "fiscalYearStartMonth": 0,
            "links": [_link()],
            "templating": {"list": list(self.variables)},
            "annotations": {"list": list(self.annotations)},
            "panels": list(self._panels()),
        }

    def _panels(self) -> Iterator[Json]:
        top = 0
        for section in self.sections:
            yield _heading(self._id(f"row {section.title}"), section.title, top)
            top += 1
            left = line = 0
            for panel in section.panels:
                if left + panel.width > COLUMNS:
                    top, left, line = top + line, 0, 0
                place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
                yield panel_json(panel, self._id(panel.title), place)
                left, line = left + panel.width, max(line, panel.height)
            top += line

    def _id(self, title: str) -> int:
        # Of the title, not of the place: a link to a panel survives another panel's coming.
        return zlib.crc32(f"{self.uid} {title}".encode()) & 0x7FFFFFFF


def panel_json(panel: Panel, panel_id: int, place: Json) -> Json:
    """A panel as Grafana reads it."""
    return {
        "id": panel_id,
        "type": panel.kind.value,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [_target(panel.kind, query, number) for number, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _field(panel), "overrides": [_colour(*each) for each in panel.colours.items()]},
        "options": _options(panel),
        "transformations": _transformations(panel.kind),
    }


def _link() -> Json:
    """To the other dashboards, with the time range and the variables."""
    return {
        "type": "dashboards",
        "title": TAG,
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _heading(panel_id: int, title: str, top: int) -> Json:
    place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
    return {"id": panel_id, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}


def _target(kind: Kind, query: Query, number: int) -> Json:
    formats = {Kind.HEATMAP: "heatmap", Kind.TABLE: "table"}
    return {
        "refId": chr(ord("A") + number),
        "datasource": DATASOURCE,
        "expr": query.expression,
        "legendFormat": query.legend,
        "format": formats.get(kind, "time_series"),
        "editorMode": "code",
        "instant": kind is Kind.TABLE,
        "range": kind is not Kind.TABLE,
    }


def _field(panel: Panel) -> Json:
    limits = panel.limits or (Limit(float("-inf"), GREEN),)
    steps = [{"color": each.colour, "value": None if each.value == float("-inf") else each.value} for each in limits]
    defaults: Json = {
        "unit": panel.unit.value,
        "color": {"mode": "thresholds" if panel.kind in (Kind.STAT, Kind.BARS) else "palette-classic"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [],
        "custom": _style(panel),
    }
    ends = {"min": panel.minimum, "max": panel.maximum}
    return defaults | {end: value for end, value in ends.items() if value is not None}


def _style(panel: Panel) -> Json:
    if panel.kind is Kind.STATES:
        return {"fillOpacity": 75, "lineWidth": 0, "spanNulls": False}
    if panel.kind is not Kind.LINES:
        return {}
    return {
        "drawStyle": "bars" if panel.is_rare else "line",
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "fillOpacity": 60 if panel.is_stacked or panel.is_rare else 0,
        "stacking": {"mode": "normal" if panel.is_stacked else "none", "group": "A"},
        "showPoints": "auto",
        "pointSize": 4,
        # Between two steps there is no point: see promql.py.
        "spanNulls": True,
        "axisLabel": panel.axis,
        "axisPlacement": "auto",
        "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
    }


def _colour(name: str, colour: str) -> Json:
    return {
        "matcher": {"id": "byRegexp", "options": f"/(^| ){name}$/"},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def _options(panel: Panel) -> Json:
    legend = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind is Kind.LINES:
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind is Kind.STATES:
        return {"legend": legend, "tooltip": {"mode": "single"}, "showValue": "never", "mergeValues": True}
    if panel.kind is Kind.STAT:
        return {
            "reduceOptions": last,
            "textMode": "auto",
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    if panel.kind is Kind.BARS:
        return {"reduceOptions": last, "displayMode": "basic", "orientation": "horizontal", "valueMode": "text"}
    if panel.kind is Kind.TABLE:
        return {"showHeader": True, "cellHeight": "sm"}
    return {
        "calculate": False,
        "cellGap": 0,
        "color": {"mode": "scheme", "scheme": "Viridis", "steps": 64, "min": 0, "reverse": False, "fill": CLEAR},
        "cellValues": {"unit": Unit.RATIO.value},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "unit": panel.unit.value, "axisLabel": panel.axis},
    }


def _transformations(kind: Kind) -> list[Json]:
    """A table has a row per series, with its labels alone."""
    if kind is not Kind.TABLE:
        return []
    hidden = dict.fromkeys(("Time", "Value"), True)
    return [{"id": "organize", "options": {"excludeByName": hidden}}]
