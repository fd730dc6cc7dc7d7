"""deploy/slurm/run.sbatch on a real Slurm of this machine: pre-empted, requeued, resumed, completed.

Opt-in, as it needs root and Debian's slurmctld, slurmd, slurm-client and munge, and starts them:
`LESSRL_SLURM=1 python -m pytest tests/deploy/test_slurm_real.py`, about two minutes.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_law import check_ledger
from ray_cluster import BIN
from recipe_builders import write_recipe
from slurm_cluster import SlurmCluster, missing_programs, slurm_cluster
from stack_run import ROOT, read_lines
from survival_recipe import GROUPS_PER_STEP, write_toy_survival

SCRIPT = ROOT / "deploy" / "slurm" / "run.sbatch"
START_SECONDS, END_SECONDS = 120.0, 240.0
NUM_STEPS = 300
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("LESSRL_SLURM") != "1", reason="starts a Slurm as root; set LESSRL_SLURM=1"),
    pytest.mark.skipif(bool(missing_programs()), reason=f"Slurm is not installed here: {missing_programs()}"),
]


@pytest.fixture
def node() -> Iterator[SlurmCluster]:
    with slurm_cluster() as cluster:
        yield cluster


class Job:
    """One run.sbatch over the toy policy, or a recipe of its own."""

    def __init__(
        self,
        cluster: SlurmCluster,
        folder: Path,
        *,
        num_steps: int,
        nodes: int = 1,
        gpus: int = 0,
        recipe: Path | None = None,
    ) -> None:
        self._cluster = cluster
        self.run_dir, self._output = folder / "run", folder / "job.txt"
        cluster.environment |= {
            "HOME": str(folder),
            "LESSRL_BIN": str(BIN),
            "LESSRL_TEMP": str(cluster.folder),
            "LESSRL_START_SECONDS": str(START_SECONDS),
            "LESSRL_RAY_OPTIONS": "--object-store-memory=200000000 --dashboard-agent-listen-port=0",
            "OMP_NUM_THREADS": "1",
        }
        words = [f"--nodes={nodes}", f"--gpus-per-node={gpus}", f"--output={self._output}", str(SCRIPT)]
        run = [str(recipe or write_toy_survival(folder)), str(self.run_dir), "--set", f"run.steps={num_steps}"]
        self.id = cluster.call("sbatch", "--parsable", *words, *run).strip()

    @property
    def state(self) -> dict[str, str]:
        return self._cluster.job(self.id)

    @property
    def printed(self) -> str:
        return self._output.read_text() if self._output.exists() else ""

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = read_lines(self.run_dir / "metrics.jsonl")
        return [each for each in lines if each["kind"] == "event" and each["event"] == name]

    def wait_for_checkpoint(self) -> None:
        self._cluster.wait_for("a checkpoint", lambda: bool(self.events("checkpoint_saved")), START_SECONDS)

    def wait_for_end(self) -> dict[str, str]:
        self._cluster.wait_for("the job's end", lambda: self.state["JobState"] in ENDED, END_SECONDS)
        return self.state


def test_a_preempted_run_is_paused_requeued_resumed_and_completed(node: SlurmCluster, tmp_path: Path) -> None:
    job = Job(node, tmp_path, num_steps=NUM_STEPS)
    job.wait_for_checkpoint()
    other = node.call("sbatch", "--parsable", "--partition=high", "--exclusive", "--output=other.txt", "--wrap=date")
    node.wait_for("the other job's end", lambda: node.job(other.strip())["JobState"] == "COMPLETED", END_SECONDS)
    [paused] = job.events("paused")
    checkpoint = paused["details"]["checkpoint"]
    step = int(checkpoint.removeprefix("step-").split(".")[0])
    assert 0 < step < NUM_STEPS, "it was in the middle"
    assert not (job.run_dir / "summary.json").exists(), "the run has not ended"
    assert list(node.folder.glob("ray-*")) == [], "nothing of the first Ray stays on the node"

    ended = job.wait_for_end()
    assert (ended["JobState"], ended["Restarts"], ended["ExitCode"]) == ("COMPLETED", "1", "0:0"), job.printed
    summary = json.loads((job.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", NUM_STEPS)
    check_ledger(job.run_dir, num_steps=NUM_STEPS, groups_per_step=GROUPS_PER_STEP)
    assert "the run ended with 143" in job.printed and "the job is requeued" in job.printed


def test_a_job_that_is_told_to_end_by_its_user_is_cancelled_with_a_checkpoint_and_not_requeued(
    node: SlurmCluster, tmp_path: Path
) -> None:
    job = Job(node, tmp_path, num_steps=100_000)
    job.wait_for_checkpoint()
    node.call("scancel", "--signal=INT", "--batch", job.id)
    ended = job.wait_for_end()
    assert (ended["JobState"], ended["Restarts"], ended["ExitCode"]) == ("FAILED", "0", "130:0"), job.printed
    assert json.loads((job.run_dir / "summary.json").read_text())["status"] == "cancelled"


def test_every_node_and_gpu_of_a_job_joins_one_ray(tmp_path: Path) -> None:
    with slurm_cluster(num_nodes=2, gpus_per_node=8) as cluster:
        # As it is shipped: two nodes, eight GPUs each.
        cluster.call("sbatch", "--test-only", str(SCRIPT), "recipe.yaml", "run")
        job = Job(cluster, tmp_path, num_steps=20, nodes=2, gpus=8)
        ended = job.wait_for_end()
        assert (ended["JobState"], ended["ExitCode"], ended["NumNodes"]) == ("COMPLETED", "0:0", "2"), job.printed
        assert "must join" not in job.printed


def test_a_recipe_that_cannot_work_ends_the_job_with_its_code(node: SlurmCluster, tmp_path: Path) -> None:
    job = Job(node, tmp_path, num_steps=1, recipe=write_recipe(tmp_path, {"learner.mini_batch_groups": 3}))
    ended = job.wait_for_end()
    assert (ended["JobState"], ended["Restarts"], ended["ExitCode"]) == ("FAILED", "0", "2:0"), job.printed
    assert "learner.mini_batch_groups must divide" in job.printed
