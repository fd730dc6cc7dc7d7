"""The real stack end to end, as a user starts it: Ray, vLLM, ZeRO-3, the control plane, in processes of their own."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSRL = ROOT / ".venv" / "bin" / "lessrl"
RECIPE = "deploy/recipes/quickstart.yaml"
SMALL = (
    "rollout.groups_per_step=8",
    "rollout.group_size=4",
    "evaluation.num_problems=16",
    "evaluation.every_steps=0",
)
START_SECONDS = 240.0
STEP_SECONDS = 120.0
PARITY_NATS = 1e-4

pytestmark = pytest.mark.stack


class Run:
    """`lessrl train` as a child process, followed through its run directory and its control plane."""

    def __init__(self, process: subprocess.Popen[str], run_dir: Path) -> None:
        self.process = process
        self.run_dir = run_dir

    def records(self, kind: str) -> list[dict[str, Any]]:
        path = self.run_dir / "metrics.jsonl"
        if not path.exists():
            return []
        lines = [line for line in path.read_text().splitlines() if line.endswith("}")]
        return [record for record in map(json.loads, lines) if record["kind"] == kind]

    def api(self) -> str:
        found = re.search(r"curl (http://\S+/v1/runs/\S+)", (self.run_dir / "README.txt").read_text())
        assert found is not None
        return found.group(1)

    def state(self) -> str:
        answer: dict[str, Any] = httpx.get(self.api()).raise_for_status().json()
        state: str = answer["status"]["state"]
        return state

    def wait_for(self, what: str, holds: Any, seconds: float) -> None:
        """Poll until something is so: the run is another process, so there is no event to wait on."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, f"the run ended with {self.process.returncode}: {self.output()}"
            assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
            time.sleep(0.1)

    def output(self) -> str:
        return (self.run_dir.parent / "output.txt").read_text()[-4000:]


@contextmanager
def started(tmp_path: Path, *settings: str) -> Iterator[Run]:
    run_dir = tmp_path / "run"
    words = [str(LESSRL), "train", RECIPE, "--address", "local", "--run-dir", str(run_dir)]
    for setting in (*SMALL, *settings):
        words += ["--set", setting]
    with (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output, text=True, start_new_session=True)
    try:
        yield Run(process, run_dir)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_run_trains_pauses_resumes_and_agrees_with_its_sampler(tmp_path: Path) -> None:
    with started(tmp_path, "run.steps=3") as run:
        run.wait_for("the first step", lambda: run.records("step"), START_SECONDS)
        paused = httpx.post(run.api() + "/pause", json={"reason": "test"})
        assert paused.status_code == 202, paused.text
        run.wait_for("the pause", lambda: run.state() == "paused", STEP_SECONDS)
        steps_when_paused = len(run.records("step"))
        assert "less_" in httpx.get(run.api().split("/v1/")[0] + "/metrics").text
        assert httpx.post(run.api() + "/resume").status_code == 202
        run.wait_for("a step after the pause", lambda: len(run.records("step")) > steps_when_paused, STEP_SECONDS)
        assert run.process.wait(timeout=START_SECONDS) == 0, run.output()

        summary = json.loads((run.run_dir / "summary.json").read_text())
        assert summary["status"] == "completed"
        assert summary["steps"] == summary["policy_version"] == 3
        assert 0 <= summary["accuracy_first"] <= 1
        assert 0 <= summary["accuracy_last"] <= 1
        assert (run.run_dir / "report.png").read_bytes().startswith(b"\x89PNG")
        assert (run.run_dir / "policy" / "model.safetensors").exists()
        for step in run.records("step"):
            metrics = step["metrics"]
            # vLLM's sampler and the ZeRO-3 learner, float32, every trained token of the step, versions 0 to 2.
            assert metrics["learner_logprob_difference_max_nats"] < PARITY_NATS
            assert metrics["learner_entropy_difference_max_nats"] < PARITY_NATS
            assert sum(step["phase_seconds"].values()) == pytest.approx(step["step_seconds"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_within_ten_seconds_and_leaves_a_checkpoint_and_no_process(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with started(tmp_path, "run.steps=50") as run:
        run.wait_for("the first step", lambda: run.records("step"), START_SECONDS)
        others = descendants(run.process)
        assert len(others) >= 5, "Ray, the actors and the engine run in processes of their own"
        began = time.monotonic()
        run.process.send_signal(number)
        found = run.process.wait(timeout=60)
        seconds = time.monotonic() - began
        gone, alive = psutil.wait_procs(others, timeout=10)
        assert found == code, run.output()
        assert not alive, f"{len(gone)} ended, left behind: {[each.name() for each in alive]}"
        assert seconds < 10, f"took {seconds:.1f} s"
        assert list((run.run_dir / "checkpoints").glob("step-*"))
        # What was cancelled has ended; what was pre-empted is paused, and `lessrl resume` goes on.
        assert (run.run_dir / "summary.json").exists() == (number is signal.SIGINT)
        assert run.records("event")[-1]["event"] == ("cancelled" if number is signal.SIGINT else "paused")
        assert "Traceback" not in run.output()


@pytest.mark.slow
def test_an_engine_of_two_workers_lies_in_one_bundle_and_agrees_with_the_learner(tmp_path: Path) -> None:
    settings = ("run.steps=2", "rollout.engine.tensor_parallel_size=2", "cluster.rollout.num_cpus=0.25")
    with started(tmp_path, *settings) as run:
        assert run.process.wait(timeout=START_SECONDS) == 0, run.output()
    for step in run.records("step"):
        assert step["metrics"]["learner_logprob_difference_max_nats"] < PARITY_NATS
        assert step["metrics"]["weight_sync_canary_difference_nats"] < PARITY_NATS
    assert len(run.records("step")) == 2
