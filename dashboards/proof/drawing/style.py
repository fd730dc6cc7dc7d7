"""Ink, and numbers in Grafana's units."""

import math
import re
from collections.abc import Callable, Sequence
from datetime import timedelta

from dashboards.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION

PAGE, PANEL, EDGE, GRID = "#111217", "#181b1f", "#2c3038", "#31353d"
INK, SOFT_INK = "#d8d9da", "#9a9ca1"
SERIES = (GREEN, ORANGE, SKY, VERMILION, PURPLE, BLUE, "#F0E442", GREY)
SMALL, TEXT, BIG = 7.0, 8.5, 22.0

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"))
_SECONDS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def number_text(value: float, unit: str, digits: int = 3) -> str:
    """A value as Grafana writes it, a little shorter.

    Args:
        digits: significant ones.
    """
    if not math.isfinite(value):
        return ""
    if word := unit_word(unit):
        return f"{_short(value, digits)} {word}"
    return _WRITERS.get(unit, _plain)(value, digits)


def unit_word(unit: str) -> str:
    """The word behind each number of a unit of one's own, else ""."""
    return unit.removeprefix("suffix:").strip() if unit.startswith("suffix:") else ""


def tick_text(value: float, unit: str, low: float, high: float) -> str:
    """A value at an axis from `low` to `high`, with as many digits as tell it from its neighbours, without a word."""
    size = max(abs(low), abs(high))
    digits = 2 + math.ceil(math.log10(size / (high - low))) if high > low else 3
    return number_text(value, "short" if unit_word(unit) else unit, min(8, max(3, digits)))


def series_colour(name: str, number: int, colours: Sequence[tuple[str, str]]) -> str:
    """The colour that the panel gives to a series of this name, or the palette's next."""
    for pattern, colour in colours:
        if re.search(pattern, name):
            return colour
    return SERIES[number % len(SERIES)]


def limit_colour(value: float, limits: Sequence[tuple[float, str]]) -> str:
    """The colour of the highest limit that a value reaches."""
    reached = [colour for limit, colour in limits if value >= limit]
    return reached[-1] if reached else INK


def _scaled(value: float, steps: Sequence[tuple[float, str]], rest: str, digits: int) -> str:
    for size, word in steps:
        if abs(value) >= size:
            return f"{value / size:.{digits}g} {word}"
    return f"{value:.{digits}g} {rest}".strip()


def _seconds(value: float, digits: int) -> str:
    if 0 < abs(value) < 1:
        size, word = (1e3, "ms") if abs(value) >= 1e-3 else (1e6, "µs")
        return f"{size * value:.{digits}g} {word}"
    return _scaled(value, _SECONDS, "s", digits)


def _short(value: float, digits: int) -> str:
    return _scaled(value, _STEPS, "", digits).replace(" ", "")


def _plain(value: float, digits: int) -> str:
    return f"{value:.0f}" if value == round(value) and abs(value) < 1e6 else f"{value:.{digits + 1}g}"


def _moment(value: float, digits: int) -> str:
    """Of milliseconds since 1970: the time of day, as the reader of a picture cannot know how long ago that was."""
    del digits
    return f"{timedelta(seconds=round(value / 1000) % 86400)} UTC"


_WRITERS: dict[str, Callable[[float, int], str]] = {
    "percentunit": lambda value, digits: f"{100 * value:.{digits}g}%",
    "s": _seconds,
    "bytes": lambda value, digits: _scaled(value, _BYTES, "B", digits),
    "Bps": lambda value, digits: f"{_scaled(value, _STEPS, '', digits)}B/s",
    "short": _short,
    "none": _plain,
    "sci": lambda value, digits: f"{value:.{digits - 1}g}",
    "dateTimeFromNow": _moment,
}
