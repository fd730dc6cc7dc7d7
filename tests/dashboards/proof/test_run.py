"""Where the metrics of a run's Ray are, and what happened in it, is read from what both leave on the disk."""

import json
from pathlib import Path

from proof_builders import dashboard_answer, panel_answer, series

from dashboards.build import dashboards
from dashboards.proof.allowed import ALLOWED
from dashboards.proof.run import ray_targets
from dashboards.proof.telling import complaints, cost_of, table
from dashboards.reading import panels


def test_ray_is_found_by_its_own_discovery_file(tmp_path: Path) -> None:
    (tmp_path / "metrics_export_port_aa").write_text("7001")
    found = [{"labels": {"job": "ray"}, "targets": ["10.0.0.1:7000", "10.0.0.1:44217"]}]
    (tmp_path / "prom_metrics_service_discovery.json").write_text(json.dumps(found))
    assert ray_targets(tmp_path) == ["10.0.0.1:7000", "10.0.0.1:44217"]


def test_a_ray_without_that_file_is_found_by_the_ports_that_its_nodes_wrote(tmp_path: Path) -> None:
    assert ray_targets(tmp_path) == []
    for node, port in (("aa", "7001\n"), ("bb", "0"), ("cc", "")):
        (tmp_path / f"metrics_export_port_{node}").write_text(port)
    assert ray_targets(tmp_path) == ["127.0.0.1:7001"]


def test_only_the_runs_own_series_count_for_what_a_scrape_costs() -> None:
    text = '# HELP less_a A\nless_a{run_id="r"} 1\nless_a{run_id="r",x="y"} 2\nless_api 1\npython_info 1\n'
    cost = cost_of(text, [0.001, 0.002, 0.009])
    assert (cost.size, cost.series) == (len(text), 2)
    assert str(cost) == "/metrics: 0 kB, 2 series of the run, 2.0 ms (median of 3), 9.0 ms at most"


def test_the_table_counts_queries_series_points_and_gaps() -> None:
    answer = dashboard_answer(panel_answer("Loss", series(1.0, float("nan")), series(2.0)), panel_answer("Empty"))
    _, line = table([answer], [])
    assert line.split() == ["test", "2", "2", "2", "2", "1", "0"]
    assert list(complaints([])) == ["every panel, variable and annotation shows the run"]


def test_what_may_be_empty_exists_and_says_why() -> None:
    known = {(uid, panel.title) for uid, each in dashboards().items() for panel in panels(each)}
    assert [each for each in ALLOWED if (each.dashboard, each.panel) not in known or not each.reason] == []
