"""`lessrl replay`: one group of a run makes a step not finite; each half of that step is done again."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from recipe_builders import write_recipe
from rich.console import Console
from safetensors.torch import load_file, save_file
from toy_policy import toy_changes, write_task, write_toy_policy

from learner.replay import GroupReplay, Pass, UpdateReplay
from services.cli import main
from services.group_files import SavedGroup, read_groups, write_groups
from services.replay.learner_half import LearnerReplay
from services.run_dir import LEDGER_FILE, RECIPE_FILE
from services.skipped_step import GROUPS_FILE, STEP_FILE, read_skipped
from shaping.training import TrainingSample

# 4 groups a step: g00000005 is the second group of step 2. Its rollouts are 8 with at least one token each, and the
# sum of two advantages of 3e38 is beyond float32, whose largest number is 3.4e38.
BAD_GROUP = "g00000005"
PLUG_IN = f"""
from dataclasses import dataclass
import numpy as np
from shaping.estimators.grpo import Config, build as build_grpo
NEEDS = frozenset()
class TooLarge:
    def __init__(self, grpo):
        self.grpo = grpo
    def advantages(self, scored):
        rows = self.grpo.advantages(scored)
        if scored.group.group_id != "{BAD_GROUP}":
            return rows
        return tuple(np.full(len(row), 3e38, np.float32) for row in rows)
def build(config):
    return TooLarge(build_grpo(config))
"""


@pytest.fixture(scope="module", autouse=True)
def plug_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A user's estimator: one file in the folder is all it takes."""
    folder = tmp_path_factory.mktemp("estimators")
    (folder / "too_large.py").write_text(PLUG_IN)
    package = __import__("shaping.estimators", fromlist=["estimators"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "__path__", [*package.__path__, str(folder)])
        yield


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run_command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def train(folder: Path, changes: dict[str, Any] | None = None, *, exit_code: int = 1) -> Path:
    """A run whose second step is not finite, which ends it; its directory."""
    policy = write_toy_policy(folder / "policy")
    steps = {"run.steps": 4, "run.max_skipped_steps": 0, "run.checkpoint.every_steps": 1}
    shaping = {"rewards": ["numeric_answer"], "shapers": [], "estimator": "too_large"}
    recipe = write_recipe(folder, toy_changes(policy, folder, {**steps, "shaping": shaping, **(changes or {})}))
    assert run_command("train", recipe, "--address", "house", "--run-dir", folder / "run") == exit_code
    return folder / "run"


@pytest.fixture(scope="module")
def ended_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("ended"))


@pytest.fixture
def run_dir(ended_run: Path, tmp_path: Path) -> Path:
    """The run's directory, to be changed at will."""
    return shutil.copytree(ended_run, tmp_path / "run")


def replayed(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run_command("replay", *words, "--json")
    return code, json.loads(capsys.readouterr().out)


def user_error(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line in which a user's mistake is told."""
    capsys.readouterr()
    assert run_command("replay", *words, "--json") == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("lessrl: ") and told.err.count("\n") == 1, told.err
    return told.err


def set_in_recipe(run_dir: Path, key: str, value: str) -> None:
    recipe = yaml.safe_load((run_dir / RECIPE_FILE).read_text())
    *parents, last = key.split(".")
    node = recipe
    for parent in parents:
        node = node[parent]
    node[last] = value
    (run_dir / RECIPE_FILE).write_text(yaml.safe_dump(recipe))


def change_samples(run_dir: Path, change: Callable[[TrainingSample], TrainingSample]) -> None:
    path = run_dir / "skipped" / "step-000002" / GROUPS_FILE
    groups: list[SavedGroup] = [(summary, tuple(map(change, samples))) for summary, samples in read_groups(path)]
    write_groups(path, groups)


def tamed(sample: TrainingSample) -> TrainingSample:
    return replace(sample, advantages=sample.loss_mask.astype(np.float32))


def content(folder: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


# -- what the run keeps


def test_a_run_that_ends_over_a_step_keeps_its_groups_and_how_to_ask_for_them_again(ended_run: Path) -> None:
    kept = ended_run / "skipped" / "step-000002"
    skipped = read_skipped(kept)
    ids = [f"g0000000{ordinal}" for ordinal in (4, 5, 6, 7)]
    assert skipped.step == 2
    assert skipped.cause.startswith("the loss is -inf in step 1, update 1 of 1")
    assert [each.group_id for each in skipped.lines] == ids
    assert [summary.group_id for summary, _ in read_groups(kept / GROUPS_FILE)] == ids
    assert [each.ordinal for each in skipped.lines] == [4, 5, 6, 7]
    # The ledger tells of step 1 alone: this run never came to the end of step 2.
    ledger = [json.loads(line) for line in (ended_run / LEDGER_FILE).read_text().splitlines()]
    assert [each["step"] for each in ledger] == [1] * 4
    summary = json.loads((ended_run / "summary.json").read_text())
    assert "its groups are in skipped/step-000002 (lessrl replay)" in summary["failure"]["cause"]


# -- the learner's half


def test_a_replay_names_the_group_and_its_rollouts_and_exits_1(
    capsys: pytest.CaptureFixture[str], ended_run: Path
) -> None:
    before = content(ended_run)
    code, found = replayed(capsys, ended_run / "skipped" / "step-000002")
    assert code == 1
    assert list(found["not_finite"]) == [BAD_GROUP]
    assert (found["step"], found["is_finite"]) == (2, False)
    assert found["policy"] == {"checkpoint": "step-000001", "version": 1, "trained_version": 1}
    (update,) = found["updates"]
    # JSON has no word for infinity.
    assert (update["loss"], update["is_finite"]) == (None, False)
    assert {name: group["is_finite"] for name, group in update["groups"].items()} == {
        "g00000004": True,
        "g00000005": False,
        "g00000006": True,
        "g00000007": True,
    }
    bad = update["groups"][BAD_GROUP]
    assert len(bad["rollouts"]) == 8
    assert update["groups"]["g00000004"]["rollouts"] == {}
    # The policy is the one that sampled: whatever is wrong, it is not that.
    assert all(group["max_log_ratio_nats"] < 1e-4 for group in update["groups"].values())
    assert content(ended_run) == before, "a replay writes nothing"


def test_the_latest_skipped_step_of_a_run_is_taken(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    shutil.copytree(run_dir / "skipped" / "step-000002", run_dir / "skipped" / "step-000010")
    _, found = replayed(capsys, run_dir)
    assert found["directory"] == str(run_dir / "skipped" / "step-000010")


def test_a_step_that_is_finite_here_exits_0(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    change_samples(run_dir, tamed)
    code, found = replayed(capsys, run_dir)
    assert (code, found["is_finite"], found["not_finite"]) == (0, True, {})
    (update,) = found["updates"]
    # Every advantage is 1 and no ratio has moved: each token's loss is -1, and so is any mean of them.
    assert update["loss"] == pytest.approx(-1.0, abs=1e-4)
    assert [group["loss"] for group in update["groups"].values()] == pytest.approx([-1.0] * 4, abs=1e-4)
    assert update["grad_norm"] > 0


def test_one_rollout_alone_is_named(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    def all_but_one(sample: TrainingSample) -> TrainingSample:
        is_bad = sample.group_id == BAD_GROUP and sample.rollout_index == 3
        return sample if is_bad else tamed(sample)

    change_samples(run_dir, all_but_one)
    code, found = replayed(capsys, run_dir)
    assert (code, found["not_finite"]) == (1, {BAD_GROUP: [3]})


def test_groups_that_are_not_finite_only_together_are_not_accused(capsys: pytest.CaptureFixture[str]) -> None:
    fine = Pass(loss=1.0, grad_norm=2.0, max_log_ratio=0.0, not_finite="")
    whole = replace(fine, grad_norm=math.inf, not_finite="the gradient norm is inf in step 1, update 2 of 3")
    group = GroupReplay(group_id="g00000004", alone=fine, rollouts={})
    updates = tuple(UpdateReplay(whole=each, groups=(group,)) for each in (fine, whole))
    found = LearnerReplay(updates=updates, num_planned=3)
    assert (found.is_well, found.not_finite) == (False, {})
    found.print(Console())
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict == "the gradient norm is inf in step 1, update 2 of 3; every group alone is finite"


def test_every_update_of_a_step_is_told_up_to_the_first_that_is_not_finite(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_dir = train(tmp_path, {"learner.mini_batch_groups": 1, "learner.old_logprobs": "recompute"})
    cause = read_skipped(run_dir / "skipped" / "step-000002").cause
    code, found = replayed(capsys, run_dir)
    assert (code, list(found["not_finite"])) == (1, [BAD_GROUP])
    # As in the run: updates before the bad one were taken, those behind it were not.
    assert f"update {len(found['updates'])} of 4" in cause
    assert [each["is_finite"] for each in found["updates"]] == [True] * (len(found["updates"]) - 1) + [False]
    # Each update is one group: alone and whole are the same, also after the policy has moved.
    for update in found["updates"][:-1]:
        (group,) = update["groups"].values()
        assert (group["loss"], group["grad_norm"]) == (update["loss"], update["grad_norm"])


def test_without_a_checkpoint_before_it_the_starting_policy_is_taken(
    capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    shutil.rmtree(run_dir / "checkpoints")
    code, found = replayed(capsys, run_dir)
    assert code == 1
    assert found["policy"] == {"checkpoint": "start", "version": 0, "trained_version": 1}
    # Another policy than the one that sampled.
    assert found["updates"][0]["groups"]["g00000004"]["max_log_ratio_nats"] > 1e-3


def test_a_damaged_checkpoint_is_passed_over_and_refused_by_name(
    capsys: pytest.CaptureFixture[str], run_dir: Path
) -> None:
    file = next((run_dir / "checkpoints" / "step-000001" / "learner").glob("*.pt"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    _, found = replayed(capsys, run_dir)
    assert found["policy"]["checkpoint"] == "start"
    assert "step-000001" in user_error(capsys, run_dir, "--checkpoint", "step-000001")


def test_a_person_reads_a_table_and_a_verdict(capsys: pytest.CaptureFixture[str], ended_run: Path) -> None:
    capsys.readouterr()
    assert run_command("replay", ended_run) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("skipped/step-000002: 4 groups of step 2")
    assert lines[1].startswith("in the run: the loss is -inf in step 1")
    assert lines[2] == "policy: step-000001, version 1"
    assert sum("not finite" in line for line in lines if line.startswith("  g0")) == 1
    assert lines[-1].endswith(f"not finite alone: {BAD_GROUP}")


# -- the rollout half


def test_the_rollout_half_samples_the_same_tokens_again(capsys: pytest.CaptureFixture[str], ended_run: Path) -> None:
    before = content(ended_run)
    code, found = replayed(capsys, ended_run, "--rollout-only")
    assert code == 0, json.dumps(found)
    assert found["is_same"]
    assert [each["group_id"] for each in found["groups"]] == [f"g0000000{ordinal}" for ordinal in (4, 5, 6, 7)]
    for each in found["groups"]:
        assert (each["num_equal"], each["num_rollouts"], each["policy_version"]) == (8, 8, 1)
        assert each["num_correct"] == each["num_correct_saved"]
        names = ("max_logprob_difference", "max_entropy_difference", "max_advantage_difference")
        assert [each[name] for name in names] == [0.0, 0.0, 0.0]
    assert content(ended_run) == before


def test_a_group_with_rounds_and_hints_is_sampled_again_as_it_was(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Four prompts: those of step 2 were in step 1 too, and their hints are as long as step 1 taught.
    (tmp_path / "few").mkdir()
    data = {"kind": "jsonl", "path": str(write_task(tmp_path / "few", number=4)), "steps_field": "steps"}
    plan = {"kind": "hinted_second_round", "target": 0.2, "first_num_steps": 1}
    run_dir = train(tmp_path, {"rollout.plan": plan, "data.train": data})
    code, found = replayed(capsys, run_dir, "--rollout-only")
    assert (code, found["is_same"]) == (0, True)


def test_a_run_that_went_on_is_replayed_as_it_was_before_the_step(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # Two groups a step: the bad one is in step 3, which trains version 2. The temperature moves with the step.
    temperature = {"kind": "linear", "start": 1.5, "stop": 0.5, "steps": 4}
    changes = {
        "rollout.groups_per_step": 2,
        "rollout.sampling": {"max_response_tokens": 4, "temperature": temperature},
        "run.max_skipped_steps": 1,
        "run.checkpoint": {"every_steps": 1, "keep_last": 4},
    }
    run_dir = train(tmp_path, changes, exit_code=0)
    assert {each.name for each in (run_dir / "checkpoints").iterdir()} == {f"step-00000{step}" for step in (1, 2, 3, 4)}
    code, found = replayed(capsys, run_dir)
    assert (code, found["step"], list(found["not_finite"])) == (1, 3, [BAD_GROUP])
    assert found["policy"] == {"checkpoint": "step-000002", "version": 2, "trained_version": 2}
    assert all(each["max_log_ratio_nats"] < 1e-4 for each in found["updates"][0]["groups"].values())
    code, found = replayed(capsys, run_dir, "--rollout-only")
    assert (code, found["is_same"]) == (0, True)


def test_another_policy_samples_other_tokens_and_exits_1(capsys: pytest.CaptureFixture[str], ended_run: Path) -> None:
    code, found = replayed(capsys, ended_run, "--rollout-only", "--checkpoint", "start")
    assert (code, found["is_same"]) == (1, False)
    assert max(each["max_logprob_difference"] for each in found["groups"]) > 1e-3


def test_a_person_reads_which_groups_are_the_same(capsys: pytest.CaptureFixture[str], run_dir: Path) -> None:
    def other_end(sample: TrainingSample) -> TrainingSample:
        if (sample.group_id, sample.rollout_index) != ("g00000006", 1):
            return sample
        ids = sample.token_ids.copy()
        ids[-1] = 1 if ids[-1] != 1 else 2
        return replace(sample, token_ids=ids)

    change_samples(run_dir, other_end)
    capsys.readouterr()
    assert run_command("replay", run_dir, "--rollout-only") == 1
    out = capsys.readouterr().out
    assert "7 of 8" in next(line for line in out.splitlines() if line.startswith("g00000006"))
    assert out.splitlines()[-1] == "3 of 4 groups are the same, token by token"


def test_other_data_than_the_runs_are_told(capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"problem": "9?", "answer": "7", "steps": ["7"]}) for _ in range(8)]
    (tmp_path / "task.jsonl").write_text("\n".join(rows))
    set_in_recipe(run_dir, "data.train.path", str(tmp_path / "task.jsonl"))
    error = user_error(capsys, run_dir, "--rollout-only")
    assert "prompt 'task-6' has other tokens than group g00000004 was sampled for (data.train)" in error
    (tmp_path / "task.jsonl").write_text(rows[0])
    assert "a saved state must fit the run's data" in user_error(capsys, run_dir, "--rollout-only")
    assert "must hold its prompts, found no 'task-2'" in user_error(
        capsys, run_dir, "--rollout-only", "--checkpoint", "start"
    )


def test_a_policy_that_is_not_finite_is_found_by_both_halves(
    capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path
) -> None:
    policy = write_toy_policy(tmp_path / "broken")
    weights = load_file(policy / "model.safetensors")
    weights["model.norm.weight"][3] = math.nan
    save_file(weights, policy / "model.safetensors", metadata={"format": "pt"})
    set_in_recipe(run_dir, "model.path", str(policy))
    code, found = replayed(capsys, run_dir, "--checkpoint", "start")
    assert (code, len(found["not_finite"])) == (1, 4)
    # The log-probs themselves are not finite: no group can be the cause.
    assert [each["max_log_ratio_nats"] for each in found["updates"][0]["groups"].values()] == [None] * 4
    code, found = replayed(capsys, run_dir, "--rollout-only", "--checkpoint", "start")
    assert code == 1
    assert found["failure"] == "behavior_logprobs must be finite (Rollout)"
    # The checkpoints are of another starting policy.
    assert "the starting policy must be that of the run" in user_error(capsys, run_dir)


# -- a user's mistakes


def test_what_is_no_skipped_step_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], run_dir: Path, tmp_path: Path
) -> None:
    assert "DIR must be a run's directory" in user_error(capsys, tmp_path / "nowhere")
    assert "a run's directory must hold the file run_id" in user_error(capsys, tmp_path)
    assert "found no 'step-000077'" in user_error(capsys, run_dir, "--checkpoint", "step-000077")
    kept = run_dir / "skipped" / "step-000002"
    half = bytearray((kept / GROUPS_FILE).read_bytes())
    (kept / GROUPS_FILE).write_bytes(half[: len(half) // 2])
    assert "groups.safetensors must hold groups as they were saved" in user_error(capsys, kept)
    (kept / STEP_FILE).write_text("[]")
    assert "step.json must be as it was written" in user_error(capsys, kept)
    (kept / STEP_FILE).unlink()
    assert "a skipped step must hold step.json, which is written last" in user_error(capsys, kept)
    assert "this run has none" in user_error(capsys, run_dir)


def test_a_step_outside_a_run_is_told(capsys: pytest.CaptureFixture[str], ended_run: Path, tmp_path: Path) -> None:
    foreign = shutil.copytree(ended_run / "skipped" / "step-000002", tmp_path / "skipped" / "step-000002")
    assert "a run's directory must hold the file run_id" in user_error(capsys, foreign)
