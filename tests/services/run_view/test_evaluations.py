"""Evaluations of a run as their directories and its reports tell of them."""

import json
from pathlib import Path

import pytest
from evaluation_builders import make_answer
from report_builders import make_evaluation
from run_view_builders import AT, append_reports
from stored_evaluations import write_evaluation

from services.evaluation.directory import EVALUATIONS_DIR, RESULTS_FILE
from services.evaluation.results import measure, write_results
from services.run_view.refusals import NotFound
from services.run_view.view import RunView
from shaping.groups import VerdictStatus


def write_measured(run_dir: Path, name: str, correct: int) -> Path:
    """Four problems with one answer each, so many of them right."""
    statuses = [VerdictStatus.CORRECT] * correct + [VerdictStatus.WRONG] * (4 - correct)
    answers = [make_answer(problem_id=f"p{index}", status=status) for index, status in enumerate(statuses)]
    directory = write_evaluation(run_dir / EVALUATIONS_DIR / name, answers)
    write_results(directory, measure(directory))
    return directory


def test_an_evaluation_has_its_metrics_by_benchmark_and_what_the_run_reported(tmp_path: Path) -> None:
    write_measured(tmp_path, "at-step-000004", correct=3)
    append_reports(tmp_path, [make_evaluation(4, 0.75)], at=AT)
    found = RunView(tmp_path).evaluation("at-step-000004")
    assert (found.step, found.created_at, found.is_complete, found.problem) == (4, AT, True, "")
    # Three of four problems right, one answer each.
    assert found.benchmarks["sums"]["acc/mean@1"] == found.benchmarks["sums"]["acc/pass@1"] == 0.75
    assert found.details["report"]["accuracy"] == 0.75
    assert found.details["results"]["benchmarks"]["sums"]["num_problems"] == 4
    assert "problems" not in found.details["asked"]["benchmarks"]["sums"]


def test_all_are_listed_newest_first_and_one_under_way_is_not_complete(tmp_path: Path) -> None:
    append_reports(tmp_path, [make_evaluation(0, 0.1)], at=AT)
    append_reports(tmp_path, [make_evaluation(2, 0.2)], at=AT + 60)
    write_measured(tmp_path, "at-step-000002", correct=1)
    write_evaluation(tmp_path / EVALUATIONS_DIR / "policy-2", [make_answer()])
    found = RunView(tmp_path).evaluations()
    # policy-2 was written now, years after the reports of the other two.
    assert [(each.name, each.step, each.is_complete) for each in found] == [
        ("policy-2", None, False),
        ("at-step-000002", 2, True),
        ("at-step-000000", 0, False),
    ]
    assert found[0].benchmarks == {}
    assert found[2].details == {"report": {**found[2].details["report"]}}


def test_one_that_cannot_be_read_says_why_and_hides_no_other(tmp_path: Path) -> None:
    write_measured(tmp_path, "at-step-000001", correct=1)
    (write_measured(tmp_path, "at-step-000002", correct=1) / RESULTS_FILE).write_text("{half")
    (tmp_path / EVALUATIONS_DIR / "empty").mkdir()
    (tmp_path / EVALUATIONS_DIR / "at-step-000003").symlink_to(tmp_path / EVALUATIONS_DIR / "at-step-000001")
    found = {each.name: each.problem for each in RunView(tmp_path).evaluations()}
    assert sorted(found) == ["at-step-000001", "at-step-000002"]
    assert found["at-step-000001"] == ""
    assert found["at-step-000002"].startswith("results.json must be JSON")


@pytest.mark.parametrize("name", ["", "..", "at-step-000009", "at-step-000001/../..", "a" * 1000])
def test_another_name_is_not_found(tmp_path: Path, name: str) -> None:
    write_measured(tmp_path, "at-step-000001", correct=1)
    with pytest.raises(NotFound, match="an evaluation must be one of those there are") as caught:
        RunView(tmp_path).evaluation(name)
    assert caught.value.what == "evaluation"


@pytest.mark.parametrize(
    "value", [[], 3, {"benchmarks": 3}, {"benchmarks": {"x": {"metrics": []}}}, {"num_missing": "x"}]
)
def test_results_of_any_shape_are_no_failure(tmp_path: Path, value: object) -> None:
    directory = write_measured(tmp_path, "at-step-000001", correct=1)
    (directory / RESULTS_FILE).write_text(json.dumps(value))
    (found,) = RunView(tmp_path).evaluations()
    assert not found.is_complete
