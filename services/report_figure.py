"""The curves of a run as one picture of 1600 x 1000 pixels: did it learn, on what, and what did it cost.

Reads a run's history; every panel says so when its numbers were not measured.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from services.figure_curves import Floats, draw_line, finish, smoothed, window_of, write_key, write_title
from services.figure_style import (
    BLUE,
    DPI,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SAND,
    SKY,
    SOFT_INK,
    frame,
    new_figure,
)
from services.history import RunHistory, RunSummary, summarise
from services.metrics.families import PHASES
from shaping.support import SegmentClass

WIDTH_PIXELS, HEIGHT_PIXELS = 1600, 1000
MIN_AREA_STEPS = 8
MAX_CAUSE_CHARACTERS = 180

# Shares of the figure. The last gap is wider: the third panel below has a scale on its right too.
LEFT, RIGHT = 0.047, 0.975
COLUMNS, ROWS = (LEFT, 0.285, 0.523, 0.791), (0.52, 0.065)
PANEL_WIDTH, PANEL_HEIGHT = 0.184, 0.3

_CLASS_STYLES = {
    SegmentClass.SHARED: ("shared", GREY),
    SegmentClass.CORRECT_ONLY: ("correct only", GREEN),
    SegmentClass.INCORRECT_ONLY: ("incorrect only", RED),
    SegmentClass.UNIQUE: ("in one rollout", SAND),
}
_MULTIPLIER_STYLES = {
    "zero": ("0 (shared)", GREY),
    "single": ("1/N (one rollout)", SAND),
    "partial": ("between", SKY),
    "full": ("1", BLUE),
}
_PHASE_STYLES = {
    "wait_batch": ("waiting for rollouts", SKY),
    "train": ("learner", BLUE),
    "weight_sync": ("weights to engines", ORANGE),
    "evaluation": ("held-out evaluation", PURPLE),
    "checkpoint": ("checkpoint", GREEN),
    "other": ("other", GREY),
}


def write_report(path: Path, history: RunHistory, *, seconds_to_first_step: float | None = None) -> None:
    """Draw a run.

    Args:
        path: PNG file to write, replaced when it exists.
        seconds_to_first_step: left out of the header where it is not known.
    """
    draw_report(history, seconds_to_first_step=seconds_to_first_step).savefig(path, format="png", dpi=DPI)


def draw_report(history: RunHistory, *, seconds_to_first_step: float | None = None) -> Figure:
    """The figure that `write_report` writes."""
    summary = summarise(history, state=history.state, seconds_to_first_step=seconds_to_first_step)
    figure = new_figure(WIDTH_PIXELS, HEIGHT_PIXELS)
    _write_header(figure, history, summary)
    panels: tuple[Callable[[Axes, RunHistory], bool], ...] = (
        _accuracy,
        _reward,
        _entropy,
        _length,
        _segment_classes,
        _multipliers,
        _step_time,
        _mismatch,
    )
    places = [(left, bottom) for bottom in ROWS for left in COLUMNS]
    for draw, (left, bottom) in zip(panels, places, strict=True):
        axes = figure.add_axes((left, bottom, PANEL_WIDTH, PANEL_HEIGHT))
        was_measured = draw(axes, history)
        finish(axes, history, was_measured)
    window = window_of(len(history.steps))
    if window > 1:
        note = f"Strong lines are means over {window} steps, faint lines every step."
        figure.text(LEFT, 0.008, note, fontsize=8.5, color=SOFT_INK)
    return figure


def _write_header(figure: Figure, history: RunHistory, summary: RunSummary) -> None:
    description = history.description
    figure.text(LEFT, 0.945, description.name, fontsize=20, fontweight="bold", color=INK, parse_math=False)
    setting = f"{description.method} on {description.model}, seed {summary.seed}"
    figure.text(LEFT, 0.92, setting, fontsize=11, color=SOFT_INK, parse_math=False)
    facts = [("status", summary.status), ("steps", f"{summary.steps} of {summary.total_steps}")]
    if summary.accuracy_first is not None and summary.accuracy_last is not None:
        facts.append(("held-out accuracy", f"{summary.accuracy_first:.1%} to {summary.accuracy_last:.1%}"))
    if summary.seconds_training is not None:
        facts.append(("training time", _duration(summary.seconds_training)))
    if summary.seconds_to_first_step is not None:
        facts.append(("start to first step", _duration(summary.seconds_to_first_step)))
    if summary.tokens_generated is not None:
        facts.append(("tokens sampled", f"{summary.tokens_generated:,}"))
    right = RIGHT
    for name, value in reversed(facts):
        texts = [
            figure.text(right, 0.948, value, fontsize=14, fontweight="bold", color=INK, ha="right"),
            figure.text(right, 0.925, name, fontsize=9.5, color=SOFT_INK, ha="right"),
        ]
        right -= max(text.get_window_extent().width for text in texts) / WIDTH_PIXELS + 0.022

    if summary.failure is not None:
        where = (
            f"{summary.failure.role}, group {summary.failure.group_id}"
            if summary.failure.group_id
            else summary.failure.role
        )
        cause = f"{where}: {summary.failure.cause}"[:MAX_CAUSE_CHARACTERS]
        figure.text(LEFT, 0.896, cause, fontsize=10, color=RED, parse_math=False)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _accuracy(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Accuracy", "correct responses")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    drawn = draw_line(axes, history, "reward_correct_share", "training rollouts", SKY)
    steps = [report.step for report in history.evaluations]
    if steps:
        values = [report.accuracy for report in history.evaluations]
        axes.plot(
            steps, values, color=BLUE, linewidth=2.2, marker="o", markersize=5, label="held-out problems", zorder=5
        )
        for index, offset in ((0, 8), (-1, 8)):
            axes.annotate(
                f"{values[index]:.0%}",
                (steps[index], values[index]),
                xytext=(4 if index == 0 else -4, offset),
                textcoords="offset points",
                ha="left" if index == 0 else "right",
                fontsize=10,
                fontweight="bold",
                color=BLUE,
            )
    write_key(axes)
    return drawn or bool(steps)


def _reward(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Reward", "mean over rollouts")
    drawn = draw_line(axes, history, "reward_total_value", "weighted sum", BLUE)
    names = sorted({name for step in history.steps for name in step.metrics if name.startswith("reward_")})
    parts = [name for name in names if name.endswith("_value") and name != "reward_total_value"]
    if len(parts) > 1:
        for name, color in zip(parts, (ORANGE, GREEN, PURPLE, RED), strict=False):
            draw_line(axes, history, name, name.removeprefix("reward_").removesuffix("_value"), color)
    write_key(axes)
    return drawn


def _entropy(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Token entropy", "nats")
    drawn = [
        draw_line(axes, history, "rollout_entropy_nats", "sampler", BLUE),
        draw_line(axes, history, "learner_entropy_nats", "learner", ORANGE, dashed=True),
        draw_line(axes, history, "segments_threshold_nats", "low-entropy threshold", GREY),
    ]
    axes.set_ylim(bottom=0)
    write_key(axes)
    return any(drawn)


def _length(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Response length", "tokens")
    drawn = [
        draw_line(axes, history, "rollout_response_tokens", "mean", BLUE),
        draw_line(axes, history, "rollout_response_max_tokens", "longest", GREY),
    ]
    axes.set_ylim(bottom=0)
    write_key(axes)
    return any(drawn)


def _segment_classes(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Low-entropy segments by class", "share of segment tokens")
    rows = {name: f"segments_{name}_tokens" for name in _CLASS_STYLES}
    steps, values = _table(history, list(rows.values()))
    totals = values.sum(axis=0)
    keep = totals > 0
    shares = values[:, keep] / totals[keep]
    return _stack(axes, steps[keep], shares, list(_CLASS_STYLES.values()))


def _multipliers(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Multipliers and kept advantage", "share of tokens")
    steps, values = _table(history, [f"less_{name}_tokens_share" for name in _MULTIPLIER_STYLES])
    drawn = _stack(axes, steps, values, list(_MULTIPLIER_STYLES.values()))
    kept = draw_line(axes, history, "advantage_kept_mass_share", "advantage mass kept", INK)
    if not drawn and kept:
        axes.set_ylabel("share of advantage mass")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    write_key(axes)
    return drawn or kept


def _step_time(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Step time and sampling speed", "seconds a step")
    if not history.steps:
        return False
    steps = np.array([report.step for report in history.steps])
    known = [name for name in PHASES if any(name in report.phase_seconds for report in history.steps)]
    values = np.array([[report.phase_seconds.get(name, 0.0) for report in history.steps] for name in known])
    bottom = np.zeros(len(steps))
    for name, row in zip(known, values, strict=True):
        label, color = _PHASE_STYLES[name]
        axes.bar(steps, row, width=1.0, bottom=bottom, color=color, label=label, linewidth=0)
        bottom += row
    speed = np.array([report.num_response_tokens / report.step_seconds for report in history.steps])
    right = axes.twinx()
    right.plot(steps, smoothed(speed), color=INK, linewidth=1.6, label="tokens/s (right)")
    right.set_ylim(0, float(speed.max()) * 1.1)
    frame(right, "right", "bottom")
    axes.set_ylim(0, float(bottom.max()) * 1.1)
    write_key(axes, right)
    return True


def _mismatch(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Mismatch of sampler and learner", "|difference|, nats")
    drawn = [
        draw_line(axes, history, "learner_logprob_difference_max_nats", "log-prob, largest", RED, smooth=False),
        draw_line(axes, history, "learner_logprob_difference_mean_nats", "log-prob, mean", BLUE, smooth=False),
        draw_line(axes, history, "learner_entropy_difference_max_nats", "entropy, largest", ORANGE, smooth=False),
        draw_line(axes, history, "learner_entropy_difference_mean_nats", "entropy, mean", SKY, smooth=False),
    ]
    if any(drawn):
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(low / 2, high * 8)
        write_key(axes)
    return any(drawn)


def _table(history: RunHistory, names: Sequence[str]) -> tuple[NDArray[np.int64], Floats]:
    """Steps that report every name, and their values [names, steps]."""
    reports = [report for report in history.steps if all(name in report.metrics for name in names)]
    steps = np.array([report.step for report in reports], dtype=np.int64)
    values = np.array([[report.metrics[name] for report in reports] for name in names], dtype=np.float64)
    return steps, values.reshape(len(names), len(reports))


def _stack(axes: Axes, steps: NDArray[np.int64], shares: Floats, styles: Sequence[tuple[str, str]]) -> bool:
    """Shares that fill 0 to 1: areas, or bars where there are too few steps for an area to show."""
    if not len(steps):
        return False
    if len(steps) < MIN_AREA_STEPS:
        bottom = np.zeros(len(steps))
        for row, (label, color) in zip(shares, styles, strict=True):
            axes.bar(steps, row, width=1.0, bottom=bottom, color=color, label=label, linewidth=0)
            bottom += row
    else:
        labels, colors = zip(*styles, strict=True)
        axes.stackplot(steps, shares, labels=labels, colors=colors, linewidth=0)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    write_key(axes)
    return True
