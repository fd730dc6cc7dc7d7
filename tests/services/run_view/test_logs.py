"""Logs: whole lines with their times, searched and shown without secrets and without what steers a terminal."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from run_view_builders import write_log

from services.control.redaction import Redactor
from services.run_view.log_lines import Stamp, read_stamp
from services.run_view.logs import FOLLOW_BYTES, MAX_LINE_CHARACTERS
from services.run_view.view import RunView
from shaping.errors import UserError

CANARY = "canary-4f1c9e"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def seconds(*parts: int) -> float:
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[misc, arg-type]


def texts(view: RunView, **asked: object) -> list[str]:
    return [each.text for each in view.logs(**asked).lines]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "at", "level"),
    [
        ("2026-11-21 07:04:04,297 ERROR services.training run failed", (2026, 11, 21, 7, 4, 4, 297_000), "ERROR"),
        ("[2026-11-21 07:04:04,297] [WARNING] [engine.py:1:f] x", (2026, 11, 21, 7, 4, 4, 297_000), "WARNING"),
        ("2026-11-21T07:04:04.5Z WARN x", (2026, 11, 21, 7, 4, 4, 500_000), "WARNING"),
        ("2026-11-21T07:04:04+02:00 nothing said", (2026, 11, 21, 5, 4, 4), None),
        ("(EngineCore pid=21687) WARNING 11-20 06:21:45 [layerwise.py:266] x", (2026, 11, 20, 6, 21, 45), "WARNING"),
        ("INFO 12-31 23:59:59 [x.py:1] of last year", (2025, 12, 31, 23, 59, 59), "INFO"),
        ("W1120 06:20:06.129000 16584 torch/_library/triton.py:53] x", (2026, 11, 20, 6, 20, 6, 129_000), "WARNING"),
        ("F1120 06:20:06.5 1 x] x", (2026, 11, 20, 6, 20, 6, 500_000), "CRITICAL"),
    ],
)
def test_stamps_of_the_libraries_that_runs_use_are_read(line: str, at: tuple[int, ...], level: str | None) -> None:
    assert read_stamp(line, seconds(2026, 11, 21, 8)) == Stamp(at=seconds(*at), level=level)


@pytest.mark.parametrize(
    "line",
    ["", "hello 2026-11-21 07:04:04", "2026-13-41 07:04:04 x", "W9920 06:20:06.1 x", "CORRECT 11-20 06:21:45", "E"],
)
def test_other_lines_have_no_stamp(line: str) -> None:
    assert read_stamp(line, seconds(2026, 11, 21, 8)) is None


def test_lines_of_all_parts_come_in_order_of_time(tmp_path: Path) -> None:
    write_log(tmp_path, "driver", "2026-01-01 00:00:01,000 INFO a\n2026-01-01 00:00:04,000 ERROR d\n")
    write_log(tmp_path, "rollout-0", "first words\n2026-01-01 00:00:02,000 INFO b\nmore of b\n")
    write_log(tmp_path, "rollout-1", "[2026-01-01 00:00:03,000] [WARNING] c\nTraceback (most recent call last):\n  x\n")
    found = [(each.worker, each.level, each.text.split()[-1]) for each in RunView(tmp_path).logs().lines]
    assert found == [
        ("driver", "INFO", "a"),
        ("rollout-0", None, "words"),
        ("rollout-0", "INFO", "b"),
        ("rollout-0", "INFO", "b"),
        ("rollout-1", "WARNING", "c"),
        ("rollout-1", "ERROR", "last):"),
        ("rollout-1", "ERROR", "x"),
        ("driver", "ERROR", "d"),
    ]
    assert RunView(tmp_path).logs().lines[1].at is None
    assert RunView(tmp_path).logs().lines[3].at == seconds(2026, 1, 1, 0, 0, 2)


def test_each_filter_leaves_out_what_it_says(tmp_path: Path) -> None:
    write_log(tmp_path, "driver", "2026-01-01 00:00:01,000 INFO Hello\n2026-01-01 00:00:10,000 ERROR Bye\n")
    write_log(tmp_path, "learner-0", "2026-01-01 00:00:05,000 WARNING hello too\n")
    view = RunView(tmp_path, clock=lambda: seconds(2026, 1, 1, 0, 0, 10))
    assert [text[-3:] for text in texts(view, component="driver")] == ["llo", "Bye"]
    assert [text[-3:] for text in texts(view, worker="learner-0")] == ["too"]
    assert [text[-3:] for text in texts(view, level="WARNING")] == ["too", "Bye"]
    assert [text[-3:] for text in texts(view, search="HELLO")] == ["llo", "too"]
    assert [text[-3:] for text in texts(view, since_seconds=5)] == ["too", "Bye"]
    assert [text[-3:] for text in texts(view, tail=1)] == ["Bye"]
    assert texts(view, tail=0) == texts(view, component="nobody") == texts(view, search=".*") == []


@pytest.mark.parametrize("asked", [{"level": "LOUD"}, {"level": "info"}, {"tail": -1}, {"tail": 5001}])
def test_what_cannot_be_answered_is_refused(tmp_path: Path, asked: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"(level must be one of DEBUG|tail must lie in 0 to 5000)"):
        RunView(tmp_path).logs(**asked)  # type: ignore[arg-type]


def test_the_tail_of_a_long_log_is_that_of_the_whole_one(tmp_path: Path) -> None:
    # 2.3 MB: the last window of 256 kB has none of the lines that are searched for, and not one stamp.
    lines = [f"2026-01-01 00:{number // 60:02}:{number % 60:02},000 INFO needle {number}" for number in range(600)]
    lines += [f"{'hay' * 20} {number}" for number in range(40_000)]
    write_log(tmp_path, "driver", "\n".join(lines) + "\n")
    view = RunView(tmp_path)
    assert texts(view, search="needle", tail=3) == lines[597:600]
    assert texts(view, tail=2) == lines[-2:]
    last = view.logs(tail=1).lines[0]
    assert (last.at, last.level) == (seconds(2026, 1, 1, 0, 9, 59), "INFO")
    assert view.logs(search="needle").is_complete


def test_no_line_steers_a_terminal_and_none_is_endless(tmp_path: Path) -> None:
    write_log(tmp_path, "driver", "a\x1b[31mb\x07\tc\u202ed\re\n" + "x" * 5000 + "\n")
    first, second = texts(RunView(tmp_path))
    assert first == "a\\x1b[31mb\\x07\\tc\\u202ed\\re"
    assert (len(second), second[-5:]) == (MAX_LINE_CHARACTERS, "x ...")


def test_a_secret_leaves_in_no_line_and_is_found_by_no_search(tmp_path: Path) -> None:
    far = "x" * (MAX_LINE_CHARACTERS - 8)
    write_log(tmp_path, "driver", f"token {CANARY}!\n{far}{CANARY}\n{'y' * (2 * FOLLOW_BYTES)}{CANARY}\nlast\n")
    view = RunView(tmp_path, mask=Redactor([CANARY]))
    shown = texts(view) + [line.text for line in view.logs_after("").lines]
    assert shown[0] == "token [redacted]!"
    assert all(CANARY[:6] not in text and CANARY[-6:] not in text for text in shown)
    for part in (CANARY, CANARY[:8], CANARY[-4:]):
        assert texts(view, search=part) == []
        assert view.logs_after("", search=part).lines == ()


def test_a_secret_does_not_leave_by_a_position_inside_it(tmp_path: Path) -> None:
    text = f"token {CANARY}!\nnext\n"
    write_log(tmp_path, "driver", text)
    view = RunView(tmp_path, mask=Redactor([CANARY]))
    for offset in range(1, len(text)):
        shown = [line.text for line in view.logs_after(f"driver={offset}").lines]
        assert shown in ([], ["next"])


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = write_log(tmp_path, "driver", "one\ntw")
    view = RunView(tmp_path)
    found = view.logs()
    assert ([each.text for each in found.lines], found.position) == (["one"], "driver=4")
    assert view.logs_after(found.position).lines == ()
    with path.open("a") as file:
        file.write("o\nthree\n")
    more = view.logs_after(found.position)
    assert ([each.text for each in more.lines], more.position) == (["two", "three"], "driver=14")


def test_following_shows_every_line_once_with_the_stamp_before_it(tmp_path: Path) -> None:
    write_log(tmp_path, "driver", "2026-01-01 00:00:01,000 ERROR a\n")
    view = RunView(tmp_path)
    position = view.logs().position
    write_log(tmp_path, "driver", "of a\n")
    write_log(tmp_path, "shaping-0", "new here\n")
    found = view.logs_after(position)
    assert [(each.worker, each.at, each.level, each.text) for each in found.lines] == [
        ("driver", seconds(2026, 1, 1, 0, 0, 1), "ERROR", "of a"),
        ("shaping-0", None, None, "new here"),
    ]
    assert view.logs_after(found.position).lines == ()


def test_a_log_that_was_begun_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = write_log(tmp_path, "driver", "a long first line\n")
    view = RunView(tmp_path)
    position = view.logs().position
    path.write_text("short\n")
    assert [each.text for each in view.logs_after(position).lines] == ["short"]


def test_a_flood_comes_in_batches_and_whole(tmp_path: Path) -> None:
    lines = [f"line {number} {'.' * 90}" for number in range(30_000)]
    write_log(tmp_path, "driver", "\n".join(lines) + "\n")
    view = RunView(tmp_path)
    got: list[str] = []
    position, num_batches = "driver=0", 0
    while (found := view.logs_after(position)).lines:
        got += [each.text for each in found.lines]
        position, num_batches = found.position, num_batches + 1
    assert got == lines
    assert num_batches == 3


def test_a_line_that_is_longer_than_a_batch_is_passed_over_and_what_follows_is_reached(tmp_path: Path) -> None:
    write_log(tmp_path, "driver", f"before\n{'x' * (3 * FOLLOW_BYTES)}\nbehind\n")
    view = RunView(tmp_path)
    got: list[str] = []
    position = "driver=0"
    while (found := view.logs_after(position)).position != position:
        got += [each.text for each in found.lines]
        position = found.position
    assert got == ["before", "behind"]


def test_lines_of_one_file_keep_their_order_whatever_their_stamps_say(tmp_path: Path) -> None:
    write_log(tmp_path, "driver", "2026-01-01 00:00:05,000 INFO a\n2026-01-01 00:00:01,000 INFO b\n")
    write_log(tmp_path, "rollout-0", "2026-01-01 00:00:03,000 INFO c\n")
    assert [text[-1] for text in texts(RunView(tmp_path))] == ["c", "a", "b"]


@pytest.mark.parametrize("position", ["x", "driver", "driver=-1", "../driver=1", "driver=1,", "driver=" + "9" * 30])
def test_a_position_that_nobody_gave_is_refused(tmp_path: Path, position: str) -> None:
    with pytest.raises(UserError, match="a position in logs must be one that was given"):
        RunView(tmp_path).logs_after(position)


def test_a_link_and_other_files_are_no_logs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_log(tmp_path / "other", "secret", "secret\n")
    write_log(tmp_path, "driver", "mine\n")
    os.symlink(tmp_path / "other" / "logs" / "secret.log", tmp_path / "logs" / "leak.log")
    (tmp_path / "logs" / "notes.txt").write_text("notes\n")
    assert texts(RunView(tmp_path)) == ["mine"]
