"""docs/concepts.png, the path of one group: `python -m services.path_figure docs/concepts.png`.

Four owners, twelve hops, and the record that each hop makes. docs/concepts.md says the same in words, hop by hop.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from services.figure_style import BLUE, DPI, GREEN, GREY, INK, ORANGE, SOFT_INK, new_figure

WIDTH_PIXELS, HEIGHT_PIXELS = 1600, 660
LINE_PIXELS, HOP_PIXELS = 19, 30
TINT_ALPHA = 0.10

# One made-up response: forks between runs of tokens that nearly write themselves.
EXAMPLE_NATS: tuple[float, ...] = (
    1.5,
    0.1,
    0.05,
    0.1,
    0.05,
    0.1,
    0.9,
    1.9,
    0.2,
    0.05,
    0.05,
    0.1,
    0.05,
    0.05,
    0.15,
    1.2,
    0.1,
    0.4,
)
EXAMPLE_NATS += (1.0, 0.05, 0.1, 0.05, 0.05, 0.1, 0.1, 1.6, 0.3, 0.05)
EXAMPLE_THRESHOLD = 0.5
BAR_PIXELS, BAR_STEP_PIXELS = 42, 13


class Owner(StrEnum):
    """Who does a hop."""

    ORCHESTRATOR = "orchestrator"
    ROLLOUT = "rollout worker"
    SHAPING = "shaping actor"
    LEARNER = "learner ranks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """One step on the way: what is done, what comes out, and what that holds, a line each."""

    number: int
    owner: Owner
    verb: str
    record: str
    holds: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """A part of the picture in pixels, y downwards, and how it is headed."""

    left: int
    top: int
    width: int
    height: int
    title: str
    color: str


HOPS = (
    Hop(number=1, owner=Owner.ORCHESTRATOR, verb="next", record="Prompt", holds=("turns, reference answer",)),
    Hop(number=2, owner=Owner.ORCHESTRATOR, verb="admit", record="GroupRequest", holds=("a slot is charged",)),
    Hop(
        number=3,
        owner=Owner.ROLLOUT,
        verb="generate",
        record="RolloutGroup",
        holds=(
            "token ids, log-probs,",
            "the exact entropy of every token,",
            "where and why each response ended,",
            "policy version, first and last token",
        ),
    ),
    Hop(number=4, owner=Owner.SHAPING, verb="score", record="ScoredGroup", holds=("rewards, verdicts",)),
    Hop(
        number=5,
        owner=Owner.SHAPING,
        verb="segment",
        record="SegmentedGroup",
        holds=("thresholds, low-entropy segments,", "class and support of each"),
    ),
    Hop(number=6, owner=Owner.SHAPING, verb="shape", record="ShapedGroup", holds=("advantages, multipliers",)),
    Hop(
        number=7,
        owner=Owner.SHAPING,
        verb="to_samples",
        record="TrainingSample",
        holds=("ids, masks, advantages; or a", "drop with its reason"),
    ),
    Hop(
        number=8,
        owner=Owner.ORCHESTRATOR,
        verb="plan_batch",
        record="BatchPlan",
        holds=("from lengths alone: micro-batches, as many on", "each rank, balanced by tokens"),
    ),
    Hop(
        number=9,
        owner=Owner.LEARNER,
        verb="loss",
        record="LossOutput",
        holds=("a sum over the tokens of all", "ranks, divided by their number"),
    ),
    Hop(
        number=10,
        owner=Owner.LEARNER,
        verb="step",
        record="StepResult",
        holds=("policy version n + 1", "and its numbers"),
    ),
    Hop(
        number=11,
        owner=Owner.LEARNER,
        verb="publish, load",
        record="WeightManifest",
        holds=("buckets, checksums, version",),
    ),
    Hop(
        number=12,
        owner=Owner.ORCHESTRATOR,
        verb="release",
        record="",
        holds=("slots are free once the version", "is verified live"),
    ),
)

_ORCHESTRATOR = _Box(
    left=30, top=20, width=1540, height=140, title="Orchestrator: ids, lengths, versions; never a token", color=GREY
)
_ROLLOUT = _Box(left=30, top=226, width=440, height=330, title="Rollout workers (vLLM)", color=BLUE)
_SHAPING = _Box(left=580, top=226, width=440, height=330, title="Shaping actors", color=GREEN)
_LEARNER = _Box(left=1130, top=226, width=440, height=330, title="Learner ranks (DeepSpeed ZeRO-3)", color=ORANGE)


def path_figure() -> Figure:
    """The picture."""
    figure = new_figure(WIDTH_PIXELS, HEIGHT_PIXELS)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH_PIXELS)
    axes.set_ylim(HEIGHT_PIXELS, 0)
    axes.axis("off")
    for box in (_ORCHESTRATOR, _ROLLOUT, _SHAPING, _LEARNER):
        _draw_box(axes, box)
    of = {owner: [hop for hop in HOPS if hop.owner is owner] for owner in Owner}
    for left, hop in zip((54, 330, 604, 1154), of[Owner.ORCHESTRATOR], strict=True):
        _draw_hops(axes, left, 84, [hop])
    _draw_hops(axes, 54, 292, of[Owner.ROLLOUT])
    _draw_hops(axes, 604, 292, of[Owner.SHAPING])
    _draw_hops(axes, 1154, 292, of[Owner.LEARNER][:2])
    _draw_hops(axes, 604, 606, of[Owner.LEARNER][2:], is_flat=True)
    _draw_entropies(axes, left=68, bottom=526)
    _arrow(axes, [(250, 160), (250, 226)], "requests", (262, 194))
    _arrow(axes, [(470, 400), (580, 400)], "groups, by\nreference", (525, 370), center=True)
    _arrow(axes, [(1020, 400), (1130, 400)], "samples, by\nreference", (1075, 370), center=True)
    _arrow(axes, [(1350, 556), (1350, 636), (250, 636), (250, 556)], "", (0, 0))
    _arrow(axes, [(1300, 160), (1300, 226)], "plan", (1312, 194))
    _arrow(axes, [(1400, 226), (1400, 160)], "numbers of the step", (1412, 194))
    return figure


def _draw_box(axes: Axes, box: _Box) -> None:
    for alpha, filled in ((TINT_ALPHA, True), (1.0, False)):
        axes.add_patch(
            FancyBboxPatch(
                (box.left, box.top),
                box.width,
                box.height,
                boxstyle="round,pad=0,rounding_size=10",
                facecolor=box.color if filled else "none",
                edgecolor="none" if filled else box.color,
                linewidth=1.4,
                alpha=alpha,
            )
        )
    axes.text(box.left + 24, box.top + 34, box.title, fontsize=12.5, fontweight="bold", color=INK, va="center")


def _draw_hops(axes: Axes, left: int, top: int, hops: Sequence[Hop], *, is_flat: bool = False) -> None:
    """Hops one below the other; a flat one has a single line, on white."""
    y = top
    for hop in hops:
        head = f"{hop.verb}  →  {hop.record}" if hop.record else hop.verb
        holds = ", ".join(hop.holds)
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 4} if is_flat else None
        axes.text(left + 13, y, str(hop.number), fontsize=10, color="white", ha="center", va="center", bbox=_DISC)
        axes.text(left + 36, y, f"{head}:  {holds}" if is_flat else head, fontsize=10.5, color=INK, va="center")
        if ground:
            axes.texts[-1].set_bbox(ground)
        for index, line in enumerate(() if is_flat else hop.holds, start=1):
            axes.text(left + 36, y + index * LINE_PIXELS, line, fontsize=9.5, color=SOFT_INK, va="center")
        y += len(hop.holds) * LINE_PIXELS + HOP_PIXELS


def _draw_entropies(axes: Axes, *, left: int, bottom: int) -> None:
    """Made-up entropies of one response: low ones in blue, three runs of them long enough to be segments."""
    heights = [max(3, round(value * BAR_PIXELS)) for value in EXAMPLE_NATS]
    colors = [BLUE if value <= EXAMPLE_THRESHOLD else GREY for value in EXAMPLE_NATS]
    places = [left + index * BAR_STEP_PIXELS for index in range(len(heights))]
    axes.bar(places, [-each for each in heights], width=8, bottom=bottom, color=colors, align="edge")
    threshold = bottom - round(EXAMPLE_THRESHOLD * BAR_PIXELS)
    axes.plot([left, places[-1] + 8], [threshold, threshold], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(left, bottom + 14, "entropy of each token, and the threshold", fontsize=9, color=SOFT_INK, va="center")


_DISC = {"boxstyle": "circle,pad=0.25", "facecolor": INK, "edgecolor": "none"}


def _arrow(
    axes: Axes, points: Sequence[tuple[int, int]], words: str, at: tuple[int, int], *, center: bool = False
) -> None:
    """A line through points with a head at its end."""
    for (x, y), (to_x, to_y) in pairwise(points[:-1]):
        axes.plot([x, to_x], [y, to_y], color=SOFT_INK, linewidth=1.6, solid_capstyle="round")
    arrow = {"arrowstyle": "-|>", "color": SOFT_INK, "linewidth": 1.6, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", xy=points[-1], xytext=points[-2], arrowprops=arrow)
    axes.text(*at, words, fontsize=9.5, color=SOFT_INK, va="center", ha="center" if center else "left")


if __name__ == "__main__":
    path_figure().savefig(sys.argv[1], dpi=DPI)
