"""A run's directory is its own, and its files are whole."""

import json
import math
import threading
from pathlib import Path

import pytest
import yaml
from report_builders import make_description, make_evaluation, make_event, make_history, make_step

from services.history import summarise
from services.reports import Failure, RunState
from services.run_dir import RunFiles, create_run_dir
from shaping.errors import UserError


def open_files(run_dir: Path, **description: object) -> RunFiles:
    return RunFiles(run_dir, make_description(**description), api_address="http://127.0.0.1:8265")  # type: ignore[arg-type]


def test_runs_of_one_name_get_numbers_and_keep_what_was_there(tmp_path: Path) -> None:
    first = create_run_dir("tiny", base=tmp_path / "runs")
    (first / "mine.txt").write_text("kept")
    names = [first.name, *(create_run_dir("tiny", base=tmp_path / "runs").name for _ in range(2))]
    assert names == ["tiny", "tiny-2", "tiny-3"]
    assert (first / "mine.txt").read_text() == "kept"


def test_runs_that_start_together_never_share_a_directory(tmp_path: Path) -> None:
    made: list[Path] = []
    barrier = threading.Barrier(8)

    def make() -> None:
        barrier.wait()
        made.append(create_run_dir("tiny", base=tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8


def test_a_chosen_directory_is_made_or_taken_when_empty(tmp_path: Path) -> None:
    chosen = tmp_path / "a" / "b"
    assert create_run_dir("tiny", explicit=chosen) == chosen
    assert create_run_dir("tiny", explicit=chosen) == chosen


def test_a_chosen_directory_that_holds_something_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        create_run_dir("tiny", explicit=tmp_path)
    message = str(caught.value)
    assert "must be new or empty, found 1 entries" in message
    assert str(tmp_path) in message
    assert "\n" not in message


def test_a_file_where_the_directory_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    for make in (
        lambda: create_run_dir("tiny", explicit=tmp_path / "runs"),
        lambda: create_run_dir("tiny", explicit=tmp_path / "runs" / "below"),
        lambda: create_run_dir("tiny", base=tmp_path / "runs"),
    ):
        with pytest.raises(UserError):
            make()


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", ".hidden", "a b", "x" * 65, "new\nline"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name must be 1 to 64"):
        create_run_dir(name, base=tmp_path)


def test_the_recipe_is_written_out_and_parses_back(tmp_path: Path) -> None:
    recipe: dict[str, object] = {"name": "tiny", "run": {"steps": 3}, "stop": ("a", "b"), "state": RunState.RUNNING}
    open_files(tmp_path, recipe=recipe).close()
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text()) == {
        "name": "tiny",
        "run": {"steps": 3},
        "stop": ["a", "b"],
        "state": "running",
    }
    assert (tmp_path / "logs").is_dir()


def test_every_report_is_one_line_and_says_its_kind(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    failure = Failure(role="learner", cause="line one\nline two")
    files.write(make_event("failed", "why", RunState.FAILED, failure=failure), at=0.0)
    files.write(make_step(3, {"reward_total_value": 0.5}), at=1.5)
    files.write(make_evaluation(3, 0.75), at=2.0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["event", "step", "evaluation"]
    assert lines[0]["event"] == "failed"
    assert (lines[0]["time"], lines[1]["time"]) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.500Z")
    assert lines[0]["failure"]["cause"] == "line one\nline two"
    assert (lines[1]["step"], lines[1]["metrics"]) == (3, {"reward_total_value": 0.5})
    assert lines[2]["accuracy"] == 0.75
    files.close()


def test_a_line_is_on_disk_as_soon_as_it_is_reported(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1), at=0.0)
    assert (tmp_path / "metrics.jsonl").read_text().endswith("}\n")
    files.close()


def test_numbers_that_are_not_finite_are_null_so_that_every_reader_can_read(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    files.write(make_step(1, {"learner_loss": math.nan, "learner_grad_norm": math.inf}), at=0.0)
    files.close()
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert json.loads(text)["metrics"] == {"learner_loss": None, "learner_grad_norm": None}


def test_the_summary_is_written_whole_and_closes_the_files(tmp_path: Path) -> None:
    files = open_files(tmp_path)
    history = make_history(4)
    files.finish(summarise(history, state=RunState.COMPLETED, seconds_to_first_step=9.5))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["status"], summary["steps"], summary["seed"]) == ("completed", 4, 7)
    assert (summary["accuracy_first"], summary["accuracy_last"]) == (0.4, 0.9)
    assert (summary["seconds_to_first_step"], summary["seconds_training"]) == (9.5, 8.0)
    assert summary["tokens_generated"] == 400
    assert "failure" not in summary
    assert not list(tmp_path.glob(".*"))
    files.close()


def test_the_readme_names_every_file_and_how_to_ask_the_api(tmp_path: Path) -> None:
    open_files(tmp_path).close()
    text = (tmp_path / "README.txt").read_text()
    names = "recipe.yaml metrics.jsonl ledger.jsonl checkpoints/ summary.json report.png hints.png logs/"
    for name in names.split():
        assert name in text
    assert "curl -X POST http://127.0.0.1:8265/v1/runs/run-1/pause" in text
    assert max(len(line) for line in text.splitlines()) < 160
