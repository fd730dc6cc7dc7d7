"""Killed and gone on, in synchronous mode: the same run bit for bit, with real sampler and learner in one process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_builders import make_raw, write_recipe
from safetensors.torch import load_file
from toy_policy import toy_changes, write_toy_policy

pytestmark = pytest.mark.stack

STEPS, EVERY = 20, 5
DYING = Path(__file__).parents[1] / "support" / "dying_run.py"
CHANGES = {
    "rollout.num_workers": 2,
    "rollout.groups_per_step": 4,
    "rollout.selector": "success_band",
    "shaping.drop_without_signal": True,
    "learner.mini_batch_groups": 2,
    "learner.num_epochs": 2,
    "learner.kl.coefficient": 0.01,
    "run.steps": STEPS,
    "run.checkpoint": {"every_steps": EVERY},
    "run.max_restarts": 2,
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    return write_recipe(folder, make_raw(toy_changes(write_toy_policy(folder / "policy"), folder, CHANGES)))


@pytest.fixture(scope="module")
def straight(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    folder = tmp_path_factory.mktemp("straight")
    run(folder, "train", recipe, "--address", "house", "--run-dir", folder / "out")
    return folder / "out"


def run(folder: Path, *words: object, dies_at: tuple[int, str] | None = None, code: int = 0) -> str:
    """`lessrl words`, which kills itself once at this file operation."""
    number, part = dies_at or (1, "no such file")
    command = [sys.executable, DYING, folder / "died", number, part, *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, env=environment, cwd=folder, check=False
    )
    assert ended.returncode == code, ended.stderr
    assert (dies_at is not None) == os.path.lexists(folder / "died"), "it must die where it is to die, and only there"
    return ended.stderr


def steps_of(run_dir: Path) -> list[dict[str, Any]]:
    """What every step reported; of times only how many there are."""
    return [
        {
            "step": each["step"],
            "groups": each["groups"],
            "metrics": {name: value for name, value in each["metrics"].items() if not name.endswith("_s")},
            "histograms": {
                name: sum(value["counts"]) if name.endswith("_s") else value
                for name, value in each["histograms"].items()
            },
        }
        for each in reports_of(run_dir, "step")
    ]


def reports_of(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl of this kind."""
    lines = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    return [each for each in lines if each["kind"] == kind]


def trained_tokens(run_dir: Path) -> int:
    """Tokens whose importance ratio was counted, over all steps; one without a group to train has none."""
    ratios = [each["histograms"].get("learner_importance_ratio") for each in reports_of(run_dir, "step")]
    return sum(sum(each["counts"]) for each in ratios if each)


def assert_same(run_dir: Path, straight: Path) -> None:
    policy, expected = (load_file(each / "policy" / "model.safetensors") for each in (run_dir, straight))
    assert all(torch.equal(policy[name], expected[name]) for name in expected)
    assert steps_of(run_dir) == steps_of(straight)
    for name in ("ledger.jsonl", "groups.jsonl"):
        assert sorted((run_dir / name).read_text().splitlines()) == sorted((straight / name).read_text().splitlines())


# A step opens metrics.jsonl never again; what a save touches: the draft's files, then its rename.
@pytest.mark.parametrize(
    "dies_at",
    [
        pytest.param((1, ".step-000010.part"), id="before the first file of a save"),
        pytest.param((6, ".step-000010.part"), id="inside a save"),
        pytest.param((1, ".step-000010.part/manifest.json"), id="before the manifest of a save"),
        pytest.param((1, ".step-000005.gone"), id="after a save"),
    ],
)
def test_a_killed_synchronous_run_is_the_straight_one_bit_for_bit(
    recipe: Path, straight: Path, tmp_path: Path, dies_at: tuple[int, str]
) -> None:
    told = run(tmp_path, "train", recipe, "--address", "house", "--run-dir", tmp_path / "out", dies_at=dies_at)
    assert "the run died and goes on from its last checkpoint, 1 restarts are left" in told
    assert_same(tmp_path / "out", straight)
    assert [each["step"] for each in steps_of(tmp_path / "out")] == list(range(1, STEPS + 1))
    assert trained_tokens(tmp_path / "out") == trained_tokens(straight) > 0
    (loaded,) = (each for each in reports_of(tmp_path / "out", "event") if each["event"] == "checkpoint_loaded")
    details = loaded["details"]
    assert details["checkpoint"] == f"step-{details['step']:06d}" and details["policy_version"] == details["step"]
    assert details["seconds"] > 0.0


def test_a_run_that_died_before_its_first_checkpoint_begins_again(recipe: Path, straight: Path, tmp_path: Path) -> None:
    at_start = (1, ".step-000005.part")
    run(tmp_path, "train", recipe, "--address", "house", "--run-dir", tmp_path / "out", dies_at=at_start)
    assert_same(tmp_path / "out", straight)


def test_a_run_goes_on_for_more_steps_from_any_checkpoint_when_its_user_asks(
    recipe: Path, straight: Path, tmp_path: Path
) -> None:
    words = ("--address", "house", "--run-dir", tmp_path / "out", "--set", "run.steps=10")
    run(tmp_path, "train", recipe, *words)
    assert len(steps_of(tmp_path / "out")) == 10
    run(tmp_path, "resume", tmp_path / "out", "--address", "house", "--set", f"run.steps={STEPS}")
    assert_same(tmp_path / "out", straight)
    # And once more from the middle: what came after it is set aside, and comes again.
    run(tmp_path, "resume", tmp_path / "out", "--address", "house", "--from", "step-000015")
    assert_same(tmp_path / "out", straight)


def test_what_cannot_be_gone_on_from_is_one_line(recipe: Path, tmp_path: Path) -> None:
    words = ("--address", "house", "--run-dir", tmp_path / "out", "--set", "run.steps=5")
    run(tmp_path, "train", recipe, *words)
    told = run(tmp_path, "resume", tmp_path / "out", "--address", "house", "--from", "step-000004", code=2)
    assert told.startswith(
        "lessrl: a checkpoint must be one of those there are, found no 'step-000004' but step-000005"
    )
    told = run(tmp_path, "resume", tmp_path / "out", "--address", "house", "--set", "seed=5", code=2)
    assert "a run must go on with the recipe that it began with" in told and "seed: " in told
    told = run(tmp_path, "resume", tmp_path, "--address", "house", code=2)
    assert told.startswith("lessrl: a run's directory must hold recipe.yaml, found none")
    assert len(told.splitlines()) == 1
