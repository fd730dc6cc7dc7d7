"""Panels of last values: a number, bars, a table."""

import math

from matplotlib.axes import Axes

from dashboards.palette import GREEN
from dashboards.proof.asking import PanelAnswer
from dashboards.proof.drawing.lines import named_series, say_no_data
from dashboards.proof.drawing.style import (
    BIG,
    GRID,
    INK,
    SMALL,
    SOFT_INK,
    TEXT,
    limit_colour,
    number_text,
    series_colour,
)
from dashboards.proof.filling import Window
from dashboards.proof.prometheus import Series

MAX_TABLE_ROWS = 8
LETTER_PIXELS = 7.0


def draw_number(axes: Axes, answer: PanelAnswer, window: Window) -> list[tuple[str, str]]:
    """The last value of each series, large."""
    del window
    found = [(name, _last(series)) for name, series in named_series(answer)]
    axes.set(xlim=(0, 1), ylim=(0, max(1, len(found))))
    if not found:
        say_no_data(axes)
    for row, (name, value) in enumerate(reversed(found)):
        text = number_text(value, answer.panel.unit)
        size = min(BIG, BIG * 1.6 / len(found), 130 / max(6, len(text)) * answer.panel.place.width / 3)
        colour = limit_colour(value, answer.panel.limits)
        axes.text(0.5, row + 0.5, text, color=colour, fontsize=size, ha="center", va="center", parse_math=False)
        if len(found) > 1:
            axes.text(0.0, row + 0.5, name, color=SOFT_INK, fontsize=SMALL, va="center", parse_math=False)
    return []


def draw_bars(axes: Axes, answer: PanelAnswer, window: Window) -> list[tuple[str, str]]:
    """A bar for each series' last value."""
    del window
    panel = answer.panel
    found = [(name, _last(series)) for name, series in named_series(answer)]
    if not found:
        say_no_data(axes)
    longest = panel.maximum or max((value for _, value in found if math.isfinite(value)), default=1.0) or 1.0
    axes.set(xlim=(0, 1), ylim=(max(1, len(found)), 0))
    for row, (name, value) in enumerate(found):
        colour = series_colour(name, row, panel.colours) if panel.colours else limit_colour(value, panel.limits)
        axes.barh(row + 0.62, 0.85, height=0.35, color=GRID)
        axes.barh(row + 0.62, 0.85 * max(0.0, value) / longest, height=0.35, color=colour if colour != INK else GREEN)
        axes.text(0, row + 0.28, name, color=SOFT_INK, fontsize=SMALL, va="center", parse_math=False)
        axes.text(0.87, row + 0.62, number_text(value, panel.unit), color=INK, fontsize=SMALL, va="center")
    return []


def draw_table(axes: Axes, answer: PanelAnswer, window: Window) -> list[tuple[str, str]]:
    """A row for each series, a column for each of its labels."""
    del window
    rows = [dict(series.labels) for target in answer.targets for series in target.series][:MAX_TABLE_ROWS]
    names = sorted({name for row in rows for name in row})
    if not rows:
        say_no_data(axes)
        return []
    letters = int(axes.get_window_extent().width / LETTER_PIXELS)
    wanted = [max(len(name), *(len(row.get(name, "")) for row in rows)) + 2 for name in names]
    widest = max(each for each in range(1, letters + 1) if sum(min(each, width) for width in wanted) <= letters)
    widths = [min(widest, width) for width in wanted]
    starts = [sum(widths[:column]) / letters for column in range(len(names))]
    axes.set(xlim=(0, 1), ylim=(MAX_TABLE_ROWS, 0))
    for name, start, width in zip(names, starts, widths, strict=True):
        axes.text(start, 0.4, name, color=SOFT_INK, fontsize=TEXT, va="center", parse_math=False)
        for row, labels in enumerate(rows):
            value = _cut(labels.get(name, ""), width - 2)
            axes.text(start, row + 1.4, value, color=INK, fontsize=TEXT, va="center", parse_math=False)
    return []


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: max(1, length - 3)]}..."


def _last(series: Series) -> float:
    """The last value that is a number, else NaN."""
    return next((value for value in reversed(series.values) if math.isfinite(value)), math.nan)
