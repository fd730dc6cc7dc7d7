"""The picture of the path of a group names every hop, and docs/concepts.md says the same in words."""

import importlib
import re
from pathlib import Path

import pytest

from services.figure_style import DPI
from services.path_figure import HEIGHT_PIXELS, HOPS, WIDTH_PIXELS, path_figure

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "concepts.md").read_text()
RECORDS = {
    "shaping.records": ("Prompt", "GroupRequest", "RolloutGroup"),
    "shaping.groups": ("ScoredGroup", "SegmentedGroup", "ShapedGroup"),
    "shaping.training": ("TrainingSample", "StepResult", "WeightManifest"),
    "learner.batch_plan": ("BatchPlan",),
    "learner.losses.base": ("LossOutput",),
}


def test_the_page_has_the_hops_of_the_picture() -> None:
    rows = re.findall(r"^\| (\d+) \| ([a-z ]+) \| `([^`]+)` \| (?:`(\w+)`)? ?\|", PAGE, re.MULTILINE)
    assert rows == [(str(hop.number), hop.owner.value, hop.verb, hop.record) for hop in HOPS]


def test_hops_are_numbered_in_order() -> None:
    assert [hop.number for hop in HOPS] == list(range(1, 13))


@pytest.mark.parametrize("module", RECORDS)
def test_a_record_of_the_picture_exists(module: str) -> None:
    found = importlib.import_module(module)
    assert [name for name in RECORDS[module] if not hasattr(found, name)] == []


def test_every_record_of_the_picture_was_looked_for() -> None:
    assert {hop.record for hop in HOPS if hop.record} == {name for names in RECORDS.values() for name in names}


def test_the_picture_shows_every_hop_and_nothing_runs_out_of_it() -> None:
    figure = path_figure()
    figure.canvas.draw()
    (axes,) = figure.axes
    shown = [text.get_text() for text in axes.texts]
    assert {str(hop.number) for hop in HOPS} <= set(shown)
    assert all(any(line in text for text in shown) for hop in HOPS for line in hop.holds)
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
    assert min(min(box.x0, box.y0) for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= WIDTH_PIXELS
    assert max(box.y1 for box in boxes) <= HEIGHT_PIXELS
    assert figure.dpi == DPI
