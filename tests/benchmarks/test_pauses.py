"""The benchmark of pauses gives its figures, on one pause of each kind."""

import pytest

from services.reports import PauseMode
from tests.benchmarks import pauses

pytestmark = pytest.mark.stack


def test_every_mode_has_its_figures() -> None:
    report = pauses.measure(1, core=None)
    names = {f"pause_{mode}_{what}_seconds" for mode in PauseMode for what in ("median", "max")}
    assert set(report.figures) == {*names, "num_pauses"}
    assert report.figures["num_pauses"] == len(report.rows["cases"]) == len(pauses.CASES)
    assert all(value > 0 for value in report.figures.values())
