"""Rules that every dashboard keeps: those of Grafana's dashboard linter, and our own.

Left out of Grafana's: template-instance and target-instance, since one exporter serves a run and its instance says
nothing. Ours: ids are unique and panels do not lie upon one another, descriptions say what good looks like, every
metric, label and label's value exists, and every family of the catalogue is on a panel (`unshown`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations

from dashboards.faults import Fault
from dashboards.known import Known, families, known_series
from dashboards.lint_queries import possible_endings, query_faults, selector_faults
from dashboards.model import COLUMNS, SCHEMA_VERSION, TAG, Json, Unit
from dashboards.queries import read
from dashboards.reading import PanelView, Place, Variable, annotations, panels, targets, variables

ROW = "row"
DATASOURCE = "${datasource}"
GOOD = "Good"
UNSHOWN: dict[str, str] = {}
"""Families of the catalogue that no panel shows, each with its reason."""

_LABEL_VALUES = re.compile(r"label_values\((.+),\s*(\w+)\)")
_ALL = ".+"
_RELOAD_ON_TIME_CHANGE = 2
_UNITS = frozenset(unit.value for unit in Unit)


def faults(dashboard: Json) -> list[Fault]:
    """Everything that is wrong with a dashboard."""
    known, uid = known_series(), dashboard["uid"]
    return [
        *_page_faults(dashboard, uid),
        *_variable_faults(list(variables(dashboard)), uid, known),
        *_panel_faults(list(panels(dashboard)), uid, known),
        *_annotation_faults(dashboard, uid, known),
    ]


def unshown(dashboards: Iterable[Json]) -> list[Fault]:
    """Families of the catalogue that are on no panel without a reason, and reasons that are needed no more."""
    known = known_series()
    shown = {
        known[selector.name].family
        for dashboard in dashboards
        for _, target in targets(dashboard)
        for selector in read(target.expression).selectors
        if selector.name in known
    }
    missing = [each for each in families() if each not in shown and each not in UNSHOWN]
    needless = [each for each in UNSHOWN if each in shown or each not in families()]
    return [
        *(
            Fault(rule="family-shown", where=each, found="a family must be on a panel, or in UNSHOWN")
            for each in missing
        ),
        *(
            Fault(rule="family-shown", where=each, found="it is on a panel, it must not be in UNSHOWN")
            for each in needless
        ),
    ]


def _page_faults(dashboard: Json, uid: str) -> Iterator[Fault]:
    if dashboard["editable"]:
        yield Fault(rule="uneditable-dashboard", where=uid, found="editable must be false, the code is the source")
    if dashboard["schemaVersion"] != SCHEMA_VERSION:
        found = f"schemaVersion must be {SCHEMA_VERSION}, found {dashboard['schemaVersion']}"
        yield Fault(rule="schema-version", where=uid, found=found)
    if not re.fullmatch(rf"{TAG}-[a-z]+", uid):
        yield Fault(rule="stable-uid", where=uid, found=f"a uid must be {TAG}- and a word")
    links = [each for each in dashboard["links"] if each["keepTime"] and each["includeVars"] and TAG in each["tags"]]
    if TAG not in dashboard["tags"] or not links:
        yield Fault(
            rule="linked", where=uid, found=f"the tag {TAG}, and a link to it with time and variables, must be there"
        )


def _variable_faults(found: list[Variable], uid: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    by_name = {each.name: each for each in found}
    source = by_name.get("datasource")
    if source is None or (source.kind, source.query) != ("datasource", "prometheus") or not source.label:
        yield Fault(rule="template-datasource", where=uid, found="a variable datasource of Prometheus must be there")
    for rule, name in (("template-job", "job"), ("template-run", "run_id")):
        each = by_name.get(name)
        if each is None or each.kind != "query" or not each.is_multiple or each.all_value != _ALL or not each.label:
            yield Fault(
                rule=rule, where=uid, found=f"a query variable {name} with several values and all of {_ALL} must be"
            )
    for each in found:
        where = f"{uid}: variable {each.name}"
        if each.kind != "query":
            continue
        if each.refresh != _RELOAD_ON_TIME_CHANGE:
            yield Fault(
                rule="template-on-time-change-reload", where=where, found=f"refresh must be 2, found {each.refresh}"
            )
        call = _LABEL_VALUES.fullmatch(each.query)
        if call is None:
            yield Fault(
                rule="template-label-promql", where=where, found=f"must be label_values(..), found {each.query}"
            )
        else:
            yield from selector_faults(call.group(1), where, known, chosen=call.group(2))


def _panel_faults(found: list[PanelView], uid: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    for first, second in combinations(found, 2):
        both = f"{uid}: {first.title} and {second.title}"
        if first.panel_id == second.panel_id:
            yield Fault(rule="unique-id", where=both, found=f"ids must differ, found {first.panel_id}")
        if first.title == second.title:
            yield Fault(rule="unique-title", where=both, found="titles must differ")
        if _overlap(first.place, second.place):
            yield Fault(
                rule="no-overlap", where=both, found=f"places must not overlap, found {first.place}, {second.place}"
            )
    for panel in found:
        where = f"{uid}: {panel.title or panel.panel_id}"
        if panel.place.left + panel.place.width > COLUMNS:
            yield Fault(rule="in-the-grid", where=where, found=f"it must end by column {COLUMNS}, found {panel.place}")
        if panel.kind != ROW:
            yield from _look_faults(panel, where)
            yield from _colour_faults(panel, where, known)
            for target in panel.targets:
                yield from query_faults(target.expression, target.legend, where, known)


def _look_faults(panel: PanelView, where: str) -> Iterator[Fault]:
    if {panel.datasource, *(target.datasource for target in panel.targets)} != {DATASOURCE}:
        yield Fault(rule="panel-datasource", where=where, found=f"the datasource must be {DATASOURCE}")
    if not panel.title or not panel.description:
        yield Fault(rule="panel-title-description", where=where, found="a title and a description must be there")
    if GOOD not in panel.description:
        yield Fault(rule="says-what-is-good", where=where, found="the description must say what good looks like")
    if panel.unit not in _UNITS:
        yield Fault(rule="panel-units", where=where, found=f"the unit must be one of model.Unit, found {panel.unit!r}")
    if not panel.targets:
        yield Fault(rule="panel-no-targets", where=where, found="a query must be there")
    letters = [target.ref for target in panel.targets]
    if len(set(letters)) != len(letters):
        yield Fault(rule="unique-ref", where=where, found=f"letters of queries must differ, found {letters}")
    if any(not target.legend for target in panel.targets):
        yield Fault(rule="legend-template", where=where, found="each query must have the template of a name")
    values = [value for value, _ in panel.limits]
    if values != sorted(set(values)):
        yield Fault(rule="limits-rise", where=where, found=f"thresholds must rise, found {values}")


def _colour_faults(panel: PanelView, where: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    try:
        endings = [possible_endings(each.expression, each.legend, known) for each in panel.targets if each.legend]
    except ValueError:
        return  # of an expression that cannot be read, which query_faults says
    for pattern, _ in panel.colours:
        if not any(ending is None or any(re.search(pattern, word) for word in ending) for ending in endings):
            yield Fault(rule="colour-known", where=where, found=f"a colour must be of a series, found {pattern}")


def _annotation_faults(dashboard: Json, uid: str, known: Mapping[str, Known]) -> Iterator[Fault]:
    found = list(annotations(dashboard))
    for missing in sorted({"Pause", "Checkpoint", "Worker restart", "Evaluation"} - {each.name for each in found}):
        yield Fault(rule="annotations", where=uid, found=f"there must be an annotation {missing}")
    for each in found:
        yield from query_faults(each.expression, each.text, f"{uid}: annotation {each.name}", known)


def _overlap(first: Place, second: Place) -> bool:
    return (
        first.left < second.left + second.width
        and second.left < first.left + first.width
        and first.top < second.top + second.height
        and second.top < first.top + first.height
    )
