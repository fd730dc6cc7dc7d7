"""A run that goes on in its own directory: every line once, and the history that was reported."""

import json
from pathlib import Path

import pytest
from report_builders import make_description, make_event, make_history, make_step, make_worker

from services.history import summarise
from services.ledger import LedgerLine
from services.reports import Failure, RunState
from services.run_dir import RunFiles, read_history, read_run_id, reopen_run_dir
from shaping.errors import CheckpointError, UserError


def open_files(run_dir: Path, *, run_id: str = "run-1") -> RunFiles:
    return RunFiles(run_dir, make_description(run_id=run_id), api_address="http://127.0.0.1:8265")


def ended(ordinal: int, outcome: str = "trained", *, step: int = 1) -> LedgerLine:
    group_id, prompt_id = f"g{ordinal:08d}", f"p{ordinal}"
    return LedgerLine(ordinal=ordinal, group_id=group_id, prompt_id=prompt_id, visit=1, outcome=outcome, step=step)


def steps_in(run_dir: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def test_a_group_that_ended_is_one_line_on_disk_at_once(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write_ledger([ended(0), ended(1, "dropped_no_signal")])
    lines = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert lines[1] == {
        "ordinal": 1,
        "group_id": "g00000001",
        "prompt_id": "p1",
        "visit": 1,
        "outcome": "dropped_no_signal",
        "step": 1,
    }
    assert [line["ordinal"] for line in lines] == [0, 1]
    files.close()


def test_a_run_that_goes_on_from_a_checkpoint_has_every_step_and_group_once(tmp_path: Path) -> None:
    first = open_files(tmp_path)
    first.write(make_step(1), at=0.0)
    first.write_ledger([ended(0)])
    (tmp_path / "groups.jsonl").write_text("{}\n")
    at_checkpoint = first.lengths()
    assert at_checkpoint == {
        "metrics.jsonl": (tmp_path / "metrics.jsonl").stat().st_size,
        "ledger.jsonl": (tmp_path / "ledger.jsonl").stat().st_size,
        "groups.jsonl": 3,
    }
    first.write(make_step(2), at=0.0)
    first.write_ledger([ended(1)])
    with (tmp_path / "groups.jsonl").open("a") as groups, (tmp_path / "metrics.jsonl").open("a") as metrics:
        groups.write("{}\n")
        # A process that dies may leave half a line.
        metrics.write('{"kind": "st')
    first.finish(summarise(make_history(2), state=RunState.FAILED, seconds_to_first_step=None))
    reopen_run_dir(tmp_path, logs=at_checkpoint)
    assert not (tmp_path / "summary.json").exists()
    second = open_files(tmp_path)
    assert second.lengths() == at_checkpoint
    second.write(make_step(2), at=0.0)
    second.write(make_step(3), at=0.0)
    second.write_ledger([ended(1), ended(2)])
    second.close()
    assert steps_in(tmp_path) == [1, 2, 3]
    ledger = [json.loads(line)["ordinal"] for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert ledger == [0, 1, 2]
    assert (tmp_path / "groups.jsonl").read_text() == "{}\n"


def test_events_stay_when_a_run_goes_on_from_an_earlier_step(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1), at=0.0)
    at_checkpoint = files.lengths()
    for report in (make_step(2), make_event("worker_left_out", "rollout-0 died"), make_step(3), make_event("failed")):
        files.write(report, at=0.0)
    files.close()
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    with (tmp_path / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'{"kind": "event", "ti')
    reopen_run_dir(tmp_path, logs=at_checkpoint)
    lines = whole.splitlines(keepends=True)
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines[0] + lines[2] + lines[4]
    # Again from nothing: what happened is still there.
    reopen_run_dir(tmp_path, logs={})
    assert (tmp_path / "metrics.jsonl").read_bytes() == lines[2] + lines[4]
    assert read_history(tmp_path, make_description()).events[0].message == "rollout-0 died"


def test_files_that_are_open_can_be_cut_too(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1), at=0.0)
    at_checkpoint = files.lengths()
    files.write(make_step(2), at=0.0)
    reopen_run_dir(tmp_path, logs=at_checkpoint)
    files.write(make_step(2), at=0.0)
    files.close()
    assert steps_in(tmp_path) == [1, 2]


def test_a_run_without_a_checkpoint_begins_from_nothing(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1), at=0.0)
    files.write_ledger([ended(0)])
    files.close()
    reopen_run_dir(tmp_path, logs={})
    assert [(tmp_path / name).read_text() for name in ("metrics.jsonl", "ledger.jsonl")] == ["", ""]


@pytest.mark.parametrize("name", ["metrics.jsonl", "ledger.jsonl"])
def test_a_file_that_lost_lines_of_before_the_checkpoint_is_refused_and_nothing_is_cut(
    name: str, tmp_path: Path
) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1), at=0.0)
    files.write_ledger([ended(0)])
    files.close()
    before = [(tmp_path / each).read_text() for each in ("metrics.jsonl", "ledger.jsonl")]
    for logs in ({name: 10_000}, {name: 10_000, "groups.jsonl": 0}):
        with pytest.raises(CheckpointError, match=f"{name} must hold the 10000 bytes"):
            reopen_run_dir(tmp_path, logs=logs)
    assert [(tmp_path / each).read_text() for each in ("metrics.jsonl", "ledger.jsonl")] == before
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} must hold the 1 bytes that it had at the checkpoint, found 0"):
        reopen_run_dir(tmp_path, logs={name: 1})


def test_the_dump_of_groups_may_be_gone(tmp_path: Path) -> None:
    open_files(tmp_path).close()
    reopen_run_dir(tmp_path, logs={"groups.jsonl": 100})
    assert not (tmp_path / "groups.jsonl").exists()


def test_a_manifest_cannot_have_any_other_file_cut(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(CheckpointError, match=r"\.\./mine\.txt"):
        reopen_run_dir(run_dir, logs={"../mine.txt": 0})
    assert (tmp_path / "mine.txt").read_text() == "kept"


def test_a_run_keeps_its_id(tmp_path: Path) -> None:
    open_files(tmp_path, run_id="run_7").close()
    assert read_run_id(tmp_path) == "run_7"
    with pytest.raises(UserError, match="must hold the file run_id"):
        read_run_id(tmp_path / "logs")


def test_a_history_read_back_is_the_one_that_was_reported(tmp_path: Path) -> None:
    files, history = open_files(tmp_path), make_history(3)
    failure = Failure(role="learner", cause="line one\nline two", group_id="g00000001")
    history.add(make_event("worker_started", "why", RunState.STARTING, workers=(make_worker(),)))
    history.add(make_event("failed", "\u2192", RunState.FAILED, failure=failure))
    for report in (*history.steps, *history.evaluations, *history.events):
        files.write(report, at=0.0)
    files.close()
    assert read_history(tmp_path, history.description) == history


def test_a_line_that_cannot_be_read_is_named_by_its_number(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1), at=0.0)
    files.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "other", "time": ""}\n')
    with pytest.raises(CheckpointError, match=r"kind 'other' is none of .* \(line 2 of .*metrics\.jsonl\)"):
        read_history(tmp_path, make_description())
