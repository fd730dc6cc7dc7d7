"""MLflow's own client finds each point once, in one run, whatever happened to ours."""

from pathlib import Path
from typing import Any

import pytest
from logger_builders import evaluation_point, make_logged_run, step_point
from mlflow.tracking.client import MlflowClient

from services.loggers.mlflow import Config, MlflowLogger, build

# MLflow's own models of its tables.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Making its tables takes a second or two."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'server.db'}"


def opened(database: str, experiment: str, tmp_path: Path, **run: Any) -> MlflowLogger:
    return build(Config(uri=database, experiment=experiment), run=make_logged_run(tmp_path, **run))


def runs_of(database: str, experiment: str) -> tuple[MlflowClient, list[Any]]:
    client = MlflowClient(tracking_uri=database)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client, list(client.search_runs([found.experiment_id]))


def test_a_run_is_found_with_its_curves_its_recipe_and_its_end(database: str, tmp_path: Path) -> None:
    logger = opened(database, "whole", tmp_path)
    for point in (evaluation_point(0, 0.25), step_point(1, 0.5), step_point(2, 0.75)):
        logger.log(point)
    logger.close("completed")
    client, (run,) = runs_of(database, "whole")
    history = client.get_metric_history(run.info.run_id, "critic/score/mean")
    assert [(each.step, each.value) for each in history] == [(1, 0.5), (2, 0.75)]
    assert run.data.metrics["val-core/held_out/acc/mean_at_1"] == 0.25
    assert (run.info.status, run.info.run_name, run.data.tags["lessrl.run_id"]) == ("FINISHED", "tiny", "run_1")
    assert run.data.params == {"seed": "7", "run.steps": "3"}


def test_a_run_that_goes_on_is_the_same_run_and_has_no_step_twice(database: str, tmp_path: Path) -> None:
    before = opened(database, "resumed", tmp_path)
    for point in (step_point(1), step_point(2), evaluation_point(2)):
        before.log(point)
    before.close("paused")
    client, (run,) = runs_of(database, "resumed")
    assert run.info.status == "SCHEDULED"
    after = opened(database, "resumed", tmp_path, first_step=1)
    # MLflow itself merges what is the same to the last digit: told again, these have other values.
    for point in (step_point(1, 0.9), step_point(2, 0.9), evaluation_point(2, 0.9), step_point(3, 0.9)):
        after.log(point)
    assert runs_of(database, "resumed")[1][0].info.status == "RUNNING"
    # An evaluation beside training is told late.
    after.log(evaluation_point(3))
    after.close("cancelled")
    client, (run,) = runs_of(database, "resumed")
    history = client.get_metric_history(run.info.run_id, "critic/score/mean")
    assert [(each.step, each.value) for each in history] == [(1, 0.5), (2, 0.5), (3, 0.9)]
    accuracies = client.get_metric_history(run.info.run_id, "val-core/held_out/acc/mean_at_1")
    assert [(each.step, each.value) for each in accuracies] == [(2, 0.5), (3, 0.5)]
    assert run.info.status == "KILLED"


def test_without_an_address_the_runs_own_directory_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logger = build(Config(), run=make_logged_run(tmp_path))
    logger.log(step_point(1))
    logger.close("failed")
    _, (run,) = runs_of(f"sqlite:///{tmp_path / 'mlflow.db'}", "lessrl")
    assert run.info.status == "FAILED"
