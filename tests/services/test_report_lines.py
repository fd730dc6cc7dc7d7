"""A report that was written down is read back, and nothing else is taken for one."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from report_builders import make_evaluation, make_event, make_step

from services.report_lines import read_report, report_line
from services.reports import EvaluationReport, RunReport, StepReport
from shaping.errors import CheckpointError
from shaping.histograms import REWARDS, Histogram


def line_of(report: RunReport, **changes: Any) -> bytes:
    record = json.loads(report_line(report, at=0.0)) | changes
    return json.dumps({name: value for name, value in record.items() if value != "left out"}).encode()


def test_what_was_not_finite_is_read_as_no_number() -> None:
    step = read_report(line_of(make_step(1, {"loss": math.inf, "norm": 0.5})), "here")
    assert isinstance(step, StepReport)
    assert math.isnan(step.metrics["loss"]) and step.metrics["norm"] == 0.5
    evaluation = read_report(line_of(make_evaluation(1, math.nan)), "here")
    assert isinstance(evaluation, EvaluationReport) and math.isnan(evaluation.accuracy)


def test_floats_are_read_back_exactly() -> None:
    step = make_step(1, {"a": 0.1, "b": 5e-324, "c": 1e308})
    assert read_report(report_line(step, at=0.0).encode(), "here") == step


def test_distributions_are_read_back_exactly() -> None:
    histograms = {"reward_value": Histogram.of([0.1, 0.7], REWARDS), "empty_value": Histogram.of([], (0.5, 5e-324 + 1))}
    step = replace(make_step(1), histograms=histograms)
    assert read_report(report_line(step, at=0.0).encode(), "here") == step


def test_a_distribution_of_numbers_that_were_not_finite_is_read_without_its_sum() -> None:
    step = replace(make_step(1), histograms={"reward_value": Histogram((1.0,), (2, 3), math.inf)})
    found = read_report(line_of(step), "here")
    assert isinstance(found, StepReport)
    assert found.histograms["reward_value"].counts == (2, 3)
    assert math.isnan(found.histograms["reward_value"].total)


def test_a_step_of_an_earlier_version_has_no_distributions() -> None:
    step = make_step(1)
    assert read_report(line_of(step, histograms="left out"), "here") == step


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "JSONDecodeError"),
        (b'{"kind": "st', "JSONDecodeError"),
        (b"\xff\n", "UnicodeDecodeError"),
        (b"[]", "TypeError"),
        (b"{}", "KeyError: 'kind'"),
        (line_of(make_step(1), time="left out"), "KeyError: 'time'"),
        (line_of(make_step(1), extra=1), "extra"),
        (line_of(make_step(1), step="left out"), "step"),
        (line_of(make_step(1), step="1"), "step"),
        (line_of(make_step(1), step=None), "step"),
        (line_of(make_step(1), step=1.5), "step"),
        (line_of(make_step(1), metrics=[]), "AttributeError"),
        (line_of(make_step(1), metrics={"loss": "high"}), "metrics.loss"),
        (line_of(make_step(1), groups={"trained": 0.5}), "groups.trained"),
        (line_of(make_step(1), histograms=[]), "AttributeError"),
        (line_of(make_step(1), histograms={"a": {"bounds": [1.0], "counts": [1], "total": 1.0}}), "a count for each"),
        (line_of(make_step(1), histograms={"a": {"bounds": [1.0], "counts": [1, 0.5], "total": 1.0}}), "counts.1"),
        (line_of(make_evaluation(1), num_decided=True), "num_decided"),
        (line_of(make_event("failed"), state="lost"), "state"),
        (line_of(make_event("failed"), event="left out"), "KeyError: 'event'"),
        (line_of(make_event("failed"), kind="step"), "KeyError: 'metrics'"),
    ],
)
def test_another_line_is_refused_with_what_is_wrong(line: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_report(line, "line 3")
    assert reason in str(caught.value) and "(line 3)" in str(caught.value)
