"""Curves out of metrics.jsonl: the names, the values, and what a cut, a half line or a hundred thousand steps do."""

import math
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_builders import make_evaluation, make_event, make_step
from run_view_builders import append_reports, make_run_dir, write_many_steps

from services.run_dir import METRICS_FILE, reopen_run_dir
from services.run_view.view import RunView
from shaping.errors import UserError
from shaping.histograms import REWARDS, Histogram


def test_a_number_stands_at_its_step_and_null_where_there_is_none(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, num_steps=3))
    assert view.series(["reward_total_value", "evaluation_accuracy"]) == {
        "step": [0, 1, 2, 3],
        "series": {"reward_total_value": [None, 0.1, 0.2, 0.3], "evaluation_accuracy": [0.25, None, None, 0.75]},
    }


def test_every_kind_of_number_has_its_name(tmp_path: Path) -> None:
    step = make_step(1, {"reward_total_value": math.nan}, groups={"trained": 3, "dropped_empty": 1}, step_seconds=4.0)
    append_reports(tmp_path, [step, make_evaluation(1, 0.5, num_decided=6)])
    names = RunView(tmp_path).series_names()
    values = RunView(tmp_path).series(names, max_points=1000)["series"]
    assert {name: each[0] for name, each in values.items() if not name.startswith("val-")} == {
        "reward_total_value": None,
        "groups_trained_count": 3.0,
        "groups_dropped_empty_count": 1.0,
        "phase_wait_batch_s": 0.5,
        "phase_train_s": 1.5,
        "step_s": 4.0,
        "elapsed_s": 4.0,
        "response_tokens": 100.0,
        "evaluation_accuracy": 0.5,
        "evaluation_decided_share": 0.75,
        "evaluation_response_tokens": 20.0,
        "evaluation_s": 1.0,
    }


def test_distributions_of_a_step_are_no_curves(tmp_path: Path) -> None:
    step = replace(make_step(1, {"reward_total_value": 0.5}), histograms={"reward_value": Histogram.of([0.5], REWARDS)})
    append_reports(tmp_path, [step])
    view = RunView(tmp_path)
    assert "reward_value" not in view.series_names()
    assert view.series(["reward_total_value"]) == {"step": [1], "series": {"reward_total_value": [0.5]}}


def test_outcomes_of_a_step_are_those_that_it_reported(tmp_path: Path) -> None:
    metrics = {"groups_mixed_count": 2.0, "groups_without_signal_count": 1.0}
    append_reports(tmp_path, [make_step(5, metrics, groups={"trained": 3, "skipped": 0, "dropped_empty": 1})])
    assert RunView(tmp_path).outcomes(5) == {"trained": 3, "skipped": 0, "dropped_empty": 1}
    assert RunView(tmp_path).outcomes(6) == {}


def test_a_range_of_steps_holds_both_its_ends(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, num_steps=9))
    assert view.series(["reward_total_value"], min_step=4, max_step=6)["step"] == [4, 5, 6]
    assert view.series(["reward_total_value"], min_step=10)["step"] == []


def test_a_metric_of_the_catalogue_that_no_step_has_is_an_empty_curve(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path))
    assert view.series(["learner_loss"]) == {"step": [], "series": {"learner_loss": []}}


@pytest.mark.parametrize(
    ("names", "points", "says"),
    [
        ([], 10, "names must be given, each once, got none"),
        (["step_s", "step_s"], 10, "names must be given, each once, got step_s, step_s"),
        (["reward_totl_value!"], 10, "did you mean 'reward_total_value'"),
        (["step_s"], 3, "max_points must lie in 4 to 20000 for 1 names, got 3"),
        (["step_s"], 20_001, "max_points must lie in"),
    ],
)
def test_what_cannot_be_answered_is_refused(tmp_path: Path, names: list[str], points: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        RunView(make_run_dir(tmp_path)).series(names, max_points=points)


def test_what_is_reported_later_is_added(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, num_steps=2))
    assert view.series(["step_s"])["step"] == [1, 2]
    append_reports(tmp_path, [make_step(3), make_evaluation(3)])
    assert view.series(["step_s"])["step"] == [1, 2, 3]


def test_a_half_line_and_lines_of_junk_are_passed_over(tmp_path: Path) -> None:
    make_run_dir(tmp_path, num_steps=2)
    with (tmp_path / METRICS_FILE).open("ab") as file:
        for junk in (
            b"",
            b"[]",
            b'{"kind": "step"}',
            b'{"kind": "step", "step": "x", "metrics": {}}',
            b"\xff\x00",
            b"1" * 500,
        ):
            file.write(junk + b"\n")
        file.write(b'{"kind": "step", "st')
    view = RunView(tmp_path)
    assert view.series(["step_s"]) == {"step": [1, 2], "series": {"step_s": [2.0, 2.0]}}
    append_reports(tmp_path, [])
    with (tmp_path / METRICS_FILE).open("ab") as file:
        file.write(b'uff"}\n')
    append_reports(tmp_path, [make_step(3)])
    assert view.series(["step_s"])["step"] == [1, 2, 3]


def test_a_run_that_went_back_to_a_checkpoint_shows_its_new_course_alone(tmp_path: Path) -> None:
    make_run_dir(tmp_path, num_steps=2)
    at_checkpoint = os.stat(tmp_path / METRICS_FILE).st_size
    append_reports(tmp_path, [make_step(3, {"reward_total_value": 0.9}), make_step(4), make_event("checkpoint_saved")])
    view = RunView(tmp_path)
    assert view.series(["reward_total_value"])["series"]["reward_total_value"] == [0.1, 0.2, 0.9]
    reopen_run_dir(tmp_path, logs={METRICS_FILE: at_checkpoint})
    # As long as before, and longer, before anybody looks again.
    append_reports(
        tmp_path, [make_event("starting"), *(make_step(step, {"reward_total_value": 0.5}) for step in (3, 4, 5))]
    )
    assert view.series(["reward_total_value"])["series"]["reward_total_value"] == [0.1, 0.2, 0.5, 0.5, 0.5]


def test_100_000_steps_are_thinned_to_true_values_in_bounded_memory(tmp_path: Path) -> None:
    write_many_steps(tmp_path, 100_000, 5)
    tracemalloc.start()
    view = RunView(tmp_path)
    answer = view.series(["reward_r0_value", "reward_r4_value"], max_points=500)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    steps = answer["step"]
    assert len(steps) <= 500 and steps[0] == 1 and steps[-1] == 100_000
    for name, factor in (("reward_r0_value", 1), ("reward_r4_value", 5)):
        # Some window has the step whose residue is 0, some the one with 1008, and a window keeps its ends.
        assert answer["series"][name] == [step * factor % 1009 for step in steps]
        assert min(answer["series"][name]) == 0 and max(answer["series"][name]) == 1008
    # Nine columns of 8 bytes, and a step: 7.2 MB, and what a growing array keeps free.
    assert held < 12e6
    assert peak < 40e6


def test_columns_that_begin_late_are_empty_before(tmp_path: Path) -> None:
    append_reports(tmp_path, [make_step(1), make_step(2, {"learner_loss": 2.0}), make_step(3)])
    values = RunView(tmp_path).series(["step_s", "learner_loss"])["series"]["learner_loss"]
    np.testing.assert_array_equal([each is None for each in values], [True, False, True])
