"""Catalogue == code == panels: every family is on a panel, and every panel asks for families that exist."""

import pytest
from report_builders import make_description

from dashboards import lint
from dashboards.build import dashboards
from dashboards.known import INFO_LABELS, families, known_series
from dashboards.lint import unshown
from dashboards.palette import SEGMENTS, TOKENS
from dashboards.promql import run_samples
from dashboards.queries import read
from dashboards.ray_metrics import FOREIGN
from dashboards.reading import targets
from services.metrics.entries import catalogue
from services.metrics.run_metrics import RunMetrics
from shaping.groups import Verdict, VerdictStatus
from shaping.metrics_group import OUTSIDE
from shaping.support import SegmentClass


def names_asked_for() -> set[str]:
    return {
        selector.name
        for dashboard in dashboards().values()
        for _, target in targets(dashboard)
        for selector in read(target.expression).selectors
    }


def test_every_family_is_on_a_panel() -> None:
    assert [str(fault) for fault in unshown(dashboards().values())] == []


def test_every_panel_asks_for_what_exists() -> None:
    assert names_asked_for() - known_series().keys() == set()


def test_a_family_without_a_panel_is_found() -> None:
    all_but_one = [each for uid, each in dashboards().items() if uid != "lessrl-shaping"]
    assert "less_segment_overlap_ratio" in {fault.where for fault in unshown(all_but_one)}


def test_a_reason_that_is_needed_no_more_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lint.UNSHOWN, "less_run_step", "planted")
    monkeypatch.setitem(lint.UNSHOWN, "less_no_such_family", "planted")
    assert {fault.where for fault in unshown(dashboards().values())} == {"less_run_step", "less_no_such_family"}


def test_every_foreign_metric_of_the_list_is_asked_for() -> None:
    asked = {name.removesuffix("_bucket") for name in names_asked_for()}
    assert {metric.name for metric in FOREIGN} - asked == set()


def test_the_exporter_serves_every_family_of_a_run_under_the_names_that_panels_ask_for() -> None:
    metrics = RunMetrics(make_description(), catalogue=catalogue(), version="1", clock=lambda: 0.0)
    served = {sample.name: set(sample.labels) for metric in metrics.registry.collect() for sample in metric.samples}
    for name, labels in INFO_LABELS.items():
        assert served[name] == {"run_id", *labels}
    known = {name: each for name, each in known_series().items() if each.is_of_run}
    for name, labels in served.items():
        assert labels | {"job", "instance"} == set(known[name].labels), name
    # What is a counter or a state is there from the start; a gauge once it was measured.
    assert {name for name, each in known.items() if each.only_rates} <= served.keys()


def test_what_is_no_verdict_on_a_panel_is_what_shaping_leaves_out() -> None:
    undecided = {status.value for status in VerdictStatus if not Verdict(status=status).is_decided}
    asked = {
        value
        for dashboard in dashboards().values()
        for panel, target in targets(dashboard)
        if panel.title == "Rollouts without a verdict"
        for selector in read(target.expression).selectors
        for name, _, value in selector.matchers
        if name == "status"
    }
    assert {frozenset(value.split("|")) for value in asked} == {frozenset(undecided)}


def test_a_class_of_segments_has_one_colour_everywhere() -> None:
    assert set(SEGMENTS) == set(SegmentClass)
    assert set(TOKENS) == {*SegmentClass, OUTSIDE}
    assert len(set(TOKENS.values())) == len(TOKENS)


def test_a_family_has_one_name_only() -> None:
    assert len(set(families())) == len(families())
    assert run_samples("less_run_step") == 'less_run_step{job=~"$job", run_id=~"$run_id"}'
