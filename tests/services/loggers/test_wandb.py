"""W&B offline: its files hold each point once, with the step as x axis, and nothing but numbers and the recipe.

W&B starts a service beside the process that uses it: here that is a process of its own, which ends.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from event_files import wandb_records
from logger_builders import make_logged_run
from wandb.proto.wandb_internal_pb2 import Record

from services.loggers.wandb import Config, build
from shaping.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import sys
from pathlib import Path
import psutil
from logger_builders import evaluation_point, make_logged_run, step_point
from services.loggers.wandb import Config, build

run_dir, first_step, outcome, *points = sys.argv[1:]
logger = build(Config(mode="offline", group="sweep"), run=make_logged_run(Path(run_dir), first_step=int(first_step)))
for point in points:
    logger.log((evaluation_point if point.startswith("e") else step_point)(int(point.strip("e"))))
logger.close(outcome)
assert psutil.Process().children() == [], psutil.Process().children()
"""


def log_offline(run_dir: Path, first_step: int, outcome: str, *points: str) -> None:
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "support")))
    environment = {**os.environ, "PYTHONPATH": path, "HOME": str(run_dir), "CLOUD_API_KEY": "canary-of-the-cloud"}
    command = [sys.executable, "-c", SCRIPT, run_dir, first_step, outcome, *points]
    subprocess.run([str(each) for each in command], env=environment, check=True)


def records(run_dir: Path) -> list[Record]:
    """Of all processes, in their order."""
    found = []
    for path in sorted(run_dir.glob("wandb/offline-run-*/*.wandb")):
        for data in wandb_records(path):
            record = Record()
            record.ParseFromString(data)
            found.append(record)
    return found


def rows(run_dir: Path) -> list[dict[str, Any]]:
    """What was logged, without W&B's own columns."""
    found = [each.history.item for each in records(run_dir) if each.HasField("history")]
    plain = [{item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in row} for row in found]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in plain]


def test_an_offline_run_holds_its_points_recipe_axes_and_end(tmp_path: Path) -> None:
    log_offline(tmp_path, 0, "completed", "e0", "1", "2", "e1")
    evaluation = {"val-core/held_out/acc/mean@1": 0.5}
    assert rows(tmp_path) == [
        {"val/step": 0, **evaluation},
        {"training/global_step": 1, "critic/score/mean": 0.5},
        {"training/global_step": 2, "critic/score/mean": 0.5},
        {"val/step": 1, **evaluation},
    ]
    kinds = {each.WhichOneof("record_type"): each for each in records(tmp_path)}
    assert "environment" not in kinds and "output_raw" not in kinds
    run = kinds["run"].run
    assert (run.run_id, run.display_name, run.project, run.run_group) == ("run_1", "tiny", "lessrl", "sweep")
    assert kinds["exit"].exit.exit_code == 0
    axes = {each.metric.glob_name: each.metric.step_metric for each in records(tmp_path) if each.HasField("metric")}
    assert (axes["critic/*"], axes["val-core/*"]) == ("training/global_step", "val/step")
    config = {item.key: item.value_json for item in run.config.update} if run.config.update else {}
    assert json.loads(config.get("run", "{}")).get("steps") == 3
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("wandb/**/*") if path.is_file())
    assert b"canary-of-the-cloud" not in kept and str(ROOT).encode() not in kept


def test_a_run_that_goes_on_is_the_same_run_and_sends_no_step_twice(tmp_path: Path) -> None:
    log_offline(tmp_path, 0, "interrupted", "1", "2", "e2")
    log_offline(tmp_path, 1, "cancelled", "1", "2", "e2", "3")
    assert [row.get("training/global_step", row.get("val/step")) for row in rows(tmp_path)] == [1, 2, 2, 3]
    found = records(tmp_path)
    assert {each.run.run_id for each in found if each.HasField("run")} == {"run_1"}
    assert [each.exit.exit_code for each in found if each.HasField("exit")] == [75, 130]


def test_nobody_is_asked_for_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(UserError, match="W&B must know its user, found no key; set WANDB_API_KEY or run `wandb login`"):
        build(Config(), run=make_logged_run(tmp_path))
