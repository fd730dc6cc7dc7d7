"""What hints did in a run, as one picture: accuracy by round, how much was shown, and single prompts' accuracy curves.

Reads a run's history and its ledger. A prompt's curve is fitted to the rounds of one visit, by the rules of the run's
rollout plan, so that its first and its last visit show whether it needs less help.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from rollout.accuracy_curve import FitRules, averaged, fit_curve, with_margins
from services.describe_run import describe_run
from services.figure_curves import draw_line, finish, window_of, write_key, write_title
from services.figure_style import BLUE, DPI, GREEN, GREY, INK, ORANGE, PURPLE, RED, SKY, SOFT_INK, frame, new_figure
from services.history import RunHistory
from services.ledger import LedgerLine, LedgerRound
from services.recipe import load_recipe
from services.run_dir import LEDGER_FILE, METRICS_FILE, RECIPE_FILE, read_history, read_run_id
from shaping.components import ComponentSpec, load
from shaping.errors import UserError

WIDTH_PIXELS, HEIGHT_PIXELS = 1600, 1000
NUM_PROMPTS = 4
SECOND_ROUND = "hint_round_2_accuracy"

_LEFT, _RIGHT = 0.047, 0.975
_TOP_ROW, _BOTTOM_ROW, _PANEL_HEIGHT = 0.52, 0.075, 0.3
_TOP_COLUMNS, _TOP_WIDTH = (_LEFT, 0.371, 0.695), 0.28
_BOTTOM_COLUMNS, _BOTTOM_WIDTH = (_LEFT, 0.291, 0.535, 0.779), 0.196
_ROUND_COLORS = (GREY, SKY, BLUE, GREEN, ORANGE, RED, PURPLE, INK)
_FIRST, _LAST = ORANGE, BLUE


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptVisits:
    """A prompt that was sampled in several rounds.

    Args:
        first, last: of its groups, in order of visits; the same where there is one.
    """

    prompt_id: str
    num_visits: int
    first: LedgerLine
    last: LedgerLine


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveRules:
    """How a run's rollout plan reads accuracies.

    Args:
        target: accuracy that hints aim at; None where the plan aims at none.
        fit: of a prompt's curve.
    """

    target: float | None
    fit: FitRules


def curve_rules(plan: ComponentSpec) -> CurveRules:
    """Those of a rollout plan; a plan that fits no curve has the default fit.

    Raises:
        RecipeError: no such plan, or options that cannot be.
    """
    config = load("rollout.plans", plan, "rollout.plan").config
    fit = config.fit_rules() if hasattr(config, "fit_rules") else FitRules()
    return CurveRules(target=getattr(config, "target", None), fit=fit)


def write_hints(run_dir: Path, history: RunHistory, path: Path, *, plan: ComponentSpec) -> bool:
    """Draw a run, which may still go on.

    Args:
        plan: the run's rollout plan.
        path: PNG file to write, replaced when it exists.
    Returns:
        Whether there was anything to draw: nothing is written of a run whose groups had one round each.
    Raises:
        UserError: a ledger that cannot be read.
    """
    if not any(SECOND_ROUND in step.metrics for step in history.steps):
        return False
    prompts = most_visited(read_ledger(run_dir / LEDGER_FILE))
    draw_hints(history, prompts, curve_rules(plan)).savefig(path, format="png", dpi=DPI)
    return True


def write_hints_of(run_dir: Path, path: Path) -> None:
    """Draw the run of a directory.

    Raises:
        UserError: no run's directory, a run whose groups had one round each, or a file that cannot be written.
    """
    if not (run_dir / METRICS_FILE).is_file() or not (run_dir / RECIPE_FILE).is_file():
        raise UserError(f"a run's directory must hold {METRICS_FILE} and {RECIPE_FILE}, found none ({run_dir})")
    recipe = load_recipe(run_dir / RECIPE_FILE)
    history = read_history(run_dir, describe_run(recipe, run_id=read_run_id(run_dir), run_dir=str(run_dir)))
    try:
        was_drawn = write_hints(run_dir, history, path, plan=recipe.rollout.plan)
    except OSError as error:
        raise UserError(f"--out must be writable, found {error.strerror} ({path})") from error
    if not was_drawn:
        raise UserError(f"groups must have several rounds, found none in {run_dir}; see rollout.plan in its recipe")


def read_ledger(path: Path) -> Iterator[LedgerLine]:
    """Lines of a ledger, which another process may be writing: half a line at its end is left out.

    Raises:
        UserError: no such file, or a line that is no ledger's.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from (LedgerLine.from_plain(json.loads(line)) for line in file if line.endswith("\n"))
    except OSError as error:
        raise UserError(f"a ledger must be readable, found {error.strerror} ({path})") from error
    except (TypeError, ValueError) as error:
        raise UserError(f"a ledger must hold a group in each line, found: {error} ({path})") from error


def draw_hints(history: RunHistory, prompts: Sequence[PromptVisits], rules: CurveRules) -> Figure:
    """The figure that `write_hints` writes; of the prompts the first NUM_PROMPTS."""
    figure = new_figure(WIDTH_PIXELS, HEIGHT_PIXELS)
    figure.text(_LEFT, 0.945, history.description.name, fontsize=20, fontweight="bold", color=INK, parse_math=False)
    figure.text(_LEFT, 0.92, "Hints: accuracy by round, and how much is shown", fontsize=11, color=SOFT_INK)
    for draw, left in zip((_rounds, _rates, _groups), _TOP_COLUMNS, strict=True):
        axes = figure.add_axes((left, _TOP_ROW, _TOP_WIDTH, _PANEL_HEIGHT))
        finish(axes, history, draw(axes, history))
    for visits, left in zip(prompts[:NUM_PROMPTS], _BOTTOM_COLUMNS, strict=False):
        axes = figure.add_axes((left, _BOTTOM_ROW, _BOTTOM_WIDTH, _PANEL_HEIGHT))
        _prompt(axes, visits, rules)
    window = window_of(len(history.steps))
    notes = [f"Strong lines are means over {window} steps, faint lines every step."] if window > 1 else []
    if prompts:
        notes.append("Below: the prompts that came most often; dots are rounds, the larger the more rollouts.")
    figure.text(_LEFT, 0.008, " ".join(notes), fontsize=8.5, color=SOFT_INK)
    return figure


def most_visited(lines: Iterable[LedgerLine]) -> list[PromptVisits]:
    """Prompts with verdicts of several rounds, those that came most often first, then in order of admission.

    Holds two lines for each prompt, however long the ledger is.
    """
    found: dict[str, PromptVisits] = {}
    for line in lines:
        if len(line.rounds) < 2 or not any(each.scored for each in line.rounds):
            continue
        known = found.get(line.prompt_id) or PromptVisits(prompt_id=line.prompt_id, num_visits=0, first=line, last=line)
        found[line.prompt_id] = PromptVisits(
            prompt_id=line.prompt_id,
            num_visits=known.num_visits + 1,
            first=min(known.first, line, key=_visit),
            last=max(known.last, line, key=_visit),
        )
    return sorted(found.values(), key=lambda each: (-each.num_visits, each.first.ordinal))


def _visit(line: LedgerLine) -> int:
    return line.visit


def _rounds(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Accuracy by round", "correct responses")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    drawn = [
        draw_line(axes, history, f"hint_round_{number}_accuracy", f"round {number}", color)
        for number, color in enumerate(_ROUND_COLORS, start=1)
    ]
    write_key(axes)
    return any(drawn)


def _rates(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Hint rate and fit", "share of the solution")
    axes.set_ylim(0, 1)
    drawn = [
        draw_line(axes, history, "hint_rate_mean", "hint rate", BLUE),
        draw_line(axes, history, "hint_fit_error", "error of the curves (accuracy)", GREY),
    ]
    write_key(axes)
    return any(drawn)


def _groups(axes: Axes, history: RunHistory) -> bool:
    write_title(axes, "Groups without signal, rates at an end", "share")
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    drawn = [
        draw_line(axes, history, "hint_all_wrong_groups_share", "all wrong", RED),
        draw_line(axes, history, "hint_all_correct_groups_share", "all correct", GREEN),
        draw_line(axes, history, "hint_none_share", "no hint needed", SKY, dashed=True),
        draw_line(axes, history, "hint_most_share", "longest hint", PURPLE, dashed=True),
    ]
    write_key(axes)
    return any(drawn)


def _prompt(axes: Axes, visits: PromptVisits, rules: CurveRules) -> None:
    """One prompt: its first visit and its last, rounds as dots and the curve that is fitted to them."""
    axes.set_title(visits.prompt_id, loc="left", fontsize=9.5, color=INK, pad=27, parse_math=False)
    shown = [(visits.first, _FIRST)] + ([(visits.last, _LAST)] if visits.num_visits > 1 else [])
    for line, color in shown:
        scored = [each for each in line.rounds if each.scored]
        axes.scatter(
            [each.rate for each in scored],
            [each.correct / each.scored for each in scored],
            s=[12 + 6 * each.scored for each in scored],
            color=color,
            alpha=0.55,
            linewidths=0,
        )
        rates = np.linspace(0.0, 1.0, 101)
        axes.plot(rates, _fitted(scored, rates, rules.fit), color=color, linewidth=1.8, label=f"visit {line.visit}")
    if rules.target is not None:
        axes.axhline(rules.target, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel("hint rate", fontsize=9, color=SOFT_INK)
    axes.set_ylabel("accuracy", fontsize=9, color=SOFT_INK)
    frame(axes, "left", "bottom")
    write_key(axes)


def _fitted(
    rounds: Sequence[LedgerRound], rates: np.ndarray[tuple[int], np.dtype[np.float64]], rules: FitRules
) -> list[float]:
    """Accuracies of the curve through a visit's rounds."""
    points = tuple((each.rate, each.correct / each.scored) for each in rounds)
    curve = fit_curve(averaged(with_margins(points)), rules).curve
    return [curve.accuracy(float(rate)) for rate in rates]
