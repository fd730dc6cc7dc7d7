"""The benchmark of metrics gives its figures, of a run that has every series."""

from prometheus_client import generate_latest

from services.metrics.entries import catalogue
from services.metrics.families import FAMILIES
from tests.benchmarks import exposition


def test_it_has_its_figures_and_stays_below_the_budget_of_series() -> None:
    report = exposition.measure(1.0, core=None, num_rounds=1)
    names = {"num_series", "scrape_bytes", "scrape_ms", "step_ms", "bins_ms", "exporter_over_step"}
    assert set(report.figures) == names
    assert 500 < report.figures["num_series"] < 2000


def test_its_run_shows_every_family_that_a_run_can_show() -> None:
    text = generate_latest(exposition.full_run().registry).decode()
    families = {metric.family for metric in catalogue().metrics if metric.is_closed}
    families |= {family.name for family in FAMILIES if family.of_run} - {
        "less_checkpoint_bytes",
        "less_checkpoint_last_success_timestamp_seconds",
    }
    assert {name for name in families if f"{name.removesuffix('_total')}" not in text} == set()
