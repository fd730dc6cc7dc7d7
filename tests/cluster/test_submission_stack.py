"""The quickstart recipe as a Ray job on a running cluster: exit codes and a run directory that outlives the job."""

import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
RECIPE = "deploy/recipes/quickstart.yaml"
CLUSTER_SECONDS = 120.0
JOB_SECONDS = 420.0

pytestmark = pytest.mark.stack


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A head node of its own on loopback, ended by its processes' ids; yields the environment of its clients."""
    dashboard = free_port()
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    environment.pop("RAY_ADDRESS", None)
    words = [
        *("ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1", "--port=0"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--object-store-memory=200000000"),
        *(f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}"),
    ]
    with (tmp_path / "ray.txt").open("w") as log:
        head = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_dashboard(environment, head, tmp_path / "ray.txt")
        yield environment
    finally:
        processes = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
        head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(processes, timeout=20)
        for process in alive:
            process.kill()
        head.wait(timeout=20)


def wait_for_dashboard(environment: dict[str, str], head: "subprocess.Popen[bytes]", log: Path) -> None:
    headers = {"Authorization": f"Bearer {environment['RAY_AUTH_TOKEN']}"}
    deadline = time.monotonic() + CLUSTER_SECONDS
    while time.monotonic() < deadline:
        assert head.poll() is None, log.read_text()
        try:
            if httpx.get(environment["RAY_API_SERVER_ADDRESS"] + "/api/jobs/", headers=headers).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"no dashboard within {CLUSTER_SECONDS} s: {log.read_text()}")


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
    assert [each.name for each in runs.iterdir()] == ["quickstart"]
