"""Transforms and rewards that need more of a run than the group: its memory, its limits and its tokenizer."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recipe_builders import make_raw, write_recipe
from toy_policy import toy_changes, write_toy_policy

from services.cli import main

DYING = Path(__file__).parents[1] / "support" / "dying_run.py"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_policy(tmp_path_factory.mktemp("policy"))


def recipe_of(folder: Path, policy: Path, changes: dict[str, Any]) -> Path:
    return write_recipe(folder, make_raw(toy_changes(policy, folder, changes)))


def steps_of(run_dir: Path) -> list[dict[str, float]]:
    """Numbers of every step but times."""
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in each["metrics"].items() if not name.endswith("_s")}
        for each in lines
        if each["kind"] == "step"
    ]


def test_limit_and_tokenizer_reach_what_needs_them(policy: Path, tmp_path: Path) -> None:
    changes = {
        "shaping.rewards": ["numeric_answer", {"kind": "overlong", "weight": 0.5}],
        # Most random responses meet the limit, some end earlier: cut where they are longer than the mean.
        "shaping.transforms": [{"kind": "dot", "min_success_rate": 0, "alpha": 0, "min_excess": 1}],
        "learner.optimizer.learning_rate": 0.0001,
        "run.steps": 2,
    }
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as ended:
        main(["train", str(recipe_of(tmp_path, policy, changes)), "--address", "house", "--run-dir", str(out)])
    assert not ended.value.code
    for step in steps_of(out):
        assert 0 < step["dot_cut_responses_share"] < 1
        # The limit is 4, the buffer one token: whoever has 4 tokens is punished in full, also who ended there.
        assert 0 < step["rollout_truncated_share"] <= -step["reward_overlong_value"] < 1
    lines = map(json.loads, (out / "groups.jsonl").read_text().splitlines())
    responses = [each for line in lines for each in line["responses"]]
    assert any(len(each["token_ids"]) < 4 and each["extra"]["is_truncated"] for each in responses)


@pytest.mark.stack
def test_a_history_of_lengths_survives_a_killed_process(policy: Path, tmp_path: Path) -> None:
    changes = {
        "shaping.transforms": [{"kind": "hapo_history", "aggregate": "mean"}, "drop_uniform"],
        "run.steps": 8,
        "run.checkpoint": {"every_steps": 2},
        "run.max_restarts": 2,
    }
    recipe = recipe_of(tmp_path, policy, changes)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, part in (("straight", "no such file"), ("killed", ".step-000006.part")):
        words = [
            tmp_path / f"{name}.died",
            6,
            part,
            "train",
            recipe,
            "--address",
            "house",
            "--run-dir",
            tmp_path / name,
        ]
        command = [sys.executable, str(DYING), *map(str, words)]
        ended = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert ended.returncode == 0, ended.stderr
    assert os.path.lexists(tmp_path / "killed.died") and not os.path.lexists(tmp_path / "straight.died")
    straight, killed = steps_of(tmp_path / "straight"), steps_of(tmp_path / "killed")
    assert straight == killed
    # Every prompt is met in two steps; from then on lengths are paid by what earlier visits left.
    assert straight[0]["reward_hapo_history_value"] == 0.0
    assert all(step["reward_hapo_history_value"] != 0.0 for step in straight[4:])
