"""The rules and alerts of Prometheus: they parse, each alert is seen firing and silent, and none names what is not."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.known import known_series
from dashboards.queries import Selector, read
from tests.docs.pages import Page

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RUNBOOK = ROOT / "docs" / "runbook.md"
OF_PROMETHEUS = {"up"}
SEVERITIES = {"info", "warning", "critical"}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: Debian's package prometheus has it"
)


def loaded(name: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return data


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Rules by name; kind is "alert" or "record"."""
    return {rule[kind]: rule for group in loaded("rules.yml")["groups"] for rule in group["rules"] if kind in rule}


def cases(alert: str) -> list[dict[str, Any]]:
    return [
        case
        for test in loaded("rules_test.yml")["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]


def promtool(*words: str, folder: Path = FOLDER) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def planted(folder: Path, old: str, new: str, alert: str) -> Path:
    """A copy of the rules with one thing changed, and of the cases of one alert."""
    text = (FOLDER / "rules.yml").read_text()
    assert old in text
    (folder / "rules.yml").write_text(text.replace(old, new))
    tests = loaded("rules_test.yml")
    tests["tests"] = [test for test in tests["tests"] if test["name"] == alert]
    (folder / "rules_test.yml").write_text(yaml.safe_dump(tests))
    return folder


ALERTS = rules("alert")
each_alert = pytest.mark.parametrize("alert", sorted(ALERTS))


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    checked = promtool("check", "rules", "rules.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_every_alert_fires_and_keeps_silent_as_its_cases_say() -> None:
    tested = promtool("test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "old", "new"),
    [
        ("MixedGroupsLow", 'outcome="mixed"', 'outcome="mixd"'),
        ("MismatchKLHigh", "> 0.01\n          and", "> 0.03\n          and"),
        ("StepStuck", "clamp_min(5 * run:less_step_seconds:p95, 300)", "clamp_min(6 * run:less_step_seconds:p95, 300)"),
        ("StepStuck", "          unless on (job, run_id)\n          time() -", "          or on () time() -"),
        ("QueueFull", "for: 15m", "for: 14m"),
        ("StepStuck", "2 * run:less_evaluation_seconds:mean", "run:less_evaluation_seconds:mean"),
        ("NoProgress", "600 + 2 *", "600 + 1 *"),
        ("WorkerRestarting", "> 2.5", "> 2"),
        ("LearnerStarved", "(max_over_time(less_learner_staleness_mean_versions[1h])) > 0", "(vector(1)) > 0"),
        (
            "CheckpointStale",
            "last_over_time(less_checkpoint_last_success_timestamp_seconds[2h])",
            "less_checkpoint_last_success_timestamp_seconds",
        ),
        ("RewardTimeouts", 'status=~"timed_out|crashed"', 'status=~"timed_out|crashed|too_long"'),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, alert: str, old: str, new: str) -> None:
    assert promtool("test", "rules", "rules_test.yml", folder=planted(tmp_path, old, new, alert)).returncode == 1


@needs_promtool
def test_cases_of_one_alert_hold_alone(tmp_path: Path) -> None:
    """What a planted fault is compared with."""
    tested = promtool("test", "rules", "rules_test.yml", folder=planted(tmp_path, "15m", "15m", "QueueFull"))
    assert tested.returncode == 0, tested.stdout + tested.stderr


@needs_promtool
def test_a_rule_that_does_not_parse_is_found(tmp_path: Path) -> None:
    folder = planted(tmp_path, "sum by (job, run_id) (rate(", "sum by (job, run_id (rate(", "NoProgress")
    assert promtool("check", "rules", "rules.yml", folder=folder).returncode != 0


@each_alert
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not(alert: str) -> None:
    assert {bool(case["exp_alerts"]) for case in cases(alert)} == {True, False}


@each_alert
def test_every_alert_says_how_bad_it_is_and_where_it_is_explained(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in SEVERITIES
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{alert.lower()}"


def test_the_runbook_has_a_part_for_each_alert_and_for_nothing_else() -> None:
    """In the order of the rules, each with something to look at or to do."""
    text = RUNBOOK.read_text()
    heads = re.findall(r"^## (\w+)$", text, flags=re.MULTILINE)
    assert heads == list(ALERTS)
    assert {alert.lower() for alert in ALERTS} <= Page(path=RUNBOOK, text=text).anchors()
    parts = re.split(r"^## \w+\n", text, flags=re.MULTILINE)[1:]
    assert [head for head, part in zip(heads, parts, strict=True) if not {"Look:", "Do:"} & set(part.split())] == []


def is_asked_well(selector: Selector) -> bool:
    """Whether its metric is exported, with the labels and the values that it is asked for."""
    if selector.name in rules("record") or selector.name in OF_PROMETHEUS:
        return True
    known = known_series().get(selector.name)
    return known is not None and all(
        label in known.labels and set(value.split("|")) <= set(known.labels[label] or value.split("|"))
        for label, _, value in selector.matchers
    )


@pytest.mark.parametrize("name", sorted(ALERTS | rules("record")))
def test_every_metric_of_an_expression_exists_with_the_values_that_it_is_asked_for(name: str) -> None:
    selectors = read((ALERTS | rules("record"))[name]["expr"]).selectors
    assert selectors
    assert [each for each in selectors if not is_asked_well(each)] == []


@pytest.mark.parametrize(
    "asked", ["less_groups", 'less_groups_total{outcome="mixd"}', 'less_groups_total{kind="mixed"}']
)
def test_a_metric_a_label_or_a_value_that_nobody_exports_is_found(asked: str) -> None:
    [selector] = read(asked).selectors
    assert not is_asked_well(selector)


def test_records_are_named_level_metric_operation() -> None:
    assert [name for name in rules("record") if not re.fullmatch(r"[a-z]+:[a-z0-9_]+:[a-z0-9_]+", name)] == []
