"""The quickstart recipe as a Ray job on a running cluster: exit codes and a run directory that outlives the job."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import BIN, ray_cluster
from stack_run import ROOT

RECIPE = "deploy/recipes/quickstart.yaml"
JOB_SECONDS = 420.0

pytestmark = pytest.mark.stack


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    with ray_cluster(tmp_path) as environment:
        yield environment


def test_submitted_recipe_trains_and_a_wrong_one_is_refused(cluster: dict[str, str], tmp_path: Path) -> None:
    small = [
        *("--set", "run.steps=2", "--set", "rollout.groups_per_step=4", "--set", "rollout.group_size=4"),
        *("--set", "evaluation.num_problems=8"),
    ]
    runs = tmp_path / "runs"
    words = [str(BIN / "lessrl"), "submit", RECIPE, "--runs", str(runs), *small]
    done = subprocess.run(words, cwd=ROOT, env=cluster, capture_output=True, text=True, timeout=JOB_SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    summary = json.loads((runs / "quickstart" / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["steps"] == 2

    # The plain Ray command: a job that cannot work fails with a non-zero code and one clear line.
    entry = f"lessrl train {RECIPE} --runs {runs} --set learner.mini_batch_groups=5"
    plain = [str(BIN / "ray"), "job", "submit", "--working-dir", "deploy", "--", *entry.replace("deploy/", "").split()]
    refused = subprocess.run(plain, cwd=ROOT, env=cluster, capture_output=True, text=True, timeout=JOB_SECONDS)
    assert refused.returncode != 0
    assert "lessrl: learner.mini_batch_groups must divide rollout.groups_per_step" in refused.stdout + refused.stderr
    assert [each.name for each in runs.iterdir() if each.is_dir()] == ["quickstart"]
