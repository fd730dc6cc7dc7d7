"""One group as data for a page: everything of it, once, in numbers that print short."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from explain_builders import WORKED, make_line, make_response, worked_line, write_lines
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from services.explain.file import read_groups
from services.explain.group import ExplainedGroup, explain_record
from services.explain.view import _digits, group_view
from services.explain.words import reason_runs, reasons


def explained(folder: Path, line: dict[str, object]) -> ExplainedGroup:
    return explain_record(read_groups(write_lines(folder, line)).groups[0], options={}, bound="lower")


def test_a_view_stands_alone_as_json(tmp_path: Path) -> None:
    view = json.loads(json.dumps(group_view(explained(tmp_path, worked_line({"step": 3}))), allow_nan=False))
    assert (view["prompt_id"], view["step"], view["correct"], view["size"]) == ("worked", 3, 3, 5)
    words = ["".join(view["tokens"][number] for number in each["tokens"]) for each in view["rollouts"]]
    assert words == ["abcdHefghT", "abcdHxyzwT", "mnHouvkljT", "efghHpqrsT", "pqrsH1234T"]
    assert [each["key"] for each in view["classes"]] == [
        *("shared", "correct_only", "incorrect_only", "unique", "stray", "high")
    ]
    # Of 50 tokens: efgh twice shared, abcd twice, pqrs twice, xyzw + ouvklj + 1234 unique, 5 H; 7 are left.
    assert view["shares"] == [0.16, 0.16, 0.16, 0.28, 0.14, 0.1]


def test_each_text_stands_once_in_a_view(tmp_path: Path) -> None:
    view = group_view(explained(tmp_path, worked_line()))
    assert len(set(view["tokens"])) == len(view["tokens"]) == len(set("".join(WORKED)))


def test_what_steers_a_screen_is_spelled_out_in_every_text_of_the_model(tmp_path: Path) -> None:
    response = {"tokens": ["a\u202eb", "\x1b[0m"], "entropies": [0, 1], "correct": True, "hint": "\u2066"}
    view = group_view(explained(tmp_path, make_line([response], prompt_id="\u200f")))
    assert view["tokens"] == ["a\\u202eb", "\\x1b[0m"]
    assert view["rollouts"][0]["hint"] == "\\u2066"
    assert view["prompt_id"] == "\\u200f"


def test_runs_of_reasons_are_the_reasons_of_the_tokens(tmp_path: Path) -> None:
    group = explained(tmp_path, worked_line())
    runs = list(reason_runs(group, 0))
    assert [times for _, times in runs] == [4, 1, 4, 1]
    assert [each for reason, times in runs for each in [reason] * times] == list(reasons(group, 0))
    assert all(first != second for (first, _), (second, _) in pairwise(runs))


def test_two_strings_of_one_class_are_two_runs(tmp_path: Path) -> None:
    # abc is in rollouts 0 and 1, def in 0 and 2: the same class and the same share, by different strings.
    texts = (("abcdefH", True), ("abcH", True), ("defH", True), ("xyzH", False))
    group = explained(tmp_path, make_line([make_response(*each) for each in texts], less={"min_length": 3}))
    assert [times for _, times in reason_runs(group, 0)] == [3, 3, 1]


def test_a_response_without_tokens_has_no_runs(tmp_path: Path) -> None:
    group = explained(tmp_path, make_line([make_response("", True), make_response("ab", False)]))
    assert list(reason_runs(group, 0)) == []
    assert group_view(group)["rollouts"][0]["reasons"] == []


@given(arrays(np.float32, st.integers(0, 20), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_five_digits_are_those_that_python_prints(values: np.ndarray) -> None:
    shown = _digits(values)
    for value, short in zip(values.tolist(), shown, strict=True):
        # Half-way cases may go either way; no number is longer than five digits.
        assert short == pytest.approx(float(f"{value:.5g}"), rel=1.1e-4, abs=0)
        assert len(repr(short).partition("e")[0].replace(".", "").replace("-", "").strip("0")) <= 5
