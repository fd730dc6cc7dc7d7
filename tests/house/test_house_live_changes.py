"""A run whose config changes on the way, in synchronous mode: its replay is the same run, bit for bit."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from live_run import LiveRun, run_live
from recipe_builders import write_recipe
from safetensors.torch import load_file
from stack_run import ROOT
from toy_policy import make_toy_recipe, toy_changes, write_toy_policy

from services.live.changes import read_changes
from services.recipe import Recipe

pytestmark = pytest.mark.stack

CHANGES: dict[str, Any] = {
    "learner.mini_batch_groups": 2,
    "learner.num_epochs": 2,
    "learner.optimizer": {"learning_rate": {"kind": "cosine", "peak": 0.02, "floor": 0.001, "total_steps": 9}},
    "run.steps": 7,
    "run.checkpoint": {"every_steps": 2, "keep_last": 9},
}
ASKS = {
    0: {"learner.loss.clip_low": 0.1},
    1: {"rollout.sampling.temperature": 0.7},
    2: {"learner.optimizer.learning_rate": 0.005, "learner.loss.clip_high": 0.05},
    4: {"shaping.shapers.less.outside": "keep", "shaping.segments.quantile": 0.5},
    5: {"run.steps": 9, "learner.optimizer.max_grad_norm": 0.1},
}


def went(*arguments: Any, **options: Any) -> LiveRun:
    return asyncio.run(run_live(*arguments, **options))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("toy")
    return make_toy_recipe(write_toy_policy(folder / "policy"), folder, CHANGES)


@pytest.fixture(scope="module")
def steered(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> LiveRun:
    return went(recipe, tmp_path_factory.mktemp("steered"), asks=ASKS)


def assert_same(run: LiveRun, other: LiveRun, *, since: int = 1) -> None:
    weights, expected = (load_file(each.run_dir / "policy" / "model.safetensors") for each in (run, other))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert run.steps == {step: numbers for step, numbers in other.steps.items() if step >= since}


def test_every_change_took_at_a_border_and_is_seen_from_its_step_on(steered: LiveRun) -> None:
    assert sorted(steered.steps) == list(range(1, 10)), "the target was raised from 7 to 9"
    held_from = {key: each["step"] for each in steered.changes for key in each["values"]}
    rates = [steered.steps[step]["learner_learning_rate"] for step in range(1, 10)]
    changed = held_from["learner.optimizer.learning_rate"]
    assert 3 <= changed <= 4 and rates[changed - 1 :] == [0.005] * (10 - changed)
    assert all(rate > 0.005 for rate in rates[: changed - 1])
    assert [dict(each) for kind, each in steered.events if kind == "config_applied"] == steered.changes
    assert not [each for kind, each in steered.events if kind == "config_failed"]


def test_a_replay_of_the_recorded_changes_is_the_run_bit_for_bit(
    recipe: Recipe, steered: LiveRun, tmp_path: Path
) -> None:
    recorded = read_changes(steered.run_dir / "changes.jsonl")
    again = went(recipe, tmp_path / "again", recorded=recorded)
    assert_same(again, steered)
    assert again.changes == steered.changes


def test_a_run_without_its_changes_is_another_one(recipe: Recipe, steered: LiveRun, tmp_path: Path) -> None:
    untouched = went(recipe, tmp_path / "untouched", recorded=())
    assert len(untouched.steps) == 7
    differing = [step for step in untouched.steps if untouched.steps[step] != steered.steps[step]]
    assert differing[-1] == 7


@pytest.mark.parametrize("version", [2, 4, 6, 8])
def test_a_run_that_goes_on_from_between_two_changes_is_the_straight_one(
    recipe: Recipe, steered: LiveRun, version: int
) -> None:
    before = (steered.run_dir / "changes.jsonl").read_text()
    again = went(recipe, steered.run_dir, checkpoint=f"step-{version:06d}")
    assert_same(again, steered, since=version + 1)
    # Each change is in the file once, whoever made it again.
    assert (steered.run_dir / "changes.jsonl").read_text() == before


def test_a_checkpoint_tells_the_history_of_the_config(steered: LiveRun) -> None:
    state = json.loads((steered.run_dir / "checkpoints" / "step-000008" / "run_state.json").read_text())
    told = [each for each in state["config_history"] if "generation" in each]
    assert [each["generation"] for each in told] == [each["generation"] for each in steered.changes]
    assert [each["step"] + 1 for each in told] == [each["step"] for each in steered.changes]


def lessrl(*words: object, code: int = 0) -> str:
    """The command in a process of its own; what it told."""
    command = [sys.executable, "-m", "services.cli", *map(str, words), "--address", "house"]
    ended = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=ROOT, check=False
    )
    assert ended.returncode == code, ended.stderr
    return ended.stderr


def test_the_command_repeats_changes_and_makes_what_is_set_on_a_resume_one_of_them(tmp_path: Path) -> None:
    policy = write_toy_policy(tmp_path / "policy")
    recipe = write_recipe(
        tmp_path, toy_changes(policy, tmp_path, {"run.steps": 4, "run.checkpoint": {"every_steps": 2}})
    )
    first = [
        {"generation": 2, "step": 2, "values": {"learner.optimizer.learning_rate": 0.004}},
        {"generation": 3, "step": 4, "values": {"run.steps": 6, "rollout.sampling.temperature": 0.8}},
    ]
    file = tmp_path / "changes.jsonl"
    file.write_text("".join(json.dumps(each) + "\n" for each in first))
    lessrl("train", recipe, "--run-dir", tmp_path / "one", "--changes", file)
    told = lessrl("resume", tmp_path / "one", "--set", "learner.optimizer.learning_rate=0.1", code=2)
    assert "must be changed live again, found learner.optimizer.learning_rate" in told.splitlines()[-1]
    lessrl("resume", tmp_path / "one", "--set", "run.steps=8")
    made = [json.loads(line) for line in (tmp_path / "one" / "changes.jsonl").read_text().splitlines()]
    assert made == [*first, {"generation": 4, "step": 7, "values": {"run.steps": 8}}]
    lessrl("train", recipe, "--run-dir", tmp_path / "two", "--changes", tmp_path / "one" / "changes.jsonl")
    one, two = (load_file(tmp_path / name / "policy" / "model.safetensors") for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["total_steps"] == 8
