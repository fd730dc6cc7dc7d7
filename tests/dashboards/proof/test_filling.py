"""Grafana's variables get the values that Grafana would give them."""

import pytest

from dashboards.proof.filling import Window, filled, named

WINDOW = Window(start=1000.0, end=1090.4, step=2, scrape=1)


def test_the_rate_interval_covers_four_scrapes_or_a_step_and_a_scrape() -> None:
    assert [Window(start=0, end=1, step=step, scrape=15).rate_interval for step in (15, 45, 60)] == [60, 60, 75]


def test_every_form_of_a_variable_is_filled() -> None:
    values = {"job": "lessrl", "run_id": ".+"}
    expression = 'rate(x{job=~"$job", run_id=~"${run_id:regex}"}[$__rate_interval]) + y[$__interval] + z[$__range]'
    assert filled(expression, WINDOW, values) == ('rate(x{job=~"lessrl", run_id=~".+"}[4s]) + y[2s] + z[90s]')


def test_a_variable_that_the_dashboard_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the dashboard's variables only, found \$node in"):
        filled('x{node="$node"}', WINDOW, {"job": "a"})


def test_a_legend_is_filled_from_the_labels_of_its_series() -> None:
    labels = {"run_id": "run_1", "phase": "train"}
    assert named("{{run_id}} {{ phase }}", labels) == "run_1 train"
    assert named("{{run_id}} {{worker}}", labels) == "run_1"
    assert named("", labels) == "phase=train, run_id=run_1"
