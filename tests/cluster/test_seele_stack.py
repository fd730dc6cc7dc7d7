"""SEELE on the real stack: rounds of a group one after another over vLLM, and a worker that dies in the third.

vLLM samples each response from its request's own seed, and on the CPU in float32 with one thread a token's arithmetic
does not depend on what else is in its batch, so a round that is sampled again is the round that was lost.
"""

from pathlib import Path
from typing import Any

import pytest
from stack_run import ROOT, StackRun, read_lines, started

RECIPE = "deploy/recipes/seele-quickstart.yaml"
STRUCK = ROOT / "tests" / "support" / "struck_run.py"
GROUPS, ROUNDS, STEPS = 4, 4, 3
SETTINGS = (
    f"run.steps={STEPS}",
    f"rollout.groups_per_step={GROUPS}",
    "rollout.group_size=8",
    f"run.dump_groups_per_step={GROUPS}",
    "evaluation.num_problems=8",
    "evaluation.every_steps=0",
)
WAIT_SECONDS = 300.0

pytestmark = pytest.mark.slow


def train(folder: Path, *, is_struck: bool) -> StackRun:
    folder.mkdir()
    words = ["train", RECIPE, "--address", "local", "--run-dir", str(folder / "run")]
    for setting in SETTINGS:
        words += ["--set", setting]
    program = (str(STRUCK), str(folder / "struck"), "2") if is_struck else ("-m", "services.cli")
    with started(folder, words, program=program) as run:
        assert run.wait(WAIT_SECONDS) == 0, run.output()
        assert run.left_over(30) == []
    return run


def exact(step: dict[str, Any]) -> dict[str, Any]:
    """All that a step reports but how long it took."""
    return {name: value for name, value in step["metrics"].items() if not name.endswith("_s")}


def test_a_worker_killed_in_round_three_changes_nothing_but_time(tmp_path: Path) -> None:
    straight, struck = train(tmp_path / "a", is_struck=False), train(tmp_path / "b", is_struck=True)
    (died,) = [each for each in struck.records("event") if each["event"] == "worker_left_out"]
    assert "process ended" in died["message"]
    ledger, again = (read_lines(run.run_dir / "ledger.jsonl") for run in (straight, struck))
    assert ledger == again
    assert len(ledger) >= STEPS * GROUPS
    for line in ledger:
        assert [each["scored"] for each in line["rounds"]] == [8 // ROUNDS] * ROUNDS
        # The first visit of a prompt opens with all steps but the last.
        assert line["rounds"][0]["hint_tokens"] > 0
    groups, again = (
        {each["group_id"]: each for each in read_lines(run.run_dir / "groups.jsonl")} for run in (straight, struck)
    )
    assert groups == again
    steps = [[exact(each) for each in run.records("step")] for run in (straight, struck)]
    assert steps[0] == steps[1]
    assert {"hint_round_1_accuracy", "hint_round_4_accuracy", "hint_rate_mean"} <= steps[0][0].keys()
    policy = [(run.run_dir / "policy" / "model.safetensors").read_bytes() for run in (straight, struck)]
    assert policy[0] == policy[1]
