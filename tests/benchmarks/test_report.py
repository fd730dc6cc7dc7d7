"""Laws of the form that all benchmarks print."""

import json
import math

import pytest

from tests.benchmarks.report import Report, to_json, to_text


def make_report(**changes: object) -> Report:
    fields: dict[str, object] = {
        "benchmark": "example",
        "core": 3,
        "figures": {"containment_seconds": 0.25, "num_groups": 512},
        "rows": {"regimes": [{"regime": "typical", "ms": 1.5}, {"regime": "loop", "ms": 1234.5}]},
    }
    return Report(**(fields | changes))  # type: ignore[arg-type]


def test_json_is_one_document_with_plain_numbers_on_top() -> None:
    found = json.loads(to_json(make_report()))
    assert found["figures"] == {"containment_seconds": 0.25, "num_groups": 512}
    assert found["rows"]["regimes"][0] == {"regime": "typical", "ms": 1.5}
    assert (found["benchmark"], found["core"]) == ("example", 3)
    assert found["machine"]["num_cores"] >= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "0.3", True, [0.3]])
def test_a_figure_that_is_no_finite_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"a figure must be a finite number, got .* \(example, floor_seconds\)"):
        make_report(figures={"floor_seconds": value})


def test_rows_of_one_table_have_the_same_columns() -> None:
    with pytest.raises(ValueError, match=r"same columns \(example, regimes\)"):
        make_report(rows={"regimes": [{"ms": 1.0}, {"seconds": 1.0}]})


def test_the_text_holds_every_figure_and_every_row() -> None:
    text = to_text(make_report())
    assert "example: core 3 of" in text
    assert [line.split() for line in text.splitlines() if line.startswith("  ")] == [
        ["containment_seconds", "0.25"],
        ["num_groups", "512"],
        ["regime", "ms"],
        ["typical", "1.5"],
        ["loop", "1,234"],
    ]


def test_a_benchmark_that_is_not_pinned_says_so() -> None:
    assert "not pinned" in to_text(make_report(core=None, rows={}))
