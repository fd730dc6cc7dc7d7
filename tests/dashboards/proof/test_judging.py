"""A dashboard that does not show the run is a fault, and nothing else is one."""

import math
from typing import Any

import pytest
from proof_builders import annotation_json, dashboard_answer, dashboard_json, panel_answer, series, variable_json

from dashboards.proof.asking import AnnotationAnswer, DashboardAnswer, VariableAnswer
from dashboards.proof.judging import Allowance, faults, unknown_allowances
from dashboards.reading import annotations, variables

NAN, INF = math.nan, math.inf
MAY_BE_EMPTY = Allowance(dashboard="test", panel="Memory", reason="no GPU here")


def found(answer: DashboardAnswer, **marks: tuple[int, int]) -> list[str]:
    return [str(each) for each in faults(answer, allowed=[MAY_BE_EMPTY], run_id="run_1", marks=marks)]


def test_a_panel_with_a_finite_point_is_well() -> None:
    assert found(dashboard_answer(panel_answer("Loss", series(1.0)))) == []


def test_a_panel_without_series_or_without_a_finite_point_is_a_fault() -> None:
    assert found(dashboard_answer(panel_answer("Loss"))) == ["test: Loss [A]: empty: x"]
    nothing = panel_answer("Share", series(NAN, NAN), expression="a / b")
    assert found(dashboard_answer(nothing)) == ["test: Share [A]: empty: a / b"]


def test_an_allowed_panel_may_be_empty_but_not_infinite() -> None:
    assert found(dashboard_answer(panel_answer("Memory"))) == []
    assert found(dashboard_answer(panel_answer("Memory", series(1.0, INF)))) == ["test: Memory [A]: 1 infinite values"]


def test_an_allowance_for_one_query_is_for_that_query() -> None:
    answer = dashboard_answer(panel_answer("Memory"))
    other = Allowance(dashboard="test", panel="Memory", reason="no GPU here", query="B")
    assert len(list(faults(answer, allowed=[other], run_id="run_1", marks={}))) == 1


@pytest.mark.parametrize(
    ("expression", "is_fault"), [("x", True), ("a / b", False), ("histogram_quantile(1, x)", False)]
)
def test_a_gap_is_only_where_nothing_happened_to_divide_or_to_count(expression: str, is_fault: bool) -> None:
    answer = dashboard_answer(panel_answer("Loss", series(1.0, NAN), expression=expression))
    assert found(answer) == (["test: Loss [A]: 1 values that are no number"] if is_fault else [])


def variable(name: str, *values: str, **more: Any) -> VariableAnswer:
    [each] = variables(dashboard_json(variables=[variable_json(name, "label_values(x, job)")]))
    return VariableAnswer(variable=each, values=values, **more)


def test_a_variable_must_have_values_and_the_run_be_among_them() -> None:
    asked = (variable("job"), variable("run_id", "run_2"), variable("other", refusal="why"))
    assert found(dashboard_answer(variables=asked)) == [
        "test: variable job: no value: label_values(x, job)",
        "test: variable run_id: must offer run_1, found run_2",
        "test: variable other: why",
    ]
    assert found(dashboard_answer(variables=(variable("job", "lessrl"), variable("run_id", "run_1", "run_2")))) == []


def annotation(name: str, num_marks: int) -> AnnotationAnswer:
    [each] = annotations(dashboard_json(annotations=[annotation_json(name, "x")]))
    return AnnotationAnswer(annotation=each, marks=((1000.0, 1002.0),) * num_marks)


def test_marks_are_neither_fewer_nor_more_than_what_happened() -> None:
    def faults_of(num_marks: int) -> list[str]:
        return found(dashboard_answer(annotations=(annotation("Pause", num_marks),)), Pause=(1, 2))

    assert [faults_of(each) for each in (1, 2)] == [[], []]
    assert faults_of(0) == ["test: annotation Pause: must be there 1 to 2 times, found 0"]
    assert faults_of(3) == ["test: annotation Pause: must be there 1 to 2 times, found 3"]


def test_a_mark_that_nobody_counted_is_a_fault() -> None:
    answer = dashboard_answer(annotations=(annotation("Pause", 1),))
    assert found(answer) == ["test: annotation Pause: nobody counted what it marks; found 1"]


def test_an_allowance_names_a_panel_that_exists() -> None:
    here, elsewhere = dashboard_answer(panel_answer("Memory")), dashboard_answer(panel_answer("Loss"))
    assert list(unknown_allowances([here], [MAY_BE_EMPTY])) == []
    [fault] = unknown_allowances([elsewhere], [MAY_BE_EMPTY])
    assert str(fault) == "test: Memory: may be empty, and does not exist"
