"""The two pictures of a study: learning curves with bands over seeds, and the judged differences in their intervals."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from services.figure_style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SOFT_INK,
    frame,
    new_figure,
)
from services.study.measures import ENTROPY, OVERLAPS
from services.study.results import Curve, StudyResults
from shaping.evaluation.paired_seeds import Interval, PairedDifference, Verdict

WIDTH, CURVES_HEIGHT = 1200, 820
ROW_HEIGHT, HEAD_HEIGHT, FOOT_HEIGHT = 46, 130, 92
_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
_STYLES = ("-", "--", ":", "-.")
_STEP_PANELS = {ENTROPY: "Token entropy, nats", **{name: f"Overlap {short}" for short, name in OVERLAPS.items()}}
_VERDICT_COLORS = {Verdict.BETTER: GREEN, Verdict.WORSE: RED, Verdict.NOT_SHOWN: GREY}
_BAND_ALPHA = 0.13


def write_curves(path: Path, results: StudyResults) -> None:
    """Draw the learning curves into a PNG file, which is replaced when it exists."""
    draw_curves(results).savefig(path, format="png", dpi=DPI)


def write_differences(path: Path, results: StudyResults) -> None:
    """Draw the judged differences into a PNG file, which is replaced when it exists."""
    draw_differences(results).savefig(path, format="png", dpi=DPI)


def draw_curves(results: StudyResults) -> Figure:
    """The figure that `write_curves` writes."""
    figure = new_figure(WIDTH, CURVES_HEIGHT)
    figure.text(0.055, 0.955, results.name, fontsize=17, fontweight="bold", color=INK, parse_math=False)
    seeds = max(len(each.seeds) for each in results.arms.values())
    line = f"means over up to {seeds} seeds; bands are 95 % intervals (Student's t) of each point by itself"
    figure.text(0.055, 0.925, line, fontsize=10.5, color=SOFT_INK)
    top = {"by_steps": "finished steps", "by_tokens": "response tokens sampled for training"}
    for place, (kind, label) in enumerate(top.items()):
        axes = figure.add_axes((0.055 + 0.48 * place, 0.53, 0.43, 0.29))
        _draw_arms(axes, results, {name: getattr(each, kind) for name, each in results.arms.items()})
        _finish(axes, f"Held-out {results.decides}", label)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        if kind == "by_tokens":
            axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens / 1000:,g}k" if tokens else "0"))
    for place, (metric, title) in enumerate(_STEP_PANELS.items()):
        axes = figure.add_axes((0.055 + 0.319 * place, 0.075, 0.27, 0.29))
        found = {name: each.curves[metric] for name, each in results.arms.items() if metric in each.curves}
        _draw_arms(axes, results, {name: each for name, each in found.items() if len(each.positions)})
        _finish(axes, title, "learner step")
        if not found:
            axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=GREY, fontsize=10)
    handles = [
        Line2D([], [], color=color, linestyle=style, linewidth=2.2, label=name)
        for name, (color, style) in _looks(results).items()
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.045, 0.917),
        ncols=min(6, len(handles)),
        fontsize=10,
        labelcolor=INK,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.6,
    )
    return figure


def draw_differences(results: StudyResults) -> Figure:
    """The figure that `write_differences` writes: one row for each arm but the baseline, twice."""
    names = list(results.comparisons)
    height = HEAD_HEIGHT + ROW_HEIGHT * max(1, len(names)) + FOOT_HEIGHT
    figure = new_figure(WIDTH, height)
    title = f"{results.name}: {results.decides}, difference to {results.baseline} in points"
    figure.text(0.025, 1 - 36 / height, title, fontsize=15, fontweight="bold", color=INK, parse_math=False)
    count = results.num_comparisons
    line = (
        f"thick: 95 % interval of the paired difference; thin: corrected for {count} comparisons, which decides; "
        "an arrow: the seeds do not bound it"
    )
    figure.text(0.025, 1 - 60 / height, line, fontsize=10.5, color=SOFT_INK)
    sides = {
        "at equal steps": {name: each.at_steps for name, each in results.comparisons.items()},
        f"at {results.num_tokens:,.0f} sampled tokens": {
            name: each.at_tokens for name, each in results.comparisons.items()
        },
    }
    limits = _limits([found for side in sides.values() for found in side.values()])
    for place, (side, found) in enumerate(sides.items()):
        box = (0.15 + 0.43 * place, FOOT_HEIGHT / height, 0.4, 1 - (HEAD_HEIGHT + FOOT_HEIGHT) / height)
        axes = figure.add_axes(box)
        _draw_differences(axes, found, limits)
        axes.set_title(side, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=8)
        axes.tick_params(labelleft=place == 0)
    key = [Line2D([], [], color=color, marker="o", label=verdict.value) for verdict, color in _VERDICT_COLORS.items()]
    figure.legend(handles=key, loc="lower left", bbox_to_anchor=(0.14, 0), ncols=3, fontsize=10, frameon=False)
    return figure


def _looks(results: StudyResults) -> dict[str, tuple[str, str]]:
    """Colour and style of each arm's line; the baseline is drawn in ink."""
    others = [name for name in results.arms if name != results.baseline]
    looks = {
        name: (_COLORS[place % len(_COLORS)], _STYLES[place // len(_COLORS) % len(_STYLES)])
        for place, name in enumerate(others)
    }
    return {name: looks.get(name, (INK, "-")) for name in results.arms}


def _draw_arms(axes: Axes, results: StudyResults, curves: Mapping[str, Curve]) -> None:
    looks = _looks(results)
    for name, curve in curves.items():
        color, style = looks[name]
        bounded = np.isfinite(curve.lows) & np.isfinite(curve.highs)
        at, lows, highs = curve.positions[bounded], curve.lows[bounded], curve.highs[bounded]
        axes.fill_between(at, lows, highs, color=color, alpha=_BAND_ALPHA, linewidth=0)
        axes.plot(curve.positions, curve.means, style, color=color, linewidth=2)
    _limit(axes, curves)


def _limit(axes: Axes, curves: Mapping[str, Curve]) -> None:
    """The means fill half of the panel or more: a band that few seeds leave wide is cut instead of flattening them."""
    means = np.concatenate([np.empty(0), *(curve.means for curve in curves.values())])
    if len(means) and (span := float(np.ptp(means))) > 0:
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, means.min() - span / 2), min(high, means.max() + span / 2))


def _finish(axes: Axes, title: str, label: str) -> None:
    frame(axes, "left", "bottom")
    axes.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=8)
    axes.set_xlabel(label, fontsize=9.5, color=SOFT_INK)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _limits(found: list[PairedDifference]) -> tuple[float, float]:
    """Of all panels, in points: everything that is bounded, and 0."""
    ends = [
        end
        for each in found
        for end in (each.value, each.interval.low, each.interval.high, each.corrected.low, each.corrected.high)
        if end is not None
    ]
    low, high = 100 * min([0.0, *ends]), 100 * max([0.0, *ends])
    room = 0.08 * (high - low) or 1.0
    return low - room, high + room


def _draw_differences(axes: Axes, found: Mapping[str, PairedDifference], limits: tuple[float, float]) -> None:
    frame(axes, "bottom")
    axes.set_xlim(*limits)
    axes.set_ylim(max(1, len(found)) - 0.5, -0.5)
    axes.set_yticks(range(len(found)), list(found))
    axes.tick_params(axis="y", length=0, labelsize=11)
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set_xlabel("points", fontsize=9.5, color=SOFT_INK)
    # No label at an edge: it would run into that of the panel beside it.
    axes.xaxis.set_major_locator(MaxNLocator(6, prune="both"))
    for place, each in enumerate(found.values()):
        color = _VERDICT_COLORS[each.verdict]
        _draw_interval(axes, place, each.corrected, limits, color=color, width=1.2)
        _draw_interval(axes, place, each.interval, limits, color=color, width=4.5)
        axes.plot(100 * each.value, place, "o", color=color, markersize=8, markeredgecolor="white")
        text = f"{100 * each.value:+.1f}"
        axes.annotate(text, (100 * each.value, place), (0, 9), textcoords="offset points", ha="center", fontsize=9.5)


def _draw_interval(
    axes: Axes, place: int, found: Interval, limits: tuple[float, float], *, color: str, width: float
) -> None:
    """A line between the ends, with an arrow head at the picture's edge where one is open."""
    low = limits[0] if found.low is None else 100 * found.low
    high = limits[1] if found.high is None else 100 * found.high
    axes.plot([low, high], [place, place], color=color, linewidth=width, solid_capstyle="butt")
    for is_open, end, marker in ((found.low is None, low, "<"), (found.high is None, high, ">")):
        if is_open:
            axes.plot(end, place, marker, color=color, markersize=6, clip_on=False)
