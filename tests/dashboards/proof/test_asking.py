"""What a dashboard asks is answered as by the Prometheus behind a Grafana: a real one, over samples written here."""

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from proof_builders import annotation_json, dashboard_json, panel_json, variable_json

from dashboards.proof.asking import DashboardAnswer, ask
from dashboards.proof.filling import Window
from dashboards.proof.prometheus import Prometheus, QueryRefused, started

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed: Debian's package prometheus has it"
)

START = 1_700_000_000
SECONDS = 20
WINDOW = Window(start=START, end=START + SECONDS, step=2, scrape=1)


def samples() -> str:
    """A second apart: 10 tokens a second; paused at seconds 4 to 6 and 12 to 14; checkpoints at second 3 and 9."""
    lines = ["# TYPE tokens counter"]
    lines += [f'tokens_total{{job="a",run_id="run_1"}} {10 * at} {START + at}' for at in range(SECONDS + 1)]
    lines += ["# TYPE paused gauge"]
    paused = {*range(4, 7), *range(12, 15)}
    lines += [f'paused{{job="a",run_id="run_1"}} {int(at in paused)} {START + at}' for at in range(SECONDS + 1)]
    lines += ["# TYPE saved gauge"]
    lines += [f'saved{{job="a"}} {START + (3 if at < 9 else 9)} {START + at}' for at in range(3, SECONDS + 1)]
    return "\n".join([*lines, "# EOF", ""])


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "samples.txt").write_text(samples())
    words = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "samples.txt", "data"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    with started(folder, targets={}, scrape=1) as found:
        yield found


@pytest.fixture(scope="module")
def answer(prometheus: Prometheus) -> DashboardAnswer:
    of_run = 'tokens_total{job=~"$job", run_id=~"$run_id"}'
    return ask(
        dashboard_json(
            panel_json("Tokens", f"rate({of_run}[$__rate_interval])", "nothing", "rate(", "$other"),
            variables=[
                variable_json("job", "label_values(tokens_total, job)", all_value=""),
                variable_json("run_id", 'label_values(tokens_total{job=~"$job"}, run_id)'),
                variable_json("missing", "label_values(nothing, job)"),
                variable_json("wrong", "tokens_total"),
            ],
            annotations=[
                annotation_json("Pause", "paused > 0"),
                annotation_json("Checkpoint", "saved * 1000", value_is_time=True),
                annotation_json("Broken", "rate("),
            ],
        ),
        prometheus,
        WINDOW,
    )


def test_a_variable_gets_its_values_from_the_series(answer: DashboardAnswer) -> None:
    assert [each.values for each in answer.variables] == [("a",), ("run_1",), (), ()]
    assert [bool(each.refusal) for each in answer.variables] == [False, False, False, True]


def test_a_variable_that_has_no_word_for_all_is_filled_with_all_its_values(answer: DashboardAnswer) -> None:
    expression = answer.panels[0].targets[0].expression
    assert expression == 'rate(tokens_total{job=~"a", run_id=~".+"}[4s])'


def test_a_query_gives_a_point_for_each_step_of_the_window(answer: DashboardAnswer) -> None:
    """10 tokens a second, of which the first 4 seconds have at second 2 seen 20 in all: 20 / 4."""
    [series] = answer.panels[0].targets[0].series
    assert series.labels == {"job": "a", "run_id": "run_1"}
    assert series.values == (5.0, *(10.0,) * 9)
    assert series.times == tuple(float(START + at) for at in range(2, SECONDS + 1, 2))


def test_what_prometheus_cannot_read_is_said_in_its_words(answer: DashboardAnswer) -> None:
    _, nothing, broken, unfilled = answer.panels[0].targets
    assert (nothing.series, nothing.refusal) == ((), "")
    assert broken.refusal.startswith("bad_data: ")
    assert "found $other in" in unfilled.refusal
    assert answer.annotations[2].refusal.startswith("bad_data: ")


def test_neighbouring_points_are_one_mark(answer: DashboardAnswer) -> None:
    assert answer.annotations[0].marks == ((START + 4.0, START + 6.0), (START + 12.0, START + 14.0))


def test_a_value_that_is_a_time_is_a_mark_at_that_time(answer: DashboardAnswer) -> None:
    assert answer.annotations[1].marks == ((START + 3.0, START + 3.0), (START + 9.0, START + 9.0))


def test_a_query_for_one_time_gives_one_value(prometheus: Prometheus) -> None:
    [series] = prometheus.at("tokens_total", START + 7)
    assert (series.times, series.values) == ((START + 7,), (70.0,))
    with pytest.raises(QueryRefused, match="must give series, found scalar"):
        prometheus.at("1", START)
