"""Lines, areas on top of one another, and the limits between which they are well."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from dashboards.proof.asking import PanelAnswer
from dashboards.proof.drawing.style import EDGE, GRID, SMALL, SOFT_INK, TEXT, series_colour, tick_text, unit_word
from dashboards.proof.filling import Window, named
from dashboards.proof.prometheus import Series

FloatArray = NDArray[np.float64]


def draw_lines(axes: Axes, answer: PanelAnswer, window: Window) -> list[tuple[str, str]]:
    """Draw every series; names and colours for the legend."""
    time_axis(axes, window)
    panel = answer.panel
    entries, below = [], None
    found = list(named_series(answer))
    grid = _grid([series for _, series in found], window)
    for number, (name, series) in enumerate(found):
        colour = series_colour(name, number, panel.colours)
        entries.append((name, colour))
        if panel.is_stacked:
            values = _at(grid, series)
            base = np.zeros_like(values) if below is None else below
            axes.fill_between(grid, base, base + values, color=colour, alpha=0.6, linewidth=0.6)
            below = base + values
        else:
            shown = [math.nan if math.isinf(each) else each for each in series.values]
            is_single = sum(map(math.isfinite, shown)) < 3
            axes.plot(series.times, shown, color=colour, linewidth=1.1, marker="o" if is_single else "", markersize=3)
    if not found:
        say_no_data(axes)
    _value_axis(axes, answer)
    return entries


def time_axis(axes: Axes, window: Window) -> None:
    """Minutes and seconds since the window's start."""
    axes.set_xlim(window.start, window.end)
    axes.grid(True, color=GRID, linewidth=0.5)
    axes.tick_params(labelsize=SMALL, color=EDGE, labelcolor=SOFT_INK, length=2)
    every = next(each for each in (15, 30, 60, 120, 300, 600, 3600) if (window.end - window.start) / each <= 8)
    ticks = np.arange(window.start, window.end, every)
    axes.set_xticks(ticks, [f"{int(at - window.start) // 60}:{int(at - window.start) % 60:02d}" for at in ticks])
    for spine in axes.spines.values():
        spine.set_color(EDGE)


def named_series(answer: PanelAnswer) -> Iterator[tuple[str, Series]]:
    """Every series with its name, those of one query in the order of their names."""
    for target in answer.targets:
        found = [(named(target.target.legend, each.labels), each) for each in target.series]
        yield from sorted(found, key=lambda pair: pair[0])


def _value_axis(axes: Axes, answer: PanelAnswer) -> None:
    panel = answer.panel
    low, high = axes.get_ylim()
    low = low if panel.minimum is None else panel.minimum
    high = high if panel.maximum is None else panel.maximum
    if low < high:
        axes.set_ylim(low, high + 0.03 * (high - low))
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value, panel.unit, low, high)))
    if word := panel.axis or unit_word(panel.unit):
        axes.set_ylabel(word, fontsize=SMALL, color=SOFT_INK, labelpad=2)
    for value, colour in panel.limits:
        if math.isfinite(value) and len(panel.limits) > 1:
            axes.axhline(value, color=colour, linewidth=0.8, linestyle="--")


def say_no_data(axes: Axes) -> None:
    """In the middle of a picture that has none."""
    axes.text(0.5, 0.5, "no data", transform=axes.transAxes, color=SOFT_INK, fontsize=TEXT, ha="center", va="center")


def _grid(series: Sequence[Series], window: Window) -> FloatArray:
    """The window's points from the first value of any series to the last: areas need the same for all."""
    times = [at for each in series for at, value in zip(each.times, each.values, strict=True) if math.isfinite(value)]
    if not times:
        return np.zeros(0)
    return np.arange(min(times), max(times) + window.step / 2, window.step, dtype=np.float64)


def _at(grid: FloatArray, series: Series) -> FloatArray:
    """Values there; the line goes across gaps."""
    values = np.array(series.values)
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(len(grid))
    found: FloatArray = np.interp(grid, np.array(series.times)[known], values[known], left=0.0, right=0.0)
    return found
