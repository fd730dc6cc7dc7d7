"""A run survives the death of every role, one after the other, and nothing is lost: real processes, real signals.

Small engines, so that each role's start is short: transformers and plain torch behind Ray. What is sampled, shaped and
trained is counted by ordinal, so that a group which is lost or trained twice cannot hide.
"""

import json
import signal
from pathlib import Path

import psutil
import pytest
from ledger_law import check_ledger, check_staleness
from stack_run import StackRun, started
from survival_recipe import GROUPS_PER_STEP, MAX_STALENESS, write_toy_survival

START_SECONDS = 240.0
RECOVER_SECONDS = 180.0
CANARY_NATS = 1e-4

pytestmark = pytest.mark.slow


def strike(run: StackRun, worker_id: str, number: signal.Signals) -> None:
    """Send a signal to a worker's process."""
    role = worker_id.split("-")[0]
    run.wait_for(f"a process of {worker_id}", lambda: worker_id in run.actors(role), START_SECONDS)
    run.actors(role)[worker_id].send_signal(number)


def wait_until_restarted(run: StackRun, worker_id: str) -> None:
    def is_back() -> bool:
        return any(each["workers"][0]["worker_id"] == worker_id for each in run.events("worker_restarted"))

    run.wait_for(f"the restart of {worker_id}", is_back, RECOVER_SECONDS)


def kill_and_wait(run: StackRun, victim: psutil.Process, what: str) -> None:
    """Kill what the whole run depends on, and wait until another process of the run has trained a step."""
    num_begun = len(run.events("started"))
    victim.kill()
    run.wait_for(
        f"a process after the death of {what}", lambda: len(run.events("started")) > num_begun, RECOVER_SECONDS
    )
    num_reports = len(run.reports.all)
    run.wait_for(f"a step after the death of {what}", lambda: has_step(run, num_reports), RECOVER_SECONDS)


def has_step(run: StackRun, after: int) -> bool:
    return any(each["kind"] == "step" for each in run.reports.all[after:])


def test_every_role_is_killed_once_and_no_group_is_lost_or_trained_twice(tmp_path: Path) -> None:
    recipe, run_dir = write_toy_survival(tmp_path), tmp_path / "run"
    with started(tmp_path, ["train", str(recipe), "--address", "local", "--run-dir", str(run_dir)]) as run:
        run.wait_for("a checkpoint", lambda: bool(run.events("checkpoint_saved")), START_SECONDS)
        for worker_id, number in (
            ("rollout-0", signal.SIGKILL),
            ("shaping-1", signal.SIGKILL),
            ("rollout-1", signal.SIGSTOP),
        ):
            strike(run, worker_id, number)
            wait_until_restarted(run, worker_id)
        kill_and_wait(run, run.actors("learner")["learner-0"], "the learner")
        orchestrator = run.orchestrator
        assert orchestrator is not None
        kill_and_wait(run, orchestrator, "the orchestrator")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(RECOVER_SECONDS) == 143, run.output()
        assert run.left_over(30) == []

    last = max(int(path.name[len("step-") :].split(".")[0]) for path in (run_dir / "checkpoints").glob("step-*"))
    steps = last + MAX_STALENESS + 2
    with started(tmp_path, ["resume", str(run_dir), "--address", "local", "--set", f"run.steps={steps}"]) as run:
        assert run.wait(START_SECONDS) == 0, run.output()
        assert run.left_over(30) == []

    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["policy_version"]) == ("completed", steps, steps)
    outcomes = check_ledger(run_dir, num_steps=steps, groups_per_step=GROUPS_PER_STEP)
    assert outcomes["dropped_no_signal"] > 0, "groups without signal are part of what is counted"
    check_staleness(run_dir, max_staleness=MAX_STALENESS)
    for step in run.records("step"):
        assert step["metrics"]["weight_sync_canary_difference_nats"] < CANARY_NATS
    check_causes(run)


def check_causes(run: StackRun) -> None:
    """Every death is an event that names who and why, also those after the checkpoint that the run went on from."""
    events = run.records("event")
    out = {each["workers"][0]["worker_id"]: each["message"] for each in events if each["event"] == "worker_left_out"}
    assert all("process ended" in out[worker_id] for worker_id in ("rollout-0", "shaping-1"))
    assert "run.deadlines." in out["rollout-1"], "it answered nothing for too long"
    learner, orchestrator = (each["message"] for each in events if each["event"] == "run_restarted")
    assert "learner: " in learner and "its process ended" in learner
    assert "SIGKILL" in orchestrator
