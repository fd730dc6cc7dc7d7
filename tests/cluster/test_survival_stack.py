"""A run survives the death of every role, one after the other, and nothing is lost: real processes, real signals.

Small engines, so that each role's start is short: transformers and plain torch behind Ray. What is sampled, shaped and
trained is counted by ordinal, so that a group which is lost or trained twice cannot hide.
"""

import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from ledger_law import check_ledger, check_staleness
from stack_run import StackRun, started
from survival_recipe import GROUPS_PER_STEP, MAX_STALENESS, write_survival_recipe

START_SECONDS = 240.0
RECOVER_SECONDS = 180.0
CANARY_NATS = 1e-4

pytestmark = pytest.mark.slow


def strike(run: StackRun, worker_id: str, number: signal.Signals) -> None:
    """Send a signal to a worker's process."""
    run.wait_for(f"a process of {worker_id}", lambda: run.worker(worker_id) is not None, START_SECONDS)
    process = run.worker(worker_id)
    assert process is not None
    process.send_signal(number)


def wait_until_restarted(run: StackRun, worker_id: str, before: int) -> None:
    def restarted() -> bool:
        return len(restarts_of(run, worker_id)) > before

    run.wait_for(f"the restart of {worker_id}", restarted, RECOVER_SECONDS)


def restarts_of(run: StackRun, worker_id: str) -> list[dict[str, Any]]:
    return [each for each in run.events.of("worker_restarted") if each["workers"][0]["worker_id"] == worker_id]


def wait_for_next_process(run: StackRun, before: psutil.Process, what: str) -> None:
    """Until another process of the run has trained a step."""

    def goes_on() -> bool:
        now = run.orchestrator
        return now is not None and now != before and run.events.all[-1]["event"] != "run_interrupted"

    num_started = len(run.events.of("started"))
    run.wait_for(f"another process {what}", goes_on, RECOVER_SECONDS)
    run.wait_for(f"training {what}", lambda: len(run.events.of("started")) > num_started, RECOVER_SECONDS)
    steps = run.num_steps
    run.wait_for(f"a step {what}", lambda: run.num_steps > steps, RECOVER_SECONDS)


def test_every_role_is_killed_once_and_no_group_is_lost_or_trained_twice(tmp_path: Path) -> None:
    recipe = write_survival_recipe(tmp_path)
    run_dir = tmp_path / "run"
    with started(tmp_path, ["train", str(recipe), "--address", "local", "--run-dir", str(run_dir)]) as run:
        run.wait_for("a checkpoint", lambda: bool(run.events.of("checkpoint_saved")), START_SECONDS)
        for worker_id, number in (
            ("rollout-0", signal.SIGKILL),
            ("shaping-1", signal.SIGKILL),
            ("rollout-1", signal.SIGSTOP),
        ):
            strike(run, worker_id, number)
            wait_until_restarted(run, worker_id, 0)
        for role in ("learner", "orchestrator"):
            before = run.orchestrator
            assert before is not None
            victim = before if role == "orchestrator" else run.actors(role)[0]
            victim.send_signal(signal.SIGKILL)
            wait_for_next_process(run, before, f"after the death of the {role}")
        run.process.send_signal(signal.SIGTERM)
        assert run.wait(RECOVER_SECONDS) == 130, run.output()
        assert run.left_over(30) == []
        events = run.events

    last = max(int(path.name.removeprefix("step-")) for path in (run_dir / "checkpoints").glob("step-??????"))
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
    causes = {event["workers"][0]["worker_id"]: event["message"] for event in events.of("worker_left_out")}
    assert "process ended" in causes["rollout-0"] and "process ended" in causes["shaping-1"]
    assert "rollout-1" in causes["rollout-1"] and "run.deadlines." in causes["rollout-1"]
    (learner, orchestrator) = (event["message"] for event in events.of("run_restarted"))
    assert "learner" in learner and "its process ended" in learner
    assert "SIGKILL" in orchestrator
