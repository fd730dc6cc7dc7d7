"""The report is a real picture of the promised size, labelled, and honest about what was not measured."""

import dataclasses
import struct
from pathlib import Path
from typing import Any

import pytest
from report_builders import make_description, make_evaluation, make_event, make_history, make_step

from services.history import RunHistory
from services.report_figure import draw_report, write_report
from services.reports import Failure, RunState

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_size(path: Path) -> tuple[int, int]:
    """Width and height out of the header chunk, which must come first."""
    data = path.read_bytes()
    assert data[:8] == PNG_SIGNATURE
    assert data[12:16] == b"IHDR"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def texts(history: RunHistory) -> list[str]:
    return [text.get_text() for text in draw_report(history, seconds_to_first_step=12.0).texts]


def panels(history: RunHistory) -> dict[str, Any]:
    axes = draw_report(history).axes
    return {each.get_title(loc="left"): each for each in axes if each.get_title(loc="left")}


@pytest.mark.parametrize("num_steps", [1, 2, 40])
def test_the_report_is_a_png_of_1600_by_1000(num_steps: int, tmp_path: Path) -> None:
    history = make_history(num_steps)
    path = tmp_path / "report.png"
    write_report(path, history)
    assert png_size(path) == (1600, 1000)


def test_every_panel_has_a_title_both_labels_and_a_key() -> None:
    found = panels(make_history())
    assert set(found) == {
        "Accuracy",
        "Reward",
        "Token entropy",
        "Response length",
        "Low-entropy segments by class",
        "Multipliers and kept advantage",
        "Step time and sampling speed",
        "Mismatch of sampler and learner",
    }
    for title, axes in found.items():
        assert axes.get_xlabel() == "learner step", title
        assert axes.get_ylabel(), title
        assert axes.get_legend() is not None, title


def test_the_header_tells_name_seed_and_final_numbers() -> None:
    history = make_history(20)
    history.add(make_event("completed", "", RunState.COMPLETED))
    shown = texts(history)
    assert "tiny" in shown
    assert "grpo with less shaping on models/tiny, seed 7" in shown
    assert {"completed", "20 of 20", "40.0% to 90.0%", "40 s", "12 s", "2,000"} <= set(shown)


def test_a_run_that_shapes_nothing_is_told_by_its_estimator_alone() -> None:
    described = make_history(1).description
    assert described.method == "grpo with less shaping"
    assert dataclasses.replace(described, shaping="none").method == "grpo"


def test_the_accuracy_panel_draws_the_evaluations_at_their_steps() -> None:
    axes = panels(make_history(20))["Accuracy"]
    (held_out,) = [line for line in axes.get_lines() if line.get_label() == "held-out problems"]
    assert list(held_out.get_xdata()) == [0, 20]
    assert list(held_out.get_ydata()) == [0.4, 0.9]


def test_class_shares_fill_the_panel() -> None:
    axes = panels(make_history(3))["Low-entropy segments by class"]
    # 600 + 200 + 150 + 50 tokens: the top of the last class is 1.
    tops = [patch.get_y() + patch.get_height() for patch in axes.patches]
    assert max(tops) == pytest.approx(1.0)
    assert len(axes.patches) == 4 * 3


def test_what_was_not_measured_says_so_and_is_no_zero() -> None:
    history = RunHistory(description=make_description())
    history.add(make_evaluation(0, 0.5))
    history.add(make_step(1))
    for title, axes in panels(history).items():
        is_measured = title in ("Accuracy", "Step time and sampling speed")
        notes = [text.get_text() for text in axes.texts]
        assert ("not measured in this run" in notes) != is_measured, title
        if not is_measured:
            assert not axes.get_lines() and not axes.patches, title


def test_a_failed_run_tells_its_cause_even_when_it_reads_like_a_formula() -> None:
    history = RunHistory(description=make_description())
    failure = Failure(role="learner", cause=r"no parse of $\frac$", group_id="g7")
    history.add(make_event("failed", "", RunState.FAILED, failure=failure))
    figure = draw_report(history)
    figure.canvas.draw()
    assert r"learner, group g7: no parse of $\frac$" in [text.get_text() for text in figure.texts]
