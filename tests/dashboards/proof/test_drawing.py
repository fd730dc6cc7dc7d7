"""Every kind of panel can be drawn with what a run gives, and numbers are written in Grafana's units."""

import math
from pathlib import Path

import pytest
from matplotlib.image import imread
from proof_builders import WINDOW, annotation_json, dashboard_answer, dashboard_json, panel_answer, series

from dashboards.build import dashboards
from dashboards.model import Kind
from dashboards.proof.asking import AnnotationAnswer, PanelAnswer, TargetAnswer
from dashboards.proof.drawing.page import draw
from dashboards.proof.drawing.style import limit_colour, number_text, series_colour
from dashboards.reading import annotations, panels

NAN = math.nan


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("percentunit", 0.125, "12.5%"),
        ("s", 90.0, "1.5 min"),
        ("s", 0.0125, "12.5 ms"),
        ("s", 4.0, "4 s"),
        ("bytes", 3 * 2**20, "3 MiB"),
        ("Bps", 2500.0, "2.5 kB/s"),
        ("suffix: nats", 0.25, "0.25 nats"),
        ("short", 12_300.0, "12.3k"),
        ("none", 48.0, "48"),
        ("sci", 0.0001, "0.0001"),
        ("s", NAN, ""),
    ],
)
def test_a_number_is_written_in_its_unit(unit: str, value: float, text: str) -> None:
    assert number_text(value, unit) == text


def test_a_series_has_the_colour_that_its_panel_gives_its_name() -> None:
    colours = [("(^| )shared$", "#8A8A8A")]
    assert series_colour("run_1 shared", 0, colours) == "#8A8A8A"
    assert series_colour("run_1 unshared", 0, colours) == series_colour("other", 0, [])


def test_a_value_has_the_colour_of_the_highest_limit_that_it_reaches() -> None:
    limits = [(-math.inf, "green"), (0.1, "orange"), (0.2, "red")]
    assert [limit_colour(value, limits) for value in (0.0, 0.1, 0.15, 0.3)] == ["green", "orange", "orange", "red"]


@pytest.mark.parametrize("kind", Kind)
def test_a_panel_of_every_kind_is_drawn_with_values_and_without(kind: Kind, tmp_path: Path) -> None:
    full = panel_answer(
        "Panel",
        series(0.5, NAN, 1.0, run_id="run_1", le="0.5"),
        series(1.0, 1.0, 1.0, run_id="run_2", le="+Inf"),
        kind=kind,
    )
    pictures = []
    for name, shown in (("full", full), ("empty", panel_answer("Panel", kind=kind))):
        draw(dashboard_answer(shown), tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png"))
    assert (pictures[0] != pictures[1]).any()


def test_a_mark_is_seen(tmp_path: Path) -> None:
    [each] = annotations(dashboard_json(annotations=[annotation_json("Pause", "x")]))
    mark = AnnotationAnswer(annotation=each, marks=((WINDOW.start + 2, WINDOW.start + 8),))
    shown = panel_answer("Panel", series(1.0, 2.0))
    draw(dashboard_answer(shown), tmp_path / "bare.png")
    draw(dashboard_answer(shown, annotations=(mark,)), tmp_path / "marked.png")
    assert (imread(tmp_path / "bare.png") != imread(tmp_path / "marked.png")).any()


@pytest.mark.parametrize("uid", sorted(dashboards()))
def test_every_dashboard_can_be_drawn(uid: str, tmp_path: Path) -> None:
    """Each panel with one series, which has every label that a legend or a cell may ask for."""
    given = series(1.0, 2.0, run_id="run_1", le="1")
    filled = [
        PanelAnswer(
            panel=panel,
            targets=tuple(TargetAnswer(target=each, expression="x", series=(given,)) for each in panel.targets),
        )
        for panel in panels(dashboards()[uid])
    ]
    draw(dashboard_answer(*filled), tmp_path / "page.png")
    height, width, _ = imread(tmp_path / "page.png").shape
    assert width > 1500
    assert height > 31 * max(panel.panel.place.top + panel.panel.place.height for panel in filled)
