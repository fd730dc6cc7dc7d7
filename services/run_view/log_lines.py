"""What a line of a log says of itself: when, and how grave. Pure.

Known are the stamps of Python's logging and of DeepSpeed (2026-11-21 07:04:04,297), of vLLM (WARNING 11-21 06:20:06)
and of C++ libraries (W1121 06:20:06.129000). Without a zone they are in this host's; without a year, in that of the
file's last write. A line without a stamp belongs to the one before it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_SPELLED = {each: each for each in LEVELS} | {"WARN": "WARNING", "FATAL": "CRITICAL"}
_LETTERS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}
_HEAD_CHARACTERS = 120

_PREFIX = r"(?:\([^()]{1,60}\) )?\[?"
_FULL = re.compile(_PREFIX + r"(\d{4})-(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6}))?(Z|[+-]\d\d:?\d\d)?")
_SHORT = re.compile(_PREFIX + r"([A-Z]+) (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)")
_LETTERED = re.compile(r"([IWEF])(\d\d)(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?")
_LEVEL = re.compile(rf"\b({'|'.join(_SPELLED)})\b")
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """Args:
    at: seconds since the epoch; None before the first stamp of its file.
    component: "driver", or the role of the worker.
    worker: as the file is named.
    level: one of LEVELS; None where no line up to here has one.
    """

    at: float | None
    component: str
    worker: str
    level: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """What the lines that follow inherit."""

    at: float | None = None
    level: str | None = None


def stamped(lines: Iterable[str], written_at: float, before: Stamp) -> Iterator[tuple[Stamp, str]]:
    """Each line with its stamp.

    Args:
        written_at: when the file was last written, seconds since the epoch.
        before: of the line in front of the first.
    """
    for line in lines:
        found = read_stamp(line, written_at)
        if found is not None:
            before = found
        elif line.startswith(_TRACEBACK):
            before = Stamp(at=before.at, level="ERROR")
        yield before, line


def read_stamp(line: str, written_at: float) -> Stamp | None:
    """The stamp at the beginning of a line; None without one."""
    if found := _FULL.match(line):
        at = _time(found.groups()[:6], found[7] or "0", found[8] or "")
        return None if at is None else Stamp(at=at, level=_level(line[found.end() :]))
    if (found := _SHORT.match(line)) and found[1] in _SPELLED:
        at = _in_a_year(found.groups()[1:], "0", written_at)
        return None if at is None else Stamp(at=at, level=_SPELLED[found[1]])
    if found := _LETTERED.match(line):
        at = _in_a_year(found.groups()[1:6], found[7] or "0", written_at)
        return None if at is None else Stamp(at=at, level=_LETTERS[found[1]])
    return None


def _level(rest: str) -> str | None:
    found = _LEVEL.search(rest, 0, _HEAD_CHARACTERS)
    return _SPELLED[found[1]] if found else None


def _in_a_year(parts: tuple[str | None, ...], fraction: str, written_at: float) -> float | None:
    """The latest such moment that is not a day after the file was written."""
    year = datetime.fromtimestamp(written_at).year
    candidates = (_time((str(each), *parts), fraction, "") for each in (year + 1, year, year - 1))
    return next((each for each in candidates if each is not None and each <= written_at + 86_400), None)


@lru_cache(maxsize=1024)
def _time(parts: tuple[str | None, ...], fraction: str, zone: str) -> float | None:
    try:
        year, month, day, hour, minute, second = (int(each or 0) for each in parts)
        moment = datetime(year, month, day, hour, minute, second, int(fraction.ljust(6, "0")))
        if not zone:
            return moment.timestamp()
        hours, minutes = (0, 0) if zone == "Z" else (int(zone[:3]), int(zone[0] + zone[-2:]))
        return (moment - datetime(1970, 1, 1) - timedelta(hours=hours, minutes=minutes)).total_seconds()
    except (ValueError, OverflowError, OSError):
        return None
