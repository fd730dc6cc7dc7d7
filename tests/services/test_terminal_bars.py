"""Curves and shares in one line: which characters, and how many."""

import pytest
from rich.text import Text

from services.terminal_bars import Part, chart, class_bar, spark, stacked_bar, wrapped
from shaping.support import SegmentClass


def test_lowest_and_highest_value_are_the_ends_of_the_scale() -> None:
    assert spark([0.0, 1.0, 0.5], width=9, is_ascii=False) == "▁█▅"
    assert spark([3.0, 3.0], width=9, is_ascii=False) == "▁▁"


def test_no_course_has_no_curve() -> None:
    assert spark([1.0], width=9, is_ascii=False) == spark([1.0, 2.0], width=9, is_ascii=True) == ""
    assert chart([1.0], width=9, rows=2, is_ascii=False) == ["", ""]


def test_long_curve_keeps_its_ends() -> None:
    assert spark([0.0] * 50 + [7.0], width=4, is_ascii=False) == "▁▁▁█"


def test_chart_is_the_curve_over_its_rows() -> None:
    # Two rows have sixteen heights, the lowest of them 1: 0 is 1/16, 1 is 16/16, 8/15 is 9/16.
    assert chart([0.0, 8 / 15, 1.0], width=3, rows=2, is_ascii=False) == [" ▁█", "▁██"]
    # Half as many values as cells: each is two cells wide.
    assert chart([0.0, 1.0], width=4, rows=1, is_ascii=False) == ["▁▁██"]


@pytest.mark.parametrize("width", [1, 7, 40])
def test_bar_of_all_shares_is_as_wide_as_is_said(width: int) -> None:
    shares = (0.31, 0.33, 0.01, 0.35)
    bar = stacked_bar([Part(share=share, sign="abcd"[at], color="red") for at, share in enumerate(shares)], width=width)
    assert len(bar.plain) == width and list(bar.plain) == sorted(bar.plain)


def test_classes_are_marked_and_named() -> None:
    shares = {
        SegmentClass.SHARED: 0.5,
        SegmentClass.CORRECT_ONLY: 0.25,
        SegmentClass.INCORRECT_ONLY: 0.25,
        SegmentClass.UNIQUE: 0.0,
    }
    bar, key = class_bar(shares, width=4, is_ascii=True)
    assert bar.plain == "==#%"
    assert [each.plain for each in key] == ["= shared 50%", "# correct-only 25%", "% incorrect-only 25%", ". unique 0%"]


def test_entries_are_not_cut() -> None:
    entries = [Text("aaa"), Text("bb"), Text("cccc")]
    assert [line.plain for line in wrapped(entries, 7)] == ["aaa  bb", "cccc"]
    assert [line.plain for line in wrapped(entries, 6)] == ["aaa", "bb", "cccc"]
