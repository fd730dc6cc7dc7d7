"""What `lessrl checkpoints` shows and does."""

from pathlib import Path

import pytest
from checkpoint_builders import flip_byte, make_store, save_checkpoint

from services.cli import main


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    with pytest.raises(SystemExit) as ended:
        main(["checkpoints", *words])
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


@pytest.fixture
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run with a good checkpoint, a damaged one, and one whose size alone is right."""
    monkeypatch.setenv("COLUMNS", "120")
    store = make_store(tmp_path)
    save_checkpoint(store, 10, metrics={"accuracy": 0.75})
    (save_checkpoint(store, 20).path / "run_state.json").unlink()
    flip_byte(save_checkpoint(store, 30).path / "run_state.json", 0)
    return str(tmp_path)


def test_the_list_shows_each_with_what_it_is_of(run_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([run_dir], capsys)
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["checkpoint", "version", "written", "(UTC)", "size", "accuracy"]
    assert lines[1] == ["step-000010", "10", "1970-01-01", "00:00:00", "0.0", "MB", "0.750"]
    assert lines[2][0] == "step-000030" and lines[2][-1] == "-"
    assert "step-000020: damaged: a checkpoint must hold all its files, run_state.json is missing" in out


def test_verifying_reads_every_byte_and_fails_with_a_damaged_one(
    run_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run([run_dir, "verify"], capsys)
    assert code == 1
    assert "step-000010: 3 files are as they were written" in out
    assert "step-000020: damaged" in out and "step-000030: damaged: run_state.json must have the content" in out
    assert run([run_dir, "verify", "step-000010"], capsys)[:2] == (0, "step-000010: 3 files are as they were written\n")
    assert run([run_dir, "verify", "step-000020"], capsys)[0] == 1


def test_pinning_is_shown_and_taken_back(run_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([run_dir, "pin", "step-000010"], capsys)[:2] == (0, "step-000010 is pinned\n")
    assert "pinned" in run([run_dir], capsys)[1]
    assert run([run_dir, "unpin", "step-000010"], capsys)[:2] == (0, "step-000010 is unpinned\n")
    assert "pinned" not in run([run_dir], capsys)[1]


def test_a_tag_is_shown_and_obeyed_by_no_terminal(run_dir: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(Path(run_dir))
    store.pin("step-000010")
    store.tag("step-000010", "[red]before\x1b[2J the change")
    assert "pinned, [red]before?[2J the change" in run([run_dir], capsys)[1]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["remove"], "must be told one of list, create, pin, unpin, verify, rm, export, got 'remove'"),
        (["pin"], "must name a checkpoint"),
        (["pin", "step-000011"], "found no 'step-000011'"),
        (["verify", "step-000011"], "must be one of step-000010, step-000020, step-000030, got 'step-000011'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    words: list[str], reason: str, run_dir: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = run([run_dir, *words], capsys)
    assert code == 2 and reason in errors and errors.count("\n") == 1


def test_a_run_without_checkpoints_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no checkpoints" in run([str(tmp_path)], capsys)[1]
    assert run([str(tmp_path / "missing")], capsys)[0] == 2
