"""Curves over learner steps, as every picture of a run draws them: title, key, axes, smoothed lines."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from services.figure_style import GREY, INK, SOFT_INK, frame
from services.history import RunHistory

SMOOTHING_SHARE = 0.1

Floats = NDArray[np.float64]


def finish(axes: Axes, history: RunHistory, was_measured: bool) -> None:
    """What all panels share: frame, grid, whole steps on the x axis, a key between title and curves."""
    axes.set_xlabel("learner step", fontsize=9, color=SOFT_INK)
    axes.yaxis.label.set(fontsize=9, color=SOFT_INK)
    frame(axes, "left", "bottom")
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(0, max([1, *(step.step for step in history.steps)]))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if not was_measured:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "not measured in this run", transform=axes.transAxes, ha="center", color=GREY, fontsize=10)


def write_title(axes: Axes, text: str, y_label: str) -> None:
    """The panel's name, and what stands beside its axis."""
    axes.set_title(text, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=35)
    axes.set_ylabel(y_label)


def write_key(axes: Axes, *others: Axes) -> None:
    """The legend, in one or two rows above the curves so that it never hides one."""
    handles = [handle for each in (axes, *others) for handle in each.get_legend_handles_labels()[0]]
    if not handles:
        return
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.02, 1.125),
        ncols=4 if len(handles) > 6 else 3 if len(handles) in (3, 5, 6) else 2,
        fontsize=8.5,
        labelcolor=SOFT_INK,
        frameon=False,
        handlelength=1.3,
        handletextpad=0.5,
        columnspacing=1.1,
        labelspacing=0.25,
        borderaxespad=0.2,
    )


def draw_line(
    axes: Axes, history: RunHistory, name: str, label: str, color: str, *, dashed: bool = False, smooth: bool = True
) -> bool:
    """A metric over steps: as measured, faintly, and smoothed on top where there are enough steps."""
    steps, values = history.series(name)
    if not steps:
        return False
    series = np.array(values)
    window = window_of(len(series)) if smooth else 1
    marker = "o" if len(series) < 4 else None
    style = "--" if dashed else "-"
    if window > 1:
        axes.plot(steps, series, color=color, linewidth=0.9, alpha=0.3)
    axes.plot(steps, smoothed(series, window), style, color=color, linewidth=1.8, marker=marker, label=label)
    return True


def window_of(num_values: int) -> int:
    """Steps that a strong line is the mean of, an odd number; 1 leaves the values as they are."""
    return max(1, int(num_values * SMOOTHING_SHARE)) | 1


def smoothed(values: Floats, window: int | None = None) -> Floats:
    """Centred mean over `window` steps, over fewer at the ends."""
    half = (window or window_of(len(values))) // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])
