"""Who ends, pauses or loses what, with real processes and real signals: the table of docs/control.md, line by line."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from ledger_law import check_ledger
from ray_cluster import BIN, ray_cluster
from stack_run import StackRun, started
from survival_recipe import GROUPS_PER_STEP, MAX_STALENESS, write_toy_survival

START_SECONDS = 240.0
CALL_SECONDS = 120.0
BACK_SECONDS = 15.0

pytestmark = pytest.mark.slow


class Api:
    """The control plane of one run directory."""

    def __init__(self, run_dir: Path) -> None:
        whereabouts = json.loads((run_dir / "control.json").read_text())
        self._run = f"{whereabouts['url']}/v1/runs/{whereabouts['run_id']}"

    def get(self, path: str = "") -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(self._run + path, timeout=10.0).raise_for_status().json()
        return answer

    def post(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.post(self._run + path, json=body or {}, timeout=10.0).raise_for_status().json()
        return answer

    @property
    def state(self) -> str:
        """Of the run; "" while nobody answers."""
        with suppress(httpx.HTTPError):
            return str(self.get()["status"]["state"])
        return ""

    def events(self) -> list[str]:
        return [each["type"] for each in self.get("/events?page_size=500")["items"]]


def wait_until(what: str, holds: Callable[[], bool], seconds: float = CALL_SECONDS) -> float:
    """Poll what other processes do; how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + seconds, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_toy_survival(tmp_path)


def train(run_dir: Path, recipe: Path, *more: str) -> list[str]:
    return ["train", str(recipe), "--address", "local", "--run-dir", str(run_dir), *more]


def begun(run: StackRun) -> Api:
    run.wait_for("a step", lambda: bool(run.records("step")), START_SECONDS)
    return Api(run.run_dir)


def checkpoints(run_dir: Path) -> list[str]:
    return sorted(each.name for each in (run_dir / "checkpoints").glob("step-*"))


def status(run_dir: Path) -> str:
    return str(json.loads((run_dir / "summary.json").read_text())["status"])


def test_a_control_plane_that_is_killed_is_back_soon_with_its_history_and_training_goes_on(
    tmp_path: Path, recipe: Path
) -> None:
    with started(tmp_path, train(tmp_path / "run", recipe)) as run:
        api = begun(run)
        api.post("/pause", {"mode": "drain", "reason": "before"})
        run.wait_for("the pause", lambda: api.state == "paused", CALL_SECONDS)
        api.post("/resume")
        run.wait_for("the resume", lambda: api.state == "running", CALL_SECONDS)
        before = api.events()
        [control] = [each for each in run.everyone() if _is_control(each)]
        num_steps = len(run.records("step"))
        control.kill()
        away = run.wait_for("the control plane", lambda: api.state == "running", CALL_SECONDS)
        assert away < BACK_SECONDS
        assert api.events()[: len(before)] == before
        run.wait_for("a step", lambda: len(run.records("step")) > num_steps + 1, CALL_SECONDS)
        assert run.events("run_interrupted", "run_restarted") == []
        told = len(run.records("step"))
        run.wait_for("what was reported meanwhile", lambda: api.get()["status"]["step"] >= told, CALL_SECONDS)
        run.process.send_signal(signal.SIGINT)
        assert run.wait(CALL_SECONDS) == 130, run.output()
        assert run.left_over(30) == []


def test_a_driver_that_is_killed_leaves_a_cancelled_run_with_a_checkpoint_and_no_process(
    tmp_path: Path, recipe: Path
) -> None:
    run_dir = tmp_path / "run"
    with started(tmp_path, train(run_dir, recipe, "--set", "run.checkpoint.every_steps=0")) as run:
        begun(run)
        run.everyone()
        run.process.kill()
        run.process.wait()
        wait_until("the end", lambda: (run_dir / "summary.json").exists())
        assert run.left_over(60) == []
    assert status(run_dir) == "cancelled"
    assert len(checkpoints(run_dir)) == 1


def test_a_run_that_is_kept_alive_goes_on_without_its_driver(tmp_path: Path, recipe: Path) -> None:
    run_dir = tmp_path / "run"
    with started(tmp_path, train(run_dir, recipe, "--keep-alive")) as run:
        api = begun(run)
        run.everyone()
        run.process.kill()
        run.process.wait()
        step = api.get()["status"]["step"]
        wait_until("two steps more", lambda: api.get()["status"]["step"] > step + 1)
        api.post("/cancel")
        wait_until("the end", lambda: (run_dir / "summary.json").exists())
        assert run.left_over(60) == []
    assert status(run_dir) == "cancelled"


def test_a_preempted_run_is_paused_with_a_checkpoint_and_goes_on_where_it_was(tmp_path: Path, recipe: Path) -> None:
    run_dir = tmp_path / "run"
    with started(tmp_path, train(run_dir, recipe)) as run:
        begun(run)
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(CALL_SECONDS) == 143, run.output()
        assert run.left_over(30) == []
        [paused] = run.events("paused")
        assert paused["details"]["checkpoint"] in checkpoints(run_dir)
    assert not (run_dir / "summary.json").exists(), "the run has not ended"
    steps = len(run.records("step")) + MAX_STALENESS + 3
    words = ["resume", str(run_dir), "--address", "local", "--set", f"run.steps={steps}"]
    with started(tmp_path, words) as run:
        assert run.wait(START_SECONDS) == 0, run.output()
    assert status(run_dir) == "completed"
    check_ledger(run_dir, num_steps=steps, groups_per_step=GROUPS_PER_STEP)


def test_a_pause_that_releases_all_frees_every_role_and_the_run_goes_on_with_its_id(
    tmp_path: Path, recipe: Path
) -> None:
    run_dir = tmp_path / "run"
    with started(tmp_path, train(run_dir, recipe)) as run:
        api = begun(run)
        run_id = api.get()["id"]
        api.post("/pause", {"mode": "drain", "release": "all"})
        run.wait_for("the pause", lambda: api.state == "paused", CALL_SECONDS)
        roles = ("rollout", "shaping", "learner")
        run.wait_for("the roles' end", lambda: not any(run.actors(role) for role in roles), CALL_SECONDS)
        steps = len(run.records("step"))
        api.post("/resume")
        run.wait_for("a step after it", lambda: len(run.records("step")) > steps, START_SECONDS)
        assert api.get()["id"] == run_id
        assert api.get()["status"]["attempt"] == 1
        run.process.send_signal(signal.SIGINT)
        assert run.wait(CALL_SECONDS) == 130, run.output()
        assert run.left_over(30) == []


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    home = tmp_path / "home"
    home.mkdir()
    with ray_cluster(home) as environment:
        yield environment


def test_a_stopped_job_ends_as_cancelled_with_a_checkpoint_and_the_control_plane_stays(
    tmp_path: Path, cluster: dict[str, str], recipe: Path
) -> None:
    runs, job = tmp_path / "runs", "to-be-stopped"
    entry = ["lessrl", "train", str(recipe), "--runs", str(runs), "--set", "run.checkpoint.every_steps=0"]
    submit = [str(BIN / "ray"), "job", "submit", "--no-wait", "--submission-id", job, "--", *entry]
    subprocess.run(submit, env=cluster, check=True, capture_output=True, timeout=CALL_SECONDS)
    run_dir = runs / "survival"
    steps = run_dir / "metrics.jsonl"
    wait_until("a step", lambda: steps.exists() and '"kind": "step"' in steps.read_text(), START_SECONDS)
    api = Api(run_dir)
    subprocess.run([str(BIN / "ray"), "job", "stop", job], env=cluster, check=True, capture_output=True, timeout=60)
    wait_until("the end", lambda: (run_dir / "summary.json").exists())
    assert status(run_dir) == "cancelled"
    assert len(checkpoints(run_dir)) == 1
    wait_until("the control plane's word", lambda: api.state == "cancelled")
    wait_until("the end of the roles", lambda: not _roles(), 60.0)


def _is_control(process: psutil.Process) -> bool:
    with suppress(psutil.Error, IndexError):
        return process.cmdline()[0].startswith("ray::ControlActor")
    return False


def _roles() -> list[str]:
    """Processes of roles below this test's own."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, IndexError):
            title = each.cmdline()[0]
            if title.startswith(("ray::RolloutActor", "ray::LearnerActor", "ray::ShapingActor")):
                found.append(title)
    return found
