"""A study of real runs in processes of their own: killed and gone on with, it comes to what it comes to in one go."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from recipe_builders import make_raw
from toy_policy import toy_changes, write_task, write_toy_policy

pytestmark = [pytest.mark.stack, pytest.mark.slow]

ROOT = Path(__file__).parents[3]
NUM_RUNS = 6
MAX_WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2 arms x 3 seeds x 2 steps, answered by a script: what is sampled follows from the seed."""
    folder = tmp_path_factory.mktemp("study")
    policy = write_toy_policy(folder / "policy")
    changes = {
        "rollout.engine": {"kind": "scripted", "dtype": "float32"},
        "rollout.group_size": 4,
        "data.evaluation": {"kind": "jsonl", "path": str(write_task(folder, number=4)), "steps_field": "steps"},
        "evaluation": {"every_steps": 1, "num_samples": 8},
        # A script knows nothing of the learner's policy.
        "run.max_mismatch_nats": 1e9,
        "run.max_canary_nats": 1e9,
        "run.steps": 2,
        "run.checkpoint": {"every_steps": 1},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(make_raw(toy_changes(policy, folder, changes))))
    raw = {
        "name": "scripted",
        "recipe": "recipe.yaml",
        "arms": {"grpo": {"set": {"shaping.shapers": []}}, "less": {"set": {"shaping.shapers": ["less"]}}},
        "baseline": "grpo",
        "seeds": 3,
        "run": {"jobs": 2},
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def begin(study: Path, out: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "services.cli", "study", str(study), "--out", str(out), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def results(study: Path, out: Path) -> dict[str, Any]:
    """Of a study that runs to its end, what takes time left out."""
    process = begin(study, out)
    told, remarks = process.communicate()
    assert process.returncode == 0, remarks
    found: dict[str, Any] = json.loads(told)
    for each in (*found["arms"].values(), *found["runs"]):
        del each["measures"]["seconds"]
    for each in found["comparisons"].values():
        del each["others"]["seconds"]
    return found


@pytest.fixture(scope="module")
def straight(study: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return results(study, tmp_path_factory.mktemp("straight") / "out")


def wait_until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(int(MAX_WAIT_SECONDS / 0.05)):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {MAX_WAIT_SECONDS:g} s")


def finished(out: Path) -> list[Path]:
    return sorted(out.glob("runs/*/*/summary.json"))


def test_equal_seeds_see_equal_prompts_and_begin_from_equal_weights(straight: dict[str, Any]) -> None:
    assert straight["arms"]["less"]["num_same_prompts"] == 3
    assert len(straight["runs"]) == NUM_RUNS and straight["failures"] == []
    first = {name: each["by_steps"]["means"][0] for name, each in straight["arms"].items()}
    assert first["grpo"] == first["less"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_was_ended_goes_on_to_the_same_results(
    study: Path, straight: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = begin(study, out)
    wait_until(lambda: bool(finished(out)) and len(list(out.glob("runs/*/*"))) > 2, "a run ends and another begins")
    runs = psutil.Process(process.pid).children()
    process.send_signal(number)
    _, remarks = process.communicate()
    assert process.returncode == (130 if number is signal.SIGINT else -number), remarks
    psutil.wait_procs(runs, timeout=MAX_WAIT_SECONDS)
    assert not any(each.is_running() for each in runs), "no run goes on unseen"
    kept = {path: path.stat().st_mtime_ns for path in finished(out) if "completed" in path.read_text()}
    assert 0 < len(kept) < NUM_RUNS
    assert results(study, out) == straight
    assert {path: path.stat().st_mtime_ns for path in kept} == kept, "finished runs are kept as they are"
