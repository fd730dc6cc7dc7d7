"""Loggers of a run: none can end or slow it, and each is told what it needs and no secret."""

import threading
from pathlib import Path

import pytest
from logger_builders import KeptLogger, step_point
from recipe_builders import make_recipe, write_recipe
from report_builders import make_evaluation, make_event, make_step

from services.control.redaction import Redactor
from services.metrics.entries import catalogue
from services.metrics.field_names import FieldNames
from services.plugins import LOGGERS, check_loggers, loaded_loggers
from services.reports import RunState
from services.run_loggers import BackgroundLogger, RunLoggers
from services.run_setup import prepare_run
from shaping.components import kinds
from shaping.errors import RecipeError

SECONDS = 30.0


def opened(kept: KeptLogger, told: list[str], **options: object) -> BackgroundLogger:
    return BackgroundLogger("kept", lambda: kept, told.append, **options)  # type: ignore[arg-type]


def test_a_logger_gets_the_past_then_every_point_in_order_on_its_own_thread_and_the_outcome() -> None:
    kept, told = KeptLogger(), []
    background = opened(kept, told, past=[step_point(1), step_point(2)])
    for step in (3, 4):
        background.put(step_point(step))
    background.close("completed", SECONDS)
    assert (kept.steps, kept.outcome, kept.thread) == ([1, 2, 3, 4], "completed", "logger-kept")
    assert told == []


def test_a_logger_that_fails_is_told_once_and_takes_in_the_rest_for_nothing() -> None:
    kept, told, has_failed = KeptLogger(fails_at=2), [], threading.Event()

    def tell(message: str) -> None:
        told.append(message)
        has_failed.set()

    background = BackgroundLogger("kept", lambda: kept, tell, max_waiting=50)
    for step in (1, 2):
        background.put(step_point(step))
    assert has_failed.wait(SECONDS)
    for step in range(3, 50):
        background.put(step_point(step))
    background.close("completed", SECONDS)
    assert told == [
        "the logger kept failed and logs no more, the run goes on: OSError: No space left on device; metrics.jsonl "
        "has everything (run.loggers)"
    ]
    assert kept.steps == [1] and kept.outcome == ""
    background.put(step_point(50))


def test_a_logger_that_cannot_be_opened_or_closed_is_told_too() -> None:
    def refuses() -> KeptLogger:
        raise ModuleNotFoundError("no module of that name")

    told: list[str] = []
    BackgroundLogger("kept", refuses, told.append).close("completed", SECONDS)
    opened(KeptLogger(fails_to_close=True), told).close("completed", SECONDS)
    assert ["no module of that name" in told[0], "nobody answers" in told[1], len(told)] == [True, True, 2]


def test_what_a_library_says_as_it_fails_is_told_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    def refuses() -> KeptLogger:
        raise ConnectionError("no answer from http://me:canary-secret@host/api")

    told: list[str] = []
    mask = Redactor(["canary-secret"]).text
    BackgroundLogger("kept", refuses, told.append, mask=mask).close("completed", SECONDS)
    assert "no answer from http://me:[redacted]@host/api" in told[0]
    assert "http://me:[redacted]@host/api" in caplog.text and "canary-secret" not in caplog.text


def test_points_that_a_slow_logger_does_not_take_are_left_out_of_it_and_told_once() -> None:
    kept, told = KeptLogger(gate=threading.Event()), []
    background = opened(kept, told, max_waiting=2)
    # One is in its hands, two wait for it at most: of ten points it never gets more than three.
    for step in range(1, 11):
        background.put(step_point(step))
    assert len(told) == 1 and "2 points wait for it" in told[0]
    assert kept.gate is not None
    kept.gate.set()
    background.close("completed", SECONDS)
    assert 2 <= len(kept.points) <= 3 and kept.outcome == "completed"


def test_a_logger_that_hangs_is_left_alone_at_the_end() -> None:
    kept, told = KeptLogger(gate=threading.Event()), []
    background = opened(kept, told)
    background.put(step_point(1))
    background.close("completed", 0.01)
    assert len(told) == 1 and "did not end within 0.01 s" in told[0]
    assert kept.gate is not None
    kept.gate.set()
    background.close("completed", SECONDS)


def test_steps_and_evaluations_reach_every_logger_under_the_fields_names_and_events_none() -> None:
    first, second, told = KeptLogger(), KeptLogger(), []
    backgrounds = [opened(each, told) for each in (first, second)]
    loggers = RunLoggers(loggers=backgrounds, names=FieldNames(catalogue()), clock=lambda: 5.0)
    for report in (make_event("started"), make_step(1, {"reward_total_value": 0.25}), make_evaluation(1, 0.75)):
        loggers.show(report)
    for each in backgrounds:
        each.close(loggers.outcome, SECONDS)
    for kept in (first, second):
        step, evaluation = kept.points
        assert (step.values["critic/score/mean"], step.at, step.is_evaluation) == (0.25, 5.0, False)
        assert (evaluation.values["val/accuracy"], evaluation.step, evaluation.is_evaluation) == (0.75, 1, True)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [(RunState.COMPLETED, "completed"), (RunState.PAUSED, "paused"), (None, "interrupted"), ("released", "paused")],
)
def test_the_end_of_a_sitting_has_a_word(end: object, outcome: str) -> None:
    loggers = RunLoggers(loggers=(), names=FieldNames(catalogue()), clock=lambda: 0.0)
    assert loggers.outcome == "failed"
    loggers.end_with(end)
    assert loggers.outcome == outcome


# -- a recipe's loggers


def test_every_kind_is_named_as_the_extra_that_installs_it() -> None:
    recipe = make_recipe({"run.loggers": kinds(LOGGERS)})
    assert {key: each.module.LIBRARY for key, each in loaded_loggers(recipe).items()} == {
        "run.loggers[0]": "mlflow",
        "run.loggers[1]": "tensorboard",
        "run.loggers[2]": "wandb",
    }
    check_loggers(recipe)


def test_a_logger_whose_library_is_missing_is_refused_before_anything_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_recipe(tmp_path, {"run.loggers": ["wandb"]})
    recipe = make_recipe({"run.loggers": ["wandb"]})
    monkeypatch.setattr("services.loggers.wandb.LIBRARY", "no_such_library")
    with pytest.raises(RecipeError) as refused:
        prepare_run(recipe, run_dir=None, runs=tmp_path / "runs", address="house")
    assert str(refused.value) == (
        "wandb must have its library, found no package no_such_library here; pip install 'lessrl[wandb]', or remove "
        "it (run.loggers[0])"
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("loggers", "told"),
    [
        (["tensorbord"], "no loggers kind 'tensorbord'; did you mean 'tensorboard'? (run.loggers[0])"),
        ([{"kind": "wandb", "projct": "x"}], "unknown option 'projct'; did you mean 'project'? (run.loggers[0].wandb)"),
        ([{"kind": "wandb", "mode": "of"}], "must be one of online, offline, got 'of' (run.loggers[0].wandb.mode)"),
        (
            [{"kind": "mlflow", "uri": "postgresql://me:mine@host/${env:DATABASE}"}],
            "uri must hold no password, which the recipe would show; write ${env:NAME} in its place "
            "(run.loggers[0].mlflow)",
        ),
        (
            [{"kind": "mlflow", "uri": "postgresql://me:mine@host/db"}],
            "uri must hold no password, which the recipe would show; write ${env:NAME} in its place "
            "(run.loggers[0].mlflow)",
        ),
    ],
)
def test_a_mistake_in_a_logger_is_told_by_its_key(loggers: list[object], told: str) -> None:
    with pytest.raises(RecipeError) as refused:
        loaded_loggers(make_recipe({"run.loggers": loggers}))
    assert str(refused.value) == told


def test_two_loggers_of_one_kind_are_refused() -> None:
    with pytest.raises(RecipeError, match="loggers must be of different kinds, got wandb, wandb"):
        make_recipe({"run.loggers": ["wandb", {"kind": "wandb", "project": "other"}]})
