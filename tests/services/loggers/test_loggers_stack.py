"""Every logger on a real run that is killed and goes on: each tool has each step once, as metrics.jsonl does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from event_files import scalars, wandb_records
from mlflow.tracking.client import MlflowClient
from recipe_builders import make_raw, write_recipe
from toy_policy import toy_changes, write_toy_policy
from wandb.proto.wandb_internal_pb2 import Record

pytestmark = [
    pytest.mark.stack,
    # MLflow's own models of its tables.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

DYING = Path(__file__).parents[2] / "support" / "dying_run.py"
CANARY = "canary-of-the-hub-0123456789"
LOGGERS = ["tensorboard", {"kind": "wandb", "mode": "offline"}, "mlflow"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps with a checkpoint every second; it dies as it is about to write that of step 4."""
    folder = tmp_path_factory.mktemp("loggers")
    changes = {
        "evaluation.every_steps": 2,
        "run.steps": 6,
        "run.checkpoint": {"every_steps": 2},
        "run.max_restarts": 2,
        "run.loggers": LOGGERS,
    }
    toy = toy_changes(write_toy_policy(folder / "policy"), folder, changes)
    recipe = write_recipe(folder, make_raw({**toy, "data.evaluation": toy["data.train"]}))
    words = ("train", recipe, "--address", "house", "--run-dir", folder / "run")
    command = [sys.executable, DYING, folder / "died", 1, ".step-000004.part", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_TOKEN": CANARY, "HOME": str(folder)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "goes on from its last checkpoint" in ended.stderr and "the logger" not in ended.stderr
    return folder / "run"


def reported(run_dir: Path, kind: str) -> dict[int, float]:
    """What metrics.jsonl says: reward by step, or accuracy."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    if kind == "step":
        return {each["step"]: each["metrics"]["reward_total_value"] for each in lines if each["kind"] == kind}
    return {each["step"]: each["accuracy"] for each in lines if each["kind"] == kind}


def test_tensorboard_shows_what_metrics_jsonl_holds(run_dir: Path) -> None:
    found = scalars(run_dir / "tensorboard")
    assert found["critic/score/mean"] == [
        (step, pytest.approx(value)) for step, value in reported(run_dir, "step").items()
    ]
    assert found["val/accuracy"] == [
        (step, pytest.approx(value)) for step, value in reported(run_dir, "evaluation").items()
    ]
    assert [step for step, _ in found["val/accuracy"]] == [0, 2, 4, 6]


def test_mlflow_has_each_step_once_in_one_run_that_ended(run_dir: Path) -> None:
    client = MlflowClient(tracking_uri=f"sqlite:///{run_dir / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("lessrl")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    for name, steps in (("critic/score/mean", [1, 2, 3, 4, 5, 6]), ("val/accuracy", [0, 2, 4, 6])):
        assert [each.step for each in client.get_metric_history(run.info.run_id, name)] == steps
    assert run.info.status == "FINISHED" and run.data.params["run.steps"] == "6"


def test_wandb_has_each_step_once_in_two_files_of_one_run(run_dir: Path) -> None:
    files = sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))
    keys = []
    for path in files:
        for data in wandb_records(path):
            record = Record()
            record.ParseFromString(data)
            row = {(item.key or "/".join(item.nested_key)): item.value_json for item in record.history.item}
            if row:
                keys.append(("val", row["val/step"]) if "val/step" in row else ("step", row["training/global_step"]))
    assert len(files) == 2
    assert [int(float(step)) for kind, step in keys if kind == "step"] == [1, 2, 3, 4, 5, 6]
    assert [int(float(step)) for kind, step in keys if kind == "val"] == [0, 2, 4, 6]


def test_no_secret_of_the_environment_is_in_what_a_tool_was_given(run_dir: Path) -> None:
    for path in run_dir.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path


def test_the_log_of_the_run_is_still_its_own(run_dir: Path) -> None:
    # Libraries like to take over logging.
    assert "Traceback" not in (run_dir / "logs" / "driver.log").read_text()
