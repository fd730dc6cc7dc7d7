"""Synchronous mode on the real stack: a run that is killed inside a save is, bit for bit, the run that never was.

vLLM samples each response from its request's own seed, and on the CPU in float32 with one thread a token's arithmetic
does not depend on what else is in its batch; DeepSpeed ZeRO-3 sums in the order of the plan.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from stack_run import StackRun, read_lines, started

RECIPE = "deploy/recipes/quickstart.yaml"
SETTINGS = (
    "run.steps=6",
    "run.checkpoint.every_steps=2",
    "rollout.groups_per_step=8",
    "rollout.group_size=4",
    "run.dump_groups_per_step=8",
    "evaluation.num_problems=16",
    "evaluation.every_steps=0",
)
WAIT_SECONDS = 300.0
KILLED_IN_SAVE_OF = ".step-000004.part"

pytestmark = pytest.mark.slow


def train(folder: Path, *, is_killed: bool) -> StackRun:
    folder.mkdir()
    words = ["train", RECIPE, "--address", "local", "--run-dir", str(folder / "run")]
    for setting in SETTINGS:
        words += ["--set", setting]
    with started(folder, words) as run:
        if is_killed:
            part = run.run_dir / "checkpoints" / KILLED_IN_SAVE_OF
            run.wait_for("a save", part.exists, WAIT_SECONDS)
            orchestrator = run.orchestrator
            assert orchestrator is not None
            orchestrator.kill()
        assert run.wait(WAIT_SECONDS) == 0, run.output()
        assert run.left_over(30) == []
    return run


def exact(step: dict[str, Any]) -> dict[str, Any]:
    """All that a step reports but how long it took."""
    return {name: value for name, value in step["metrics"].items() if not name.endswith("_s")}


def test_a_run_killed_inside_a_save_is_the_straight_one_bit_for_bit(tmp_path: Path) -> None:
    straight, killed = train(tmp_path / "a", is_killed=False), train(tmp_path / "b", is_killed=True)
    (restarted,) = [each for each in killed.records("event") if each["event"] == "run_restarted"]
    assert "SIGKILL" in restarted["message"]

    def each_of(name: str) -> list[list[dict[str, Any]]]:
        return [read_lines(run.run_dir / name) for run in (straight, killed)]

    ledger, again = each_of("ledger.jsonl")
    assert ledger == again
    assert len(ledger) == 6 * 8
    # Token ids, entropies, classes' multipliers and advantages of every group; written in the order of their ends.
    groups, again = ({each["group_id"]: each for each in lines} for lines in each_of("groups.jsonl"))
    assert groups == again
    assert len(groups) == 6 * 8
    steps = [[exact(each) for each in run.records("step")] for run in (straight, killed)]
    assert steps[0] == steps[1]
    assert {"less_kept_mass_share", "learner_loss", "learner_grad_norm"} <= steps[0][0].keys()
    policy = [(run.run_dir / "policy" / "model.safetensors").read_bytes() for run in (straight, killed)]
    assert policy[0] == policy[1]
    summary = json.loads((killed.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["steps"]) == ("completed", 6)
