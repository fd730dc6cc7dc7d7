"""Live changes as a run remembers them: in a file, in a checkpoint, in the history of its config."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from live_builders import change
from recipe_builders import make_recipe, write_recipe

from services.group_files import write_groups
from services.live.changes import (
    AppliedChange,
    ChangeFile,
    LiveState,
    read_changes,
    recipe_at,
    with_live_changes,
    without_live_changes,
)
from services.replay.saved_step import open_step
from services.skipped_step import GROUPS_FILE, SkippedStep, skipped_dir
from shaping.errors import CheckpointError, DataError

STEPS, RATE = "run.steps", "learner.optimizer.learning_rate"
FIRST = AppliedChange(generation=2, step=4, values={RATE: 1e-3})
SECOND = AppliedChange(generation=3, step=6, values={STEPS: 9, RATE: 2e-3})
LATER = AppliedChange(generation=5, step=9, values={STEPS: 12})
STATE = LiveState(applied=(FIRST, SECOND), refused=(4,), scheduled=(LATER,))


def test_a_file_of_changes_reads_back_with_their_steps(tmp_path: Path) -> None:
    file = ChangeFile(tmp_path / "changes.jsonl")
    assert file.recorded == ()
    file.write(FIRST)
    file.write(SECOND)
    read = read_changes(tmp_path / "changes.jsonl")
    assert [(each.generation, each.at_step, each.values) for each in read] == [
        (2, 4, {RATE: 1e-3}),
        (3, 6, {STEPS: 9, RATE: 2e-3}),
    ]
    again = ChangeFile(tmp_path / "changes.jsonl")
    assert again.recorded == read
    # A run that goes on from an earlier checkpoint makes it again.
    again.write(SECOND)
    assert len((tmp_path / "changes.jsonl").read_text().splitlines()) == 2


def test_half_a_line_of_a_killed_process_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "changes.jsonl"
    ChangeFile(path).write(FIRST)
    whole = path.read_text()
    for cut in range(1, len(whole)):
        path.write_text(whole + whole[:cut].rstrip("\n"))
        assert len(read_changes(path)) == 1
    # And the next one stands on a line of its own.
    ChangeFile(path).write(SECOND)
    assert [each.generation for each in read_changes(path)] == [2, 3]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[]",
        '{"generation": 2, "step": 4}',
        '{"generation": 2, "step": 0, "values": {"run.steps": 4}}',
        '{"generation": true, "step": 1, "values": {"run.steps": 4}}',
        '{"generation": 2, "step": 1, "values": {}}',
        '{"generation": 2, "step": 1, "values": {"run.steps": 4}, "more": 1}',
    ],
)
def test_a_line_that_is_no_change_is_named_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "changes.jsonl"
    path.write_text(json.dumps({"generation": 2, "step": 1, "values": {STEPS: 4}}) + f"\n{line}\n")
    with pytest.raises(DataError, match=r"\(line 2 of .*changes.jsonl\)"):
        read_changes(path)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be a file of JSON lines"):
        read_changes(tmp_path / "none.jsonl")


def test_a_disk_that_takes_no_line_is_told_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = ChangeFile(tmp_path / "gone" / "changes.jsonl")
    with caplog.at_level(logging.WARNING):
        file.write(FIRST)
    assert "a live change is not in changes.jsonl" in caplog.text


def test_a_state_survives_json_and_gives_the_recipe_that_holds() -> None:
    assert LiveState.from_json(json.loads(json.dumps(STATE.as_json()))) == STATE
    assert LiveState.from_json({}) == LiveState()
    recipe = STATE.recipe(make_recipe())
    assert (recipe.run.steps, recipe.learner.optimizer.learning_rate) == (9, 2e-3)
    assert STATE.generations == {2, 3, 4}


@pytest.mark.parametrize("plain", [{"applied": [{}]}, {"applied": 3}, {"refused": ["x"]}])
def test_a_damaged_state_is_refused(plain: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="live changes must be as they were saved"):
        LiveState.from_json(plain)


def test_the_recipe_of_a_step_has_the_changes_that_held_for_it() -> None:
    changes = [
        change(2, 4, learner__optimizer__learning_rate=1e-3),
        change(3, 6, run__steps=9),
        change(4, None, run__steps=12),
    ]
    recipes = [recipe_at(make_recipe(), changes, step) for step in (3, 4, 5, 6)]
    assert [each.learner.optimizer.learning_rate for each in recipes] == [1e-6, 1e-3, 1e-3, 1e-3]
    assert [each.run.steps for each in recipes] == [3, 3, 3, 9]


def test_the_history_of_a_config_tells_each_change_with_both_values() -> None:
    base = make_recipe()
    began = {"step": 0, "recipe_hash": base.content_hash, "changes": []}
    history = with_live_changes([began], base, STATE)
    assert history[0] == began
    assert [(each["step"], each["generation"]) for each in history[1:]] == [(3, 2), (5, 3)]
    assert history[2]["changes"] == [
        {"key": STEPS, "before": 3, "after": 9},
        {"key": RATE, "before": 1e-3, "after": 2e-3},
    ]
    assert history[2]["recipe_hash"] == STATE.recipe(base).content_hash
    # Once in a checkpoint they are told by every later one, and only once.
    assert with_live_changes(history, base, STATE) == history
    assert without_live_changes(history) == [began]


def test_a_skipped_step_is_replayed_by_the_recipe_that_held_for_it(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    (tmp_path / "run_id").write_text("run_1\n")
    changes = [{"generation": step, "step": step, "values": {STEPS: 10 + step}} for step in (2, 3)]
    (tmp_path / "changes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in changes))
    directory = skipped_dir(tmp_path, 2)
    directory.mkdir(parents=True)
    write_groups(directory / GROUPS_FILE, [])
    SkippedStep(step=2, cause="the loss is nan", lines=()).write(directory)
    assert open_step(tmp_path).recipe.run.steps == 12
