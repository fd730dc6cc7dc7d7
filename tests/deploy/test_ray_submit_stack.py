"""deploy/ray/submit.sh against a real Ray: a run that completes, an id that is taken, a run refused, and one stopped.

`python -m pytest tests/deploy/test_ray_submit_stack.py`, about two minutes.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray_cluster import BIN, ray_cluster
from stack_run import ROOT
from survival_recipe import write_toy_survival

SCRIPT = ROOT / "deploy" / "ray" / "submit.sh"
JOB_SECONDS = 240.0
# One engine: the cluster has two CPUs, and the driver claims one half of one.
SMALL = ("--set", "rollout.num_workers=1")

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "home"
    home.mkdir()
    with ray_cluster(home) as environment:
        yield {**environment, "LESSRL_JOB_CPUS": "0.5"}


def start(cluster: dict[str, str], recipe: Path, job: str, *more: str) -> "subprocess.Popen[str]":
    runs = str(recipe.parent.parent / "runs")
    return subprocess.Popen(
        ["bash", str(SCRIPT), recipe.name, runs, *SMALL, *more],
        cwd=recipe.parent,
        env={**cluster, "LESSRL_JOB": job},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and what was printed."""
    printed, _ = process.communicate(timeout=JOB_SECONDS)
    return process.returncode, printed


def test_the_script_ends_with_the_code_of_the_run(tmp_path: Path, cluster: dict[str, str]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    recipe, run_dir = write_toy_survival(work), tmp_path / "runs" / "survival"

    code, printed = ended(start(cluster, recipe, "completes", "--set", "run.steps=3"))
    assert code == 0, printed
    assert json.loads((run_dir / "summary.json").read_text())["status"] == "completed"

    code, printed = ended(start(cluster, recipe, "completes", "--set", "run.steps=3"))
    assert code == 3, printed
    assert "completes" in printed and "already exists" in printed

    code, printed = ended(start(cluster, recipe, "is-refused", "--set", "learner.mini_batch_groups=3"))
    assert code == 2, printed
    assert "learner.mini_batch_groups must divide" in printed
    assert [each.name for each in run_dir.parent.iterdir() if each.is_dir()] == ["survival"]

    endless = start(cluster, recipe, "is-stopped", "--set", "name=stopped")
    metrics = tmp_path / "runs" / "stopped" / "metrics.jsonl"
    ends_at = time.monotonic() + JOB_SECONDS
    while not (metrics.exists() and '"kind": "step"' in metrics.read_text()):
        assert endless.poll() is None and time.monotonic() < ends_at
        time.sleep(0.1)
    stop = [str(BIN / "ray"), "job", "stop", "is-stopped"]
    subprocess.run(stop, env=cluster, check=True, capture_output=True, timeout=JOB_SECONDS)
    code, printed = ended(endless)
    assert code == 130, printed
    while not (metrics.parent / "summary.json").exists():
        assert time.monotonic() < ends_at
        time.sleep(0.1)
    assert json.loads((metrics.parent / "summary.json").read_text())["status"] == "cancelled"
    assert list((metrics.parent / "checkpoints").glob("step-*"))
