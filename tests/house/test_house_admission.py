"""Recent sample recovery in a whole run: batches in order of admission, and the same run again and after a resume."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from live_run import LiveRun, run_live
from safetensors.torch import load_file
from stack_run import read_lines
from toy_policy import make_toy_recipe, write_toy_policy

from services.recipe import Recipe
from services.run_store import STATE_FILE

pytestmark = pytest.mark.stack

STEPS = 6
CHANGES: dict[str, Any] = {
    "rollout.num_workers": 2,
    "rollout.groups_per_step": 4,
    "rollout.selector": "success_band",
    "shaping": {
        "rewards": ["numeric_answer"],
        "verifiers": {"num_processes": 0},
        "segments": {"min_length": 2},
        "transforms": ["drop_uniform"],
    },
    "run.steps": STEPS,
    "run.admission": {"kind": "rsr", "over_sampling": 1.5},
    "run.max_attempts_per_step": 16.0,
    "run.checkpoint": {"every_steps": 1, "keep_last": STEPS},
}


def went(recipe: Recipe, run_dir: Path, *, checkpoint: str = "") -> LiveRun:
    return asyncio.run(run_live(recipe, run_dir, checkpoint=checkpoint))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("toy")
    return make_toy_recipe(write_toy_policy(folder / "policy"), folder, CHANGES)


@pytest.fixture(scope="module")
def straight(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> LiveRun:
    return went(recipe, tmp_path_factory.mktemp("straight"))


def trained(run_dir: Path) -> list[tuple[int, int]]:
    """Step and ordinal of every trained group, in the order of the ledger."""
    lines = read_lines(run_dir / "ledger.jsonl")
    return [(each["step"], each["ordinal"]) for each in lines if each["outcome"] == "trained"]


def assert_same(run: LiveRun, other: LiveRun, *, since: int = 1) -> None:
    weights, expected = (load_file(each.run_dir / "policy" / "model.safetensors") for each in (run, other))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert run.steps == {step: numbers for step, numbers in other.steps.items() if step >= since}


def test_batches_are_full_in_order_of_admission_and_no_older_than_the_bound(straight: LiveRun) -> None:
    found = trained(straight.run_dir)
    assert [ordinal for _, ordinal in found] == sorted(ordinal for _, ordinal in found)
    assert [step for step, _ in found] == [step for step in range(1, STEPS + 1) for _ in range(4)]
    carried = [straight.steps[step]["admission_surplus_groups_count"] for step in range(1, STEPS + 1)]
    assert max(carried) > 0 and carried[-1] == 0, "groups wait for a step that comes, and none for one that does not"
    for step in range(2, STEPS + 1):
        # What was left over opens the next step, one version old; the others were sampled by the version they train.
        share = straight.steps[step]["learner_staleness_versions"]
        assert share == min(carried[step - 2], 4) / 4
        assert straight.steps[step].get("admission_carried_age_versions_mean", 1.0) == 1.0


def test_a_run_with_surplus_is_the_same_run_again_bit_for_bit(
    recipe: Recipe, straight: LiveRun, tmp_path: Path
) -> None:
    again = went(recipe, tmp_path / "again")
    assert_same(again, straight)
    assert trained(again.run_dir) == trained(straight.run_dir)


def test_a_run_that_goes_on_with_groups_left_over_is_the_straight_one_bit_for_bit(
    recipe: Recipe, straight: LiveRun
) -> None:
    # A checkpoint whose groups in the buffer were sampled by the version before.
    steps = range(1, STEPS)
    with_surplus = [step for step in steps if straight.steps[step]["admission_surplus_groups_count"] > 0]
    step = with_surplus[len(with_surplus) // 2]
    saved = json.loads((straight.run_dir / "checkpoints" / f"step-{step:06d}" / STATE_FILE).read_text())
    assert saved["buffer"]["buffered"], "groups wait in it"
    expected = {name: value.clone() for name, value in weights_of(straight).items()}
    again = went(recipe, straight.run_dir, checkpoint=f"step-{step:06d}")
    assert again.steps == {each: numbers for each, numbers in straight.steps.items() if each > step}
    assert all(torch.equal(weights_of(again)[name], expected[name]) for name in expected)


def weights_of(run: LiveRun) -> dict[str, torch.Tensor]:
    return load_file(run.run_dir / "policy" / "model.safetensors")
