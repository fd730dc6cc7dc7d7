"""Pictures made of cells: distributions over time, and states over time."""

import math

import numpy as np
from matplotlib.axes import Axes

from dashboards.proof.asking import PanelAnswer
from dashboards.proof.drawing.lines import named_series, say_no_data, time_axis
from dashboards.proof.drawing.style import SMALL, SOFT_INK, number_text, series_colour, unit_word
from dashboards.proof.filling import Window

MAX_LABELS = 8


def draw_heatmap(axes: Axes, answer: PanelAnswer, window: Window) -> list[tuple[str, str]]:
    """A row for each range of a histogram, the lowest at the bottom; brighter is more."""
    time_axis(axes, window)
    axes.grid(False)
    series = [each for target in answer.targets for each in target.series]
    ends = sorted({float(each.labels["le"]) for each in series})
    if not ends:
        say_no_data(axes)
        return []
    times = np.arange(window.start, window.end + window.step / 2, window.step)
    below = np.full((len(ends), len(times)), math.nan)
    for each in series:
        columns = np.clip(np.rint((np.array(each.times) - window.start) / window.step).astype(int), 0, len(times) - 1)
        below[ends.index(float(each.labels["le"])), columns] = each.values
    # Grafana's line goes across points without a step; so does a cell, to the next column that has values.
    last = np.where(np.isfinite(below).any(axis=0), np.arange(len(times)), -1)
    last = np.maximum.accumulate(last)
    below = np.where(last >= 0, below[:, last], math.nan)
    share = np.diff(below, axis=0, prepend=0.0)
    share[~(share > 1e-9)] = math.nan
    edges = np.append(times, times[-1] + window.step) - window.step / 2
    axes.pcolormesh(edges, np.arange(len(ends) + 1), share, cmap="viridis", vmin=0)
    every = max(1, math.ceil(len(ends) / MAX_LABELS))
    shown = range(0, len(ends), every)
    # A label is the upper end of its range, which is where it stands.
    unit = "short" if unit_word(answer.panel.unit) else answer.panel.unit
    labels = [number_text(ends[row], unit) or "more" for row in shown]
    axes.set_yticks([row + 1 if math.isfinite(ends[row]) else row + 0.5 for row in shown], labels)
    if word := answer.panel.axis or unit_word(answer.panel.unit):
        axes.set_ylabel(word, fontsize=SMALL, color=SOFT_INK, labelpad=2)
    return []


def draw_states(axes: Axes, answer: PanelAnswer, window: Window) -> list[tuple[str, str]]:
    """A row for each series, with a bar as long as it has values above 0."""
    time_axis(axes, window)
    axes.grid(False)
    entries = []
    found = sorted(named_series(answer), key=lambda each: each[1].times)
    for number, (name, series) in enumerate(found):
        colour = series_colour(name, number, answer.panel.colours)
        bars = [(at, window.step) for at, value in zip(series.times, series.values, strict=True) if value > 0]
        axes.broken_barh(bars, (number + 0.15, 0.7), facecolors=colour, linewidth=0)
        entries.append((name, colour))
    if not found:
        say_no_data(axes)
    axes.set_yticks([number + 0.5 for number in range(len(entries))], [name.split()[-1] for name, _ in entries])
    axes.set_ylim(max(1, len(entries)), 0)
    return entries
