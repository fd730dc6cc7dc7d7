"""Laws of the rules: every dashboard keeps them, and each rule finds what is planted against it."""

from collections.abc import Callable

import pytest
from dashboard_builders import changed, panel, with_expression

from dashboards.build import dashboards
from dashboards.lint import faults
from dashboards.model import Json

SELECTOR = '{job=~"$job", run_id=~"$run_id"}'


@pytest.mark.parametrize("uid", sorted(dashboards()))
def test_a_dashboard_keeps_every_rule(uid: str) -> None:
    assert [str(fault) for fault in faults(dashboards()[uid])] == []


def variable(dashboard: Json, name: str) -> Json:
    return next(each for each in dashboard["templating"]["list"] if each["name"] == name)


def without_variable(dashboard: Json, name: str) -> None:
    dashboard["templating"]["list"].remove(variable(dashboard, name))


def same_id(dashboard: Json) -> None:
    panel(dashboard, "Reward")["id"] = panel(dashboard, "Accuracy")["id"]


def on_top_of_another(dashboard: Json) -> None:
    place = panel(dashboard, "Accuracy")["gridPos"]
    panel(dashboard, "Reward")["gridPos"] = place | {"x": place["x"] + 1}


def same_letter(dashboard: Json) -> None:
    panel(dashboard, "Accuracy")["targets"][1]["refId"] = "A"


def falling_limits(dashboard: Json) -> None:
    panel(dashboard, "Mixed groups")["fieldConfig"]["defaults"]["thresholds"]["steps"].reverse()


def colour_of_nothing(dashboard: Json) -> None:
    override = panel(dashboard, "Accuracy")["fieldConfig"]["overrides"][0]
    override["matcher"]["options"] = "/(^| )trainign$/"


PLANTED: dict[str, Callable[[Json], None]] = {
    "uneditable-dashboard": lambda found: found.update(editable=True),
    "schema-version": lambda found: found.update(schemaVersion=36),
    "stable-uid": lambda found: found.update(uid="a1b2c3"),
    "linked": lambda found: found["links"][0].update(keepTime=False),
    "template-datasource": lambda found: without_variable(found, "datasource"),
    "template-job": lambda found: variable(found, "job").update(multi=False),
    "template-run": lambda found: variable(found, "run_id").update(allValue=""),
    "template-on-time-change-reload": lambda found: variable(found, "run_id").update(refresh=1),
    "template-label-promql": lambda found: variable(found, "run_id").update(
        query="label_values(less_run_state{, run_id)"
    ),
    "panel-datasource": lambda found: panel(found, "Reward")["targets"][0].update(datasource={"uid": "prometheus"}),
    "panel-title-description": lambda found: panel(found, "Reward").update(description=""),
    "says-what-is-good": lambda found: panel(found, "Reward").update(description="Mean weighted reward."),
    "panel-units": lambda found: panel(found, "Reward")["fieldConfig"]["defaults"].update(unit=""),
    "panel-no-targets": lambda found: panel(found, "Reward").update(targets=[]),
    "unique-id": same_id,
    "unique-title": lambda found: panel(found, "Reward").update(title="Accuracy"),
    "no-overlap": on_top_of_another,
    "in-the-grid": lambda found: panel(found, "Reward")["gridPos"].update(w=25),
    "unique-ref": same_letter,
    "legend-template": lambda found: panel(found, "Reward")["targets"][0].update(legendFormat=""),
    "legend-label": lambda found: panel(found, "Reward")["targets"][0].update(legendFormat="{{instance}}"),
    "limits-rise": falling_limits,
    "colour-known": colour_of_nothing,
    "annotations": lambda found: found["annotations"]["list"].pop(),
}


@pytest.mark.parametrize("rule", PLANTED)
def test_a_rule_finds_what_is_planted_on_the_page(rule: str) -> None:
    assert rule in {fault.rule for fault in faults(changed(PLANTED[rule]))}


EXPRESSIONS = {
    "target-promql": f"max by (run_id (less_run_step{SELECTOR})",
    "target-rate-interval": f"sum(rate(less_groups_trained_total{SELECTOR}[5m]))",
    "target-job": 'max(less_run_step{run_id=~"$run_id"})',
    "target-run": 'max(less_run_step{job=~"$job"})',
    "target-counter-agg": f"sum(less_groups_trained_total{SELECTOR})",
    "rate-of-counter": f"max(rate(less_run_step{SELECTOR}[$__rate_interval]))",
    "metric-known": f"max(less_run_stpe{SELECTOR})",
    "label-known": f"max by (verdict) (less_run_step{SELECTOR})",
    "label-value": 'max(less_run_state{job=~"$job", run_id=~"$run_id", state="asleep"})',
}


@pytest.mark.parametrize("rule", EXPRESSIONS)
def test_a_rule_finds_what_is_planted_in_an_expression(rule: str) -> None:
    assert {fault.rule for fault in faults(with_expression(EXPRESSIONS[rule]))} == {rule}


def test_the_overview_with_another_right_expression_keeps_every_rule() -> None:
    assert faults(with_expression(f"max(less_run_step{SELECTOR})")) == []


@pytest.mark.parametrize(
    "expression",
    [
        'max(less_run_state{job=~"$job", run_id=~"$run_id", stat="paused"})',
        f"max by (run_id) (less_run_step{SELECTOR}) * on (state) max by (run_id) (less_run_target_steps{SELECTOR})",
    ],
)
def test_a_label_that_the_metric_has_not_is_found_in_matchers_and_joins(expression: str) -> None:
    assert "label-known" in {fault.rule for fault in faults(with_expression(expression))}


def test_each_part_of_a_pattern_must_be_a_value() -> None:
    state = 'max(less_run_state{job=~"$job", run_id=~"$run_id", state=~"paused|asleep"})'
    (fault,) = faults(with_expression(state))
    assert fault.rule == "label-value"
    assert fault.found.endswith("found asleep")


def test_an_aggregation_must_say_what_it_keeps() -> None:
    without = f"sum without (instance) (less_run_step{SELECTOR})"
    assert {fault.rule for fault in faults(with_expression(without))} == {"aggregation-by"}


def test_a_series_of_ray_must_match_the_job_of_ray() -> None:
    assert {fault.rule for fault in faults(with_expression('max(ray_node_mem_used{job=~"$job"})'))} == {"target-job"}


def test_annotations_keep_the_rules_of_expressions() -> None:
    def at_the_wrong_metric(dashboard: Json) -> None:
        dashboard["annotations"]["list"][0]["expr"] = f"max(less_run_paused{SELECTOR}) > 0"

    assert "metric-known" in {fault.rule for fault in faults(changed(at_the_wrong_metric))}


def test_a_variable_must_ask_for_a_label_that_exists() -> None:
    def of_no_label(dashboard: Json) -> None:
        variable(dashboard, "run_id")["query"] = 'label_values(less_run_state{job=~"$job"}, run)'

    assert "label-known" in {fault.rule for fault in faults(changed(of_no_label))}
