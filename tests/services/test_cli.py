"""The command line: what is said, where it is said, and the exit code."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from recipe_builders import make_raw, write_recipe
from toy_policy import toy_changes, write_toy_policy

from services.cli import main
from services.commands.options import parse_labels, parse_overrides
from shaping.errors import RecipeError, UserError

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "deploy" / "recipes" / "quickstart.yaml"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(autouse=True)
def empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The command runs in a directory of its own, so that a `runs` left behind is seen; one thread."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield folder
    torch.set_num_threads(threads)


def run_command(*words: object) -> int:
    """`lessrl words` in this process.

    Returns:
        The exit code.
    """
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0


def user_error(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a user's mistake is told in."""
    assert run_command(*words) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("lessrl: ") and told.err.endswith("\n") and told.err.count("\n") == 1, told.err
    return told.err.removeprefix("lessrl: ").rstrip("\n")


def toy_recipe(policy: Path, folder: Path, changes: dict[str, Any] | None = None) -> Path:
    return write_recipe(folder, toy_changes(policy, folder, changes))


# -- plan


def test_plan_is_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--set", "run.steps=40", "--set", "rollout.groups_per_step=32")
    assert run_command("plan", QUICKSTART, *words) == 0
    told = capsys.readouterr()
    assert told.out.startswith("quickstart: 40 steps\n  a step      32 groups x 8 = 256 responses")
    assert told.err == ""


def test_plan_is_told_as_json_and_follows_what_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--set", "run.steps=7", "--set", "rollout.groups_per_step=6", "--set", "learner={num_ranks: 2}")
    assert run_command("plan", QUICKSTART, "--json", *words) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["steps"], plan["groups_per_step"], plan["rollouts_per_step"]) == (7, 6, 48)


def test_plan_starts_and_writes_nothing(empty_directory: Path) -> None:
    run_command("plan", QUICKSTART)
    assert list(empty_directory.iterdir()) == []


def test_the_command_is_a_program_with_an_exit_code(tmp_path: Path) -> None:
    missing = tmp_path / "none.yaml"
    words = [sys.executable, "-m", "services.cli", "plan", str(missing)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert (
        ended.stderr == f"lessrl: a recipe must be a YAML file, found no file {missing}; see deploy/recipes for some\n"
    )


# -- --set


def test_values_are_read_as_yaml() -> None:
    given = ["a.b=1", "c=1e-6", "d={kind: less}", "e=text", "f=", "g=a=b"]
    assert parse_overrides(given) == {
        "a.b": 1,
        "c": 1e-6,
        "d": {"kind": "less"},
        "e": "text",
        "f": None,
        "g": "a=b",
    }


@pytest.mark.parametrize(
    ("given", "words"), [("steps", "must be key=value"), ("=1", "must be key=value"), ("a=[1", "must be valid YAML")]
)
def test_what_is_no_key_and_value_is_refused(given: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_overrides([given])


def test_labels_are_words_as_they_stand() -> None:
    assert parse_labels(["team=a", "n=1", "empty="]) == {"team": "a", "n": "1", "empty": ""}
    with pytest.raises(UserError, match="--label must be key=value, got 'team'"):
        parse_labels(["team"])


# -- the whole command

NOUNS = {"checkpoints", "dashboards", "config", "data", "eval", "groups", "workers"}
COMMANDS = {
    *("train", "resume", "submit", "plan", "simulate", "list", "status", "top", "wait", "logs", "events", "pause"),
    *("cancel", "export", "replay", "evaluate", "compare", "explain", "serve", "shutdown", "doctor", "version"),
    *("study", "hints"),
}


def test_every_command_is_in_the_help(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_command("--help") == 0
    listed = {
        line.split()[1]
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("\u2502 ") and line[2] != " "
    }
    assert listed - {"--help", "--no-color"} == COMMANDS | NOUNS


@pytest.mark.parametrize("command", sorted(COMMANDS | NOUNS))
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run_command(command, "--help") == 0
    assert command in capsys.readouterr().out


def test_no_option_takes_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    # What stands on a command line is in the list of processes, and in the shell's history.
    for command in sorted(COMMANDS | NOUNS):
        run_command(command, "--help")
        assert "--token " not in capsys.readouterr().out


@pytest.mark.parametrize("word", ["--sett", "trian"])
def test_unknown_word_is_a_mistake(capsys: pytest.CaptureFixture[str], word: str) -> None:
    assert run_command(word) == 2
    assert word in capsys.readouterr().err


# -- a user's mistakes


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "run.stepz=3"), "unknown key 'stepz'; did you mean 'steps'? (run.stepz in"),
        (("--set", "run.steps=many"), "must be a valid integer"),
        (("--set", "run.steps"), "--set must be key=value, got 'run.steps'"),
        (("--set", "learner.loss=ppo_clp"), "did you mean 'ppo_clip'? (learner.loss)"),
        (("--set", "learner.mini_batch_groups=5"), "try 4 (learner.mini_batch_groups)"),
    ],
)
def test_mistake_in_the_recipe_is_one_line(
    capsys: pytest.CaptureFixture[str], empty_directory: Path, command: str, words: tuple[str, ...], message: str
) -> None:
    assert message in user_error(capsys, command, QUICKSTART, *words)
    assert list(empty_directory.iterdir()) == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"problem": "1?", "answer": "1"}, {"problem": "2?"}], "a row must have an answer"),
        ([{"problem": "1?", "answer": "1"}, {"problem": "  ", "answer": "2"}], "a prompt must not be empty"),
        ([{"problem": "1?" * 9, "answer": "1"}], "a prompt must have at most 8 tokens, all 1 have more (data.train)"),
        ([], "a data set must hold at least one row"),
    ],
)
def test_data_that_cannot_be_used_is_told_before_anything_is_started(
    capsys: pytest.CaptureFixture[str],
    policy: Path,
    tmp_path: Path,
    empty_directory: Path,
    rows: list[dict[str, str]],
    message: str,
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = toy_recipe(policy, tmp_path, {"data.train": {"kind": "jsonl", "path": str(path)}})
    told = user_error(capsys, "train", recipe, "--address", "house")
    assert message in told
    if len(rows) > 1:
        assert "line 2" in told
    assert list(empty_directory.iterdir()) == []


def test_missing_data_file_is_told(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    recipe = toy_recipe(policy, tmp_path, {"data.train": {"kind": "jsonl", "path": "none.jsonl"}})
    told = user_error(capsys, "train", recipe, "--address", "house")
    assert f"a data file must exist, found none at {tmp_path / 'none.jsonl'}" in told
    assert list(empty_directory.iterdir()) == []


def test_port_in_use_is_told(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        recipe = toy_recipe(policy, tmp_path, {"control.port": port})
        told = user_error(capsys, "train", recipe, "--address", "house")
    assert f"the control plane needs a free port, found 127.0.0.1:{port} in use" in told
    assert list(empty_directory.iterdir()) == []


def test_run_directory_that_holds_something_is_kept(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    (empty_directory / "notes.txt").write_text("mine")
    told = user_error(capsys, "train", toy_recipe(policy, tmp_path), "--address", "house", "--run-dir", empty_directory)
    assert "--run-dir must be new or empty, found 1 entries" in told
    assert (empty_directory / "notes.txt").read_text() == "mine"


def test_what_house_mode_cannot_do_is_told(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    recipe = toy_recipe(policy, tmp_path, {"rollout.engine.kind": "vllm"})
    assert "house mode runs in one process" in user_error(capsys, "train", recipe, "--address", "house")
    assert list(empty_directory.glob("runs/*")) == []


def test_model_without_weights_is_told_and_leaves_no_run_behind(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    without = shutil.copytree(policy, tmp_path / "without", ignore=shutil.ignore_patterns("*.safetensors"))
    recipe = toy_recipe(without, tmp_path)
    assert run_command("train", recipe, "--address", "house") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lessrl: model.path must hold a model: ")
    assert list(empty_directory.glob("runs/*")) == []


@pytest.mark.parametrize("command", ["train", "resume"])
def test_directory_without_a_run_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str) -> None:
    message = user_error(capsys, command, tmp_path)
    assert "a recipe must be a YAML file" in message or "a run's directory must hold recipe.yaml" in message


# -- a run


def test_train_runs_a_recipe_to_its_end_and_leaves_its_files(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    recipe = toy_recipe(policy, tmp_path, {"data.evaluation": toy_changes(policy, tmp_path)["data.train"]})
    assert run_command("train", recipe, "--address", "house", "--set", "run.steps=2") == 0
    run_dir = empty_directory / "runs" / "small"
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["policy_version"]) == ("completed", 2, 2)
    assert summary["seconds_to_first_step"] > 0 and summary["accuracy_first"] is not None
    records = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in records if each["kind"] == "step"] == [1, 2]
    assert [each["event"] for each in records if each["kind"] == "event"][0::99] == ["starting"]
    assert records[-1]["event"] == "completed"
    assert (run_dir / "policy" / "model.safetensors").is_file()
    assert (run_dir / "report.png").is_file()
    assert "step 2/2" in capsys.readouterr().out
    # The recipe that was kept says the same: it can be run again.
    kept = run_dir / "recipe.yaml"
    assert yaml.safe_load(kept.read_text())["run"]["steps"] == 2
    assert run_command("plan", kept) == 0
    # A second run gets a directory of its own.
    assert run_command("train", recipe, "--address", "house", "--set", "run.steps=1") == 0
    assert {each.name for each in (empty_directory / "runs").iterdir()} == {"small", "small-2"}


def test_train_says_what_the_plan_warns_of(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    changes = {"learner.token_plans": ["forking_tokens"], "run.force": True}
    recipe = toy_recipe(policy, tmp_path, changes)
    assert run_command("train", recipe, "--address", "house", "--set", "run.steps=1") == 0
    assert "lessrl: note: forking_tokens (learner.token_plans[0]) contradicts less" in capsys.readouterr().err
    assert (empty_directory / "runs" / "small" / "summary.json").is_file()


def test_failed_run_ends_with_code_1_and_says_why(
    capsys: pytest.CaptureFixture[str], policy: Path, tmp_path: Path, empty_directory: Path
) -> None:
    # A step so long that the next loss is not a number, and no step may be skipped.
    steps = {"run.steps": 5, "run.max_skipped_steps": 0}
    recipe = toy_recipe(policy, tmp_path, {"learner.optimizer": {"learning_rate": 1e30, "max_grad_norm": 0}, **steps})
    assert run_command("train", recipe, "--address", "house", "--run-dir", "out") == 1
    summary = json.loads((empty_directory / "out" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert summary["failure"]["role"] in ("learner", "rollout")
    assert summary["failure"]["cause"] in capsys.readouterr().out.replace("\n", " ")
    assert "Traceback" in (empty_directory / "out" / "logs" / "driver.log").read_text()


def test_fault_of_a_plug_in_ends_the_run_with_code_1_and_a_record(
    policy: Path, tmp_path: Path, empty_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A plug-in of a user: one file in the folder is all it takes.
    (tmp_path / "faulty.py").write_text(
        "from dataclasses import dataclass\nNEEDS = frozenset()\n"
        "@dataclass(frozen=True)\nclass Config:\n    pass\n"
        "class Faulty:\n    def advantages(self, scored):\n        return 1 / 0\n"
        "def build(config):\n    return Faulty()\n"
    )
    package = __import__("shaping.estimators", fromlist=["estimators"])
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    recipe = toy_recipe(policy, tmp_path, {"shaping": {"rewards": ["numeric_answer"], "estimator": "faulty"}})
    assert run_command("train", recipe, "--address", "house", "--run-dir", "out") == 1
    summary = json.loads((empty_directory / "out" / "summary.json").read_text())
    assert summary["failure"]["role"] == "orchestrator"
    assert summary["failure"]["cause"] == "ZeroDivisionError: division by zero (logs/driver.log)"


def test_smallest_recipe_of_the_tests_is_one_that_works(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(make_raw()))
    assert run_command("plan", path) == 0
