"""TensorBoard's own reader finds each point once, whatever happened to the run."""

from pathlib import Path

import pytest
from event_files import scalars
from logger_builders import evaluation_point, make_logged_run, step_point
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from services.loggers.tensorboard import Config, TensorBoardLogger, build, finite_ranges
from shaping.histograms import Histogram


def opened(run_dir: Path, *, first_step: int = 0, histograms: bool = True) -> TensorBoardLogger:
    return build(Config(histograms=histograms), run=make_logged_run(run_dir, first_step=first_step))


def test_points_are_read_back_with_their_steps_and_names(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    for point in (evaluation_point(0, 0.25), step_point(1, 0.5), step_point(2, 0.75), evaluation_point(2, 1.0)):
        logger.log(point)
    logger.close("completed")
    assert scalars(tmp_path / "tensorboard") == {
        "training/global_step": [(1, 1.0), (2, 2.0)],
        "critic/score/mean": [(1, 0.5), (2, 0.75)],
        "val/step": [(0, 0.0), (2, 2.0)],
        "val-core/held_out/acc/mean@1": [(0, 0.25), (2, 1.0)],
    }


def test_a_killed_process_leaves_every_point_that_it_logged(tmp_path: Path) -> None:
    logger = opened(tmp_path)
    logger.log(step_point(1))
    assert scalars(tmp_path / "tensorboard")["critic/score/mean"] == [(1, 0.5)]
    logger.close("failed")


def test_a_run_that_goes_on_shows_no_step_twice_and_none_of_what_it_took_back(tmp_path: Path) -> None:
    before = opened(tmp_path)
    for step in (1, 2, 3):
        before.log(step_point(step, 0.1))
    # Evaluated at the checkpoint's own step, then killed: the evaluation is told again.
    before.log(evaluation_point(2, 0.1))
    before.close("interrupted")
    after = opened(tmp_path, first_step=2)
    # The past, then what is new.
    for point in (step_point(1, 0.9), step_point(2, 0.1), evaluation_point(2, 0.1), step_point(3, 0.9)):
        after.log(point)
    after.close("completed")
    found = scalars(tmp_path / "tensorboard")
    assert [(step, round(value, 3)) for step, value in found["critic/score/mean"]] == [(1, 0.1), (2, 0.1), (3, 0.9)]
    assert [step for step, _ in found["val/step"]] == [2]


def test_what_an_earlier_process_did_not_come_to_is_shown_too(tmp_path: Path) -> None:
    before = opened(tmp_path)
    # It was slow, and killed: step 2 waited. The evaluation after step 1 had its answers, and was not told.
    before.log(step_point(1, 0.1))
    before.close("interrupted")
    after = opened(tmp_path, first_step=3)
    past = [step_point(1, 0.9), step_point(2, 0.2), step_point(3, 0.3)]
    for point in (*past, evaluation_point(1), step_point(4, 0.4)):
        after.log(point)
    after.close("interrupted")
    # Back to step 2: what was logged of later ones is taken back.
    last = opened(tmp_path, first_step=2)
    for point in (step_point(1, 0.9), step_point(2, 0.2), evaluation_point(1), step_point(3, 0.5)):
        last.log(point)
    last.close("completed")
    found = scalars(tmp_path / "tensorboard")
    assert [(step, round(value, 3)) for step, value in found["critic/score/mean"]] == [(1, 0.1), (2, 0.2), (3, 0.5)]
    assert [step for step, _ in found["val/step"]] == [1]


def test_a_logger_that_is_added_to_a_run_that_goes_on_shows_its_past(tmp_path: Path) -> None:
    logger = opened(tmp_path, first_step=2)
    for step in (1, 2, 3):
        logger.log(step_point(step))
    logger.close("completed")
    assert [step for step, _ in scalars(tmp_path / "tensorboard")["critic/score/mean"]] == [1, 2, 3]


def test_a_distribution_is_a_histogram_unless_the_recipe_says_no(tmp_path: Path) -> None:
    # 2 values up to 1, none up to 2, 3 above.
    point = step_point(1, histograms={"critic/advantages": Histogram((1.0, 2.0), (2, 0, 3), 11.0)})
    for folder, histograms in (("with", True), ("without", False)):
        logger = opened(tmp_path / folder, histograms=histograms)
        logger.log(point)
        logger.close("completed")
    found = EventAccumulator(str(tmp_path / "with" / "tensorboard")).Reload()
    (event,) = found.Histograms("critic/advantages")
    value = event.histogram_value
    assert (event.step, value.num, value.sum, value.min, value.max) == (1, 5, 11.0, 0.0, 3.0)
    assert (list(value.bucket_limit), list(value.bucket)) == ([1.0, 2.0, 3.0], [2, 0, 3])
    assert EventAccumulator(str(tmp_path / "without" / "tensorboard")).Reload().Tags()["histograms"] == []


@pytest.mark.parametrize(
    ("counts", "edges", "held"),
    [
        ((0, 4, 0, 0), [1.0, 3.0], [4]),
        ((1, 0, 0, 0), [-1.0, 1.0], [1]),
        ((0, 0, 1, 2), [3.0, 7.0, 11.0], [1, 2]),
    ],
)
def test_ranges_that_hold_nothing_are_not_drawn_at_the_ends(
    counts: tuple[int, ...], edges: list[float], held: list[int]
) -> None:
    assert finite_ranges(Histogram((1.0, 3.0, 7.0), counts, 0.0)) == (edges, held)
