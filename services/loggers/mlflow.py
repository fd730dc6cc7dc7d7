"""MLflow: a tracking server, or a SQLite file in the run's directory (`mlflow ui --backend-store-uri sqlite:///...`).

A process that goes on finds the MLflow run by its tag `lessrl.run_id`. What MLflow has it keeps: a step that is made
again after a crash is not logged again. MLflow knows no "@" in names: `mean@8` is `mean_at_8` there, as in verl.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from services.loggers.base import LoggedPoint, LoggedRun
from services.metrics.field_names import EVALUATION_STEP_NAME, STEP_NAME
from shaping.components import import_module_of
from shaping.secret_references import resolve_references
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()
LIBRARY = "mlflow"
DATABASE = "mlflow.db"
ARTIFACTS = "mlflow-artifacts"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
RUN_TAG = "lessrl.run_id"
MAX_PARAMETERS = 100
MAX_PARAMETER_CHARACTERS = 500
"""What every MLflow server takes."""

MAX_METRICS = 1000
STATUSES = {"completed": "FINISHED", "cancelled": "KILLED", "paused": "SCHEDULED", "interrupted": "SCHEDULED"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    uri: of a tracking server or database, `${env:NAME}` and `${file:PATH}` where it holds a password; "" takes
        MLFLOW_TRACKING_URI, or a file in the run's directory.
    experiment: under which the run appears.
    """

    uri: str = ""
    experiment: str = "lessrl"

    def __post_init__(self) -> None:
        if not self.experiment:
            raise ValueError("experiment must be a name, got ''")
        if "${" not in (urlsplit(self.uri).password or "${"):
            raise ValueError("uri must hold no password, which the recipe would show; write ${env:NAME} in its place")


def build(config: Config, *, run: LoggedRun) -> "MlflowLogger":
    """Open the MLflow run, or continue it.

    Raises:
        MlflowException: the tracking server does not answer, or refuses.
    """
    return MlflowLogger(config, run)


class MlflowLogger:
    """Logs each point as one batch."""

    def __init__(self, config: Config, run: LoggedRun) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # As it makes its tables it says so, in the middle of the run's own view.
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        self._entities = import_module_of("mlflow", "entities")
        tracking = import_module_of("mlflow.tracking", "client")
        logging.getLogger("alembic").setLevel(logging.WARNING)
        local = "" if config.uri or os.environ.get(URI_VARIABLE) else f"sqlite:///{run.run_dir / DATABASE}"
        self._client = tracking.MlflowClient(
            tracking_uri=resolve_references(config.uri, "run.loggers") or local or None
        )
        experiment = self._client.get_experiment_by_name(config.experiment)
        if experiment is None:
            artifacts = (run.run_dir / ARTIFACTS).as_uri() if local else None
            experiment_id = self._client.create_experiment(config.experiment, artifact_location=artifacts)
        else:
            experiment_id = experiment.experiment_id
        found = self._client.search_runs([experiment_id], filter_string=f"tags.`{RUN_TAG}` = '{run.run_id}'")
        self._id = found[0].info.run_id if found else self._begin(experiment_id, run)
        self._client.update_run(self._id, status="RUNNING")
        logged = self._client.get_run(self._id).data.metrics
        self._logged = {name: logged.get(name, -1.0) for name in (STEP_NAME, EVALUATION_STEP_NAME)}

    def log(self, point: LoggedPoint) -> None:
        mark = EVALUATION_STEP_NAME if point.is_evaluation else STEP_NAME
        if point.step <= self._logged[mark]:
            return
        at = int(point.at * 1000)
        metric = self._entities.Metric
        names = sorted(point.values, key=lambda name: name == mark)
        # The mark comes last: what a killed process logged in part is logged again.
        for part in _parts([metric(field_name(name), point.values[name], at, point.step) for name in names]):
            self._client.log_batch(self._id, metrics=part, synchronous=True)
        self._logged[mark] = point.step

    def close(self, outcome: str) -> None:
        status = STATUSES.get(outcome, "FAILED")
        self._client.set_tag(self._id, "lessrl.outcome", outcome)
        if status == "SCHEDULED":
            self._client.update_run(self._id, status=status)
        else:
            self._client.set_terminated(self._id, status=status)

    def _begin(self, experiment_id: str, run: LoggedRun) -> str:
        tags = {RUN_TAG: run.run_id, "lessrl.run_dir": str(run.run_dir)}
        begun = self._client.create_run(experiment_id, run_name=run.name, tags=tags)
        texts = ((key, str(value)[:MAX_PARAMETER_CHARACTERS]) for key, value in _flat(run.config))
        parameters = [self._entities.Param(key, text) for key, text in texts]
        for part in _parts(parameters, MAX_PARAMETERS):
            self._client.log_batch(begun.info.run_id, params=part, synchronous=True)
        run_id: str = begun.info.run_id
        return run_id


def field_name(name: str) -> str:
    """As MLflow lets a metric be called."""
    return name.replace("@", "_at_")


def _parts(items: list[Any], size: int = MAX_METRICS) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves by dotted key; a list is a leaf."""
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
