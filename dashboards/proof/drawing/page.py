"""A page: panels where the dashboard places them, each with its title, its legend and its picture."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from dashboards.proof.asking import DashboardAnswer, PanelAnswer
from dashboards.proof.drawing.cells import draw_heatmap, draw_states
from dashboards.proof.drawing.lines import draw_lines
from dashboards.proof.drawing.numbers import draw_bars, draw_number, draw_table
from dashboards.proof.drawing.style import EDGE, INK, PAGE, PANEL, SMALL, SOFT_INK, TEXT
from dashboards.proof.filling import Window
from dashboards.reading import Place

DPI = 100
COLUMN, ROW, GAP, HEAD = 66, 31, 7, 44
TITLE, LEGEND, FOOT, LEFT, RIGHT = 24, 15, 20, 58, 12
MAX_LEGEND_LINES = 3
MAX_COLOURS = 256
LETTER = 5.9

Entries = list[tuple[str, str]]
"""(name, colour) of a legend."""
Drawing = Callable[[Axes, PanelAnswer, Window], Entries]

_WITH_AXES: dict[str, Drawing] = {"timeseries": draw_lines, "heatmap": draw_heatmap, "state-timeline": draw_states}
_WITHOUT: dict[str, Drawing] = {"stat": draw_number, "bargauge": draw_bars, "table": draw_table}


def draw(answer: DashboardAnswer, path: Path) -> None:
    """Write the picture of a dashboard.

    Raises:
        ValueError: a panel of a kind that nobody can draw.
    """
    places = [panel.panel.place for panel in answer.panels]
    rows = max(place.top + place.height for place in places)
    width, height = 24 * COLUMN + 2 * GAP, rows * ROW + HEAD + GAP
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=PAGE)
    FigureCanvasAgg(figure)
    page = _Page(figure, width, height)
    page.write(GAP + 4, 14, answer.title, size=13, colour=INK)
    for panel in answer.panels:
        _draw_panel(page, panel, answer)
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(figure, path)


def _write(figure: Figure, path: Path) -> None:
    """As a PNG of few colours: a third of the size, and nobody sees it."""
    drawn, few = BytesIO(), Image.Quantize.MAXCOVERAGE
    figure.savefig(drawn, facecolor=PAGE, format="png")
    Image.open(drawn).convert("RGB").quantize(MAX_COLOURS, method=few, kmeans=2).save(path, optimize=True)


class _Page:
    """A figure in pixels from the top left."""

    def __init__(self, figure: Figure, width: int, height: int) -> None:
        self._figure, self._width, self._height = figure, width, height

    def write(self, left: float, top: float, text: str, *, size: float, colour: str) -> None:
        x, y = left / self._width, 1 - top / self._height
        self._figure.text(x, y, text, fontsize=size, color=colour, ha="left", va="top", parse_math=False)

    def box(self, left: float, top: float, width: float, height: float, colour: str, edge: str | None = None) -> None:
        x, y, *sides = self.part(left, top, width, height)
        shape = Rectangle((x, y), *sides, facecolor=colour, edgecolor=edge or colour, linewidth=0.8)
        # Behind the axes, which have 0.
        self._figure.add_artist(shape).set_zorder(-1)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        found: Axes = self._figure.add_axes(self.part(left, top, width, height), facecolor=PANEL)
        return found

    def part(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        """(left, bottom, width, height) as parts of the figure."""
        low = 1 - (top + height) / self._height
        return left / self._width, low, width / self._width, height / self._height


def _draw_panel(page: _Page, answer: PanelAnswer, dashboard: DashboardAnswer) -> None:
    left, top, width, height = _pixels(answer.panel.place)
    if answer.panel.kind == "row":
        page.write(left + 2, top + 8, answer.panel.title, size=11, colour=INK)
        return
    page.box(left, top, width, height, PANEL, EDGE)
    page.write(left + 8, top + 6, answer.panel.title, size=TEXT, colour=INK)
    if answer.panel.kind in _WITHOUT:
        axes = page.axes(left + 8, top + TITLE, width - 16, height - TITLE - 6)
        axes.set_axis_off()
        _WITHOUT[answer.panel.kind](axes, answer, dashboard.window)
    elif answer.panel.kind in _WITH_AXES:
        _draw_with_legend(page, answer, dashboard)
    else:
        raise ValueError(
            f"a panel must be of a kind that can be drawn, found {answer.panel.kind}: {answer.panel.title}"
        )


def _draw_with_legend(page: _Page, answer: PanelAnswer, dashboard: DashboardAnswer) -> None:
    left, top, width, height = _pixels(answer.panel.place)
    axes = page.axes(left + LEFT, top + TITLE, width - LEFT - RIGHT, height - TITLE - FOOT)
    entries = _WITH_AXES[answer.panel.kind](axes, answer, dashboard.window)
    lines = _legend_lines(entries, width - 20)
    below = FOOT + LEGEND * len(lines)
    bottom = top + height
    axes.set_position(page.part(left + LEFT, top + TITLE, width - LEFT - RIGHT, height - TITLE - below))
    if answer.panel.kind == "timeseries":
        _mark(axes, dashboard)
    for number, line in enumerate(lines):
        x = left + 12.0
        for name, colour in line:
            page.box(x, bottom - below + FOOT + LEGEND * number + 3, 9, 3, colour)
            page.write(x + 13, bottom - below + FOOT + LEGEND * number - 2, name, size=SMALL, colour=SOFT_INK)
            x += 13 + LETTER * len(name) + 12


def _mark(axes: Axes, dashboard: DashboardAnswer) -> None:
    for each in dashboard.annotations:
        for first, last in each.marks:
            colour = each.annotation.colour
            if last - first > 2 * dashboard.window.step:
                axes.axvspan(first, last, color=colour, alpha=0.12, linewidth=0)
            axes.axvline(first, color=colour, linewidth=0.7, linestyle=(0, (4, 3)), alpha=0.8)


def _legend_lines(entries: Entries, width: float) -> list[Entries]:
    lines: list[Entries] = [[]]
    used = 0.0
    for name, colour in entries:
        needs = 13 + LETTER * len(name) + 12
        if used + needs > width and lines[-1]:
            lines.append([])
            used = 0.0
        lines[-1].append((name, colour))
        used += needs
    if len(lines) > MAX_LEGEND_LINES:
        shown = sum(map(len, lines[:MAX_LEGEND_LINES]))
        lines = lines[:MAX_LEGEND_LINES]
        lines[-1][-1] = (f"and {len(entries) - shown + 1} more", PANEL)
    return [line for line in lines if line]


def _pixels(place: Place) -> Sequence[float]:
    left, top = GAP + place.left * COLUMN, HEAD + place.top * ROW
    return left + GAP / 2, top + GAP / 2, place.width * COLUMN - GAP, place.height * ROW - GAP
