"""What `lessrl explain` shows in a terminal: the file on one screen, and a group with marks that need no colour."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from explain_builders import make_line, make_response, with_fields, worked_line, write_lines
from rich.console import Console

from services.explain.file import read_groups
from services.explain.group import explain_record
from services.explain.marks import MARKS, visible
from services.explain.summary import summarise
from services.explain.text import print_summary, print_warnings
from services.explain.tokens import print_group

COLOR = re.compile(r"\x1b\[[\d;]*(?:3\d|9\d)[\d;]*m")


class Screen:
    """A console that keeps what it prints."""

    def __init__(self, *, is_terminal: bool = False, encoding: str = "utf-8", width: int = 100) -> None:
        self._bytes = io.BytesIO()
        self._encoding = encoding
        self.console = Console(
            file=io.TextIOWrapper(self._bytes, encoding=encoding, write_through=True),
            force_terminal=is_terminal,
            width=width,
            color_system="standard" if is_terminal else None,
            legacy_windows=False,
        )

    def text(self) -> str:
        return self._bytes.getvalue().decode(self._encoding)


def show_group(
    folder: Path, line: dict[str, Any], *, rows: list[int] | None = None, with_table: bool = False, **screen: Any
) -> str:
    (record,) = read_groups(write_lines(folder, line)).groups
    group = explain_record(record, options={}, bound="lower")
    shown = Screen(**screen)
    chosen = range(len(record.responses)) if rows is None else rows
    print_group(shown.console, group, rows=chosen, with_table=with_table)
    return shown.text()


def show_file(folder: Path, *lines: dict[str, Any], **screen: Any) -> str:
    file = read_groups(write_lines(folder, *lines))
    groups = [explain_record(record, options={}, bound="lower") for record in file.groups]
    shown = Screen(**screen)
    print_summary(shown.console, "groups.jsonl", summarise(file, groups))
    return shown.text()


def lines_of(text: str, start: str) -> list[str]:
    """From the line that starts so."""
    lines = text.splitlines()
    return lines[next(index for index, line in enumerate(lines) if line.startswith(start)) :]


# -- the file


def test_the_summary_is_one_screen_with_every_total(tmp_path: Path) -> None:
    text = show_file(tmp_path, worked_line())
    assert len(text.splitlines()) <= 24
    flat = " ".join(text.split())
    for words in (
        "groups 1 1 mixed, 0 all correct, 0 all wrong",
        "rollouts 5 50 tokens",
        "accuracy 60.0%",
        "low entropy 90.0% of the tokens; 10.0% lie exactly at their threshold",
        "kept advantage 54.7%",
        "overlap O_CC 0.17 O_WW 0.50 O_CW 0.08 O_WC 0.08",
        "most shared worked 16%",
        "most correct-only worked 16%",
        "shared 16%",
        "incorrect-only 16%",
        "unique 28%",
        "stray 14%",
        "high-entropy 10%",
        "LESS containment, min length 3, quantile 0.8",
        "computed by GRPO",
    ):
        assert words in flat, words


def test_warnings_stand_out_without_colour(tmp_path: Path) -> None:
    response = {"tokens": ["a"], "top_logprobs": [[-0.5]], "correct": True}
    text = show_file(tmp_path, make_line([response]))
    assert "! Entropies are NOT exact: only top-k log-probs are given, and LESS was run on the LOWER BOUND" in text
    file = read_groups(write_lines(tmp_path, make_line([response])))
    screen = Screen()
    groups = [explain_record(record, options={}, bound="lower") for record in file.groups]
    print_warnings(screen.console, summarise(file, groups))
    assert screen.text().startswith("! Entropies are NOT exact")


def test_figures_that_do_not_exist_are_dashes(tmp_path: Path) -> None:
    text = " ".join(show_file(tmp_path, make_line([make_response("abc", True)])).split())
    # One rollout: no pair for any overlap, and nobody shares.
    assert "overlap O_CC - O_WW - O_CW - O_WC -" in text
    assert "most shared -" in text
    empty = " ".join(show_file(tmp_path, make_line([make_response("", False)])).split())
    assert "kept advantage -" in empty


# -- one group


def test_marks_below_the_text_say_each_tokens_class(tmp_path: Path) -> None:
    text = show_group(tmp_path, worked_line(), encoding="ascii")
    assert "3 of 5 correct" in text
    shown = {}
    for row in range(5):
        head, line, marks = lines_of(text, f"rollout {row}")[:3]
        assert ("+ correct" if row < 3 else "x incorrect") in head
        shown[line.split("| ")[1]] = marks.split("| ")[1]
    assert shown == {
        "abcdHefghT": "####^====-",
        "abcdHxyzwT": "####^....-",
        "mnHouvkljT": "--^......-",
        "efghHpqrsT": "====^%%%%-",
        "pqrsH1234T": "%%%%^....-",
    }


def test_no_two_classes_have_one_mark_or_one_colour() -> None:
    for field in ("sign", "ascii_sign", "color", "name"):
        values = [getattr(mark, field) for mark in MARKS.values()]
        assert len(set(values)) == len(values) == 6
    assert all(len(mark.sign) == len(mark.ascii_sign) == 1 and mark.ascii_sign.isascii() for mark in MARKS.values())


def test_colour_is_for_terminals_and_marks_are_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    plain = show_group(tmp_path, worked_line())
    colored = show_group(tmp_path, worked_line(), is_terminal=True)
    monkeypatch.setenv("NO_COLOR", "1")
    bare = show_group(tmp_path, worked_line(), is_terminal=True)
    assert "\x1b" not in plain
    assert COLOR.search(colored) and not COLOR.search(bare)
    without_styles = re.compile(r"\x1b\[[\d;]*m")
    assert without_styles.sub("", colored).split() == without_styles.sub("", bare).split() == plain.split()
    assert "░" in plain and "█" in plain and "▒" in plain


def test_long_responses_wrap_with_the_number_of_each_lines_first_token(tmp_path: Path) -> None:
    words = [f"w{index:02d} " for index in range(30)]
    line = make_line([{"tokens": words, "entropies": list(range(30)), "correct": True}])
    shown = [line for line in show_group(tmp_path, line, width=40).splitlines() if "│" in line]
    # 40 cells less 5 for the number and the bar hold 8 tokens of 4 cells.
    assert [text.split("│")[0].strip() for text in shown[::2]] == ["0", "8", "16", "24"]
    assert all(len(text) <= 40 for text in shown)
    assert "".join(text.split("│ ")[1] for text in shown[::2]) == "".join(words)
    assert [len(text) for text in shown[::2]] == [len(marks) for marks in shown[1::2]]


def test_a_token_that_ends_a_line_ends_the_line_and_wide_text_keeps_its_marks_below(tmp_path: Path) -> None:
    line = make_line([{"tokens": ["ab\n", "漢字", "c"], "entropies": [0, 0, 1], "correct": True}])
    first, marks, second, wide = [text for text in show_group(tmp_path, line).splitlines() if "│" in text]
    assert first.endswith("│ ab↵") and second.startswith("1 │ 漢字c")
    assert len(marks.split("│ ")[1]) == 3
    # Two wide characters take four cells.
    assert len(wide.split("│ ")[1]) == 5


def test_what_a_model_wrote_cannot_steer_the_terminal(tmp_path: Path) -> None:
    hostile = "\x1b[31mred\x07\r\u202e[bold]x[/bold]"
    line = make_line(
        [make_response("ab", True), {"tokens": [hostile], "entropies": [0], "correct": False, "hint": hostile}],
        prompt_id=hostile,
        prompt=hostile,
    )
    for with_table in (False, True):
        text = show_group(tmp_path, line, with_table=with_table)
        assert "\x1b" not in text and "\x07" not in text and "\r" not in text and "\u202e" not in text
        assert "\\x1b[31mred\\x07\\r" in text
    assert "[bold]x[/bold]" in show_group(tmp_path, line)
    assert "\x1b" not in show_file(tmp_path, line)


def test_text_that_is_shown_is_text(tmp_path: Path) -> None:
    assert visible(" a\nb\té", is_ascii=False) == " a↵b\\té"
    assert visible(" a\nb\té", is_ascii=True) == " a\\nb\\t?"
    del tmp_path


def test_the_table_has_a_line_per_token_under_its_reason(tmp_path: Path) -> None:
    text = show_group(tmp_path, worked_line({"step": 3}), rows=[0], with_table=True, encoding="ascii")
    assert text.splitlines()[1].startswith("worked   step 3   line 1")
    table = lines_of(text, "rollout 0")
    assert table[1].split() == ["token", "entropy", "segment", "class", "x", "before", "after"]
    assert table[3].strip() == "In a string of 4 tokens held by 2 of 3 correct rollouts and by no incorrect one: 2/3."
    assert table[4].split() == ["0", '"a"', "0.1000", "low", "0-3", "#", "correct-only", "2/3", "+0.7303", "+0.4869"]
    assert [line.split()[0] for line in table if line[:2].strip().isdigit()] == [str(at) for at in range(10)]
    high = next(line for line in table if '"H"' in line)
    assert high.split() == ["4", '"H"', "1.0000", "high", "-", "^", "high-entropy", "1", "+0.7303", "+0.7303"]


def test_a_token_that_the_trainer_shaped_otherwise_says_so(tmp_path: Path) -> None:
    line = worked_line()
    for row in range(5):
        line = with_fields(line, row, multipliers=1)
    table = show_group(tmp_path, line, rows=[0], with_table=True)
    assert len(re.findall(r"trainer had \+0\.7303", table)) == 9
    assert "trainer" not in show_group(tmp_path, worked_line(), with_table=True)


def test_strings_are_told_with_who_holds_them_and_where(tmp_path: Path) -> None:
    text = " ".join(show_group(tmp_path, worked_line(), rows=[0]).split())
    assert '"efgh" 4 tokens, decides 8; 1 of 3 correct, 1 of 2 incorrect; rollout@token 0@5 3@0' in text
    assert '"abcd" 4 tokens, decides 8; 2 of 3 correct, 0 of 2 incorrect; rollout@token 0@0 1@0' in text
    # A string of one rollout is no news.
    assert '"xyzw"' not in text


def test_a_response_without_tokens_and_one_with_many_advantages_are_shown(tmp_path: Path) -> None:
    line = make_line(
        [make_response("", False, advantages=[]), make_response("ab", True, advantages=[-1, 2], hint="so far")]
    )
    text = show_group(tmp_path, line)
    assert "0 tokens" in text
    assert "advantage -1.0000 to +2.0000" in text
    assert "hint, not sampled: so far" in text
