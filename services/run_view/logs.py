"""Logs of a run's parts: the last lines, and what is new since then.

Texts are masked before anything else: what is searched, cut or shown has no secret in it, and neither has the number of
lines that a search finds. Only whole lines leave, as half a secret is no known one.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

from services.explain.marks import visible
from services.run_dir import LOGS_DIR
from services.run_view.confined import ConfinedFolder
from services.run_view.growing import CHUNK_BYTES
from services.run_view.log_lines import LEVELS, LogLine, Stamp, stamped
from shaping.errors import UserError

MAX_LINE_CHARACTERS = 4_000
MAX_LINES = 5_000
MAX_SCAN_BYTES = 32 << 20
"""Of one file, for one answer."""
FOLLOW_BYTES = 1 << 20
"""Of one file, for one batch of new lines."""

_SUFFIX = ".log"
_WINDOW_BYTES = 1 << 18
_LOOK_BACK_BYTES = 1 << 16
_DRIVER = "driver"
_POSITION = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})=(\d{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """What is asked for; "" and None ask for anything.

    Args:
        level: this one or a graver one.
        since: seconds since the epoch.
        search: part of the text, as it is shown but for escapes; capital or small.
    """

    component: str = ""
    worker: str = ""
    level: str = ""
    since: float | None = None
    search: str = ""

    def __post_init__(self) -> None:
        if self.level and self.level not in LEVELS:
            raise UserError(f"level must be one of {', '.join(LEVELS)}, got {self.level[:40]!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLines:
    """Args:
    lines: in order of time; of one file in its order.
    position: give it to `after` for what comes next.
    is_complete: False where a file was too long to be searched to its beginning.
    """

    lines: tuple[LogLine, ...]
    position: str
    is_complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """A stretch of one file.

    Args:
        lines: that pass the filter.
        first_at: of the first stamp of all lines.
    """

    lines: list[LogLine]
    first_at: float | None
    written_at: float


class Logs:
    """Args:
    mask: takes secrets out of a text.
    """

    def __init__(self, folder: ConfinedFolder, mask: Callable[[str], str]) -> None:
        self._folder = folder
        self._mask = mask

    def tail(self, wanted: LogFilter, *, tail: int) -> LogLines:
        """The last lines that pass.

        Args:
            tail: most lines, up to MAX_LINES.
        Raises:
            UserError: `tail` out of its range.
        """
        if not 0 <= tail <= MAX_LINES:
            raise UserError(f"tail must lie in 0 to {MAX_LINES}, got {tail}")
        found: list[tuple[float, LogLine]] = []
        position: dict[str, int] = {}
        is_complete = True
        for worker in self._workers():
            try:
                file = self._open(worker)
            except FileNotFoundError:
                continue
            with file:
                end = _end_of_lines(file)
                position[worker] = end
                if not tail or not _is_of(worker, wanted):
                    continue
                window, is_whole = self._last(file, worker, end, wanted, tail)
                is_complete = is_complete and is_whole
                found += _ordered(window)
        found.sort(key=lambda each: each[0])
        lines = tuple(_shown(line) for _, line in found[-tail:]) if tail else ()
        return LogLines(lines=lines, position=_position_text(position), is_complete=is_complete)

    def after(self, position: str, wanted: LogFilter) -> LogLines:
        """Whole lines that were written since; a file that was begun anew is read from its beginning.

        Args:
            position: of an earlier answer.
        Raises:
            UserError: no such position.
        """
        known = _parse_position(position)
        found: list[tuple[float, LogLine]] = []
        reached: dict[str, int] = {}
        for worker in self._workers():
            try:
                file = self._open(worker)
            except FileNotFoundError:
                continue
            with file:
                size = os.fstat(file.fileno()).st_size
                begin = known.get(worker, 0)
                begin = begin if begin <= size else 0
                end = _end_of_lines(file, begin, min(size, begin + FOLLOW_BYTES))
                reached[worker] = end
                if end > begin and _is_of(worker, wanted):
                    found += _ordered(self._window(file, worker, begin, end, wanted, self._before(file, begin)))
        found.sort(key=lambda each: each[0])
        return LogLines(lines=tuple(_shown(line) for _, line in found), position=_position_text(reached))

    def _workers(self) -> list[str]:
        names = self._folder.names(LOGS_DIR)
        return [each.removesuffix(_SUFFIX) for each in names if each.endswith(_SUFFIX)]

    def _open(self, worker: str) -> BinaryIO:
        return self._folder.open(LOGS_DIR, f"{worker}{_SUFFIX}")

    def _last(self, file: BinaryIO, worker: str, end: int, wanted: LogFilter, tail: int) -> tuple[_Window, bool]:
        """The last lines of one file that pass, and whether there are no others that were not looked at."""
        size = _WINDOW_BYTES
        while True:
            begin = max(0, end - size)
            window = self._window(file, worker, begin, end, wanted, Stamp())
            is_past = window.first_at is not None and wanted.since is not None and window.first_at < wanted.since
            is_enough = len(window.lines) >= tail and window.lines[-tail].at is not None
            if begin == 0 or is_past or is_enough:
                return window, True
            if size >= MAX_SCAN_BYTES:
                return window, len(window.lines) >= tail
            size = min(4 * size, MAX_SCAN_BYTES)

    def _window(self, file: BinaryIO, worker: str, begin: int, end: int, wanted: LogFilter, before: Stamp) -> _Window:
        """Lines that begin in [begin, end) and pass; a line that began earlier is left out."""
        written_at = os.fstat(file.fileno()).st_mtime
        file.seek(max(0, begin - 1))
        data = file.read(end - max(0, begin - 1))
        if begin > 0:
            data = data[data.find(b"\n") + 1 :]
        search = wanted.search.casefold()
        least = LEVELS.index(wanted.level) if wanted.level else 0
        lines: list[LogLine] = []
        first_at = None
        texts = self._mask(data.decode("utf-8", "replace")).split("\n")[:-1]
        for stamp, text in stamped(texts, written_at, before):
            first_at = stamp.at if first_at is None else first_at
            at = written_at if stamp.at is None else stamp.at
            is_grave = not wanted.level or (stamp.level is not None and LEVELS.index(stamp.level) >= least)
            is_new = wanted.since is None or at >= wanted.since
            if is_grave and is_new and (not search or search in text.casefold()):
                component = worker.rsplit("-", 1)[0]
                lines.append(LogLine(at=stamp.at, component=component, worker=worker, level=stamp.level, text=text))
        return _Window(lines=lines, first_at=first_at, written_at=written_at)

    def _before(self, file: BinaryIO, begin: int) -> Stamp:
        """The stamp of the line that ends here."""
        start = max(0, begin - _LOOK_BACK_BYTES)
        if start == begin:
            return Stamp()
        lines = self._window(file, "", start, begin, LogFilter(), Stamp()).lines
        return Stamp(at=lines[-1].at, level=lines[-1].level) if lines else Stamp()


def _ordered(window: _Window) -> list[tuple[float, LogLine]]:
    """Lines with a time to sort by, which never falls in one file; lines before its first stamp go with that one."""
    latest = window.written_at if window.first_at is None else window.first_at
    ordered = []
    for line in window.lines:
        latest = latest if line.at is None else max(latest, line.at)
        ordered.append((latest, line))
    return ordered


def _shown(line: LogLine) -> LogLine:
    """The line for a reader: nothing in it steers a terminal, and it has an end."""
    text = line.text if line.text.isprintable() else visible(line.text[: MAX_LINE_CHARACTERS + 1], is_ascii=False)
    if len(text) > MAX_LINE_CHARACTERS:
        text = text[: MAX_LINE_CHARACTERS - 4] + " ..."
    return replace(line, text=text)


def _is_of(worker: str, wanted: LogFilter) -> bool:
    component = worker.rsplit("-", 1)[0]
    return wanted.worker in ("", worker) and wanted.component in ("", component)


def _end_of_lines(file: BinaryIO, begin: int = 0, end: int | None = None) -> int:
    """Behind the last line end in [begin, end).

    A line that is longer than what is read at once is passed over, so that what follows it is reached: then the result
    is `end`, inside of it.
    """
    stop = os.fstat(file.fileno()).st_size if end is None else end
    position = stop
    while position > begin:
        start = max(begin, position - CHUNK_BYTES)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return stop if stop - begin >= FOLLOW_BYTES else begin


def _position_text(position: Mapping[str, int]) -> str:
    return ",".join(f"{worker}={offset}" for worker, offset in sorted(position.items()))


def _parse_position(text: str) -> dict[str, int]:
    found = [_POSITION.fullmatch(each) for each in text.split(",")] if text else []
    if any(each is None for each in found):
        raise UserError(f"a position in logs must be one that was given with lines, got {text[:80]!r}")
    return {each[1]: int(each[2]) for each in found if each is not None}
