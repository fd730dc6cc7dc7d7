"""A run's directory as a whole: secrets stay inside, and it is read while it is written."""

import json
import threading
from pathlib import Path

import pytest
import yaml
from checkpoint_builders import make_store, save_checkpoint
from evaluation_builders import make_answer
from report_builders import make_description, make_event, make_step
from run_view_builders import append_groups, append_reports, make_group_line, make_ledger_line, make_run_dir, write_log
from stored_evaluations import write_evaluation

from services.control.redaction import Redactor
from services.evaluation.directory import EVALUATIONS_DIR
from services.run_dir import RunFiles
from services.run_view.distributions import KINDS
from services.run_view.refusals import NotFound
from services.run_view.view import RunView

CANARY = "canary-5d41402abc4b"


def test_a_canary_in_every_file_leaves_through_no_answer(tmp_path: Path) -> None:
    recipe: dict[str, object] = {
        "reward": {"api_key": "named-secret-77", "url": f"http://x/?k={CANARY}"},
        "note": CANARY,
    }
    make_run_dir(tmp_path, num_steps=1, recipe=recipe)
    append_reports(tmp_path, [make_event("failed", message=CANARY)])
    append_groups(tmp_path, [make_group_line(9, prompt=f"say {CANARY}", prompt_id=CANARY)])
    files = RunFiles(tmp_path, make_description(recipe=recipe), api_address="")
    files.write_ledger([make_ledger_line(9, prompt_id=CANARY)])
    files.close()
    for worker in ("driver", "rollout-0"):
        write_log(tmp_path, worker, f"2026-01-01 00:00:01,000 ERROR header Authorization: {CANARY}\n")
    save_checkpoint(make_store(tmp_path), 1)
    (tmp_path / "checkpoints" / "step-000001" / "tag").write_text(CANARY)
    write_evaluation(tmp_path / EVALUATIONS_DIR / "e", [make_answer()], model=CANARY)
    view = RunView(tmp_path, mask=Redactor([CANARY]))
    answers = [
        *(view.series_names(), view.series(["step_s"]), view.outcomes(), view.groups(), view.group("g00000009")),
        *(view.distribution(kind) for kind in KINDS),
        *(view.logs(), view.logs_after(""), view.checkpoints(), view.evaluations(), view.recipe(), view.config_text()),
    ]
    said = "\n".join(map(repr, answers))
    assert CANARY not in said
    assert "named-secret-77" not in said
    # It was there, and was masked.
    assert said.count("[redacted]") >= 8


def test_the_recipe_is_the_run_s_own_and_its_text_reads_back(tmp_path: Path) -> None:
    view = RunView(make_run_dir(tmp_path, recipe={"name": "tiny", "note": "gr\u00fc\u00dfe", "list": [1, 2.5, None]}))
    assert view.recipe() == {"name": "tiny", "note": "gr\u00fc\u00dfe", "list": [1, 2.5, None]}
    assert view.config_text() == (tmp_path / "recipe.yaml").read_text()
    assert yaml.safe_load(view.config_text()) == view.recipe()


def test_a_run_that_has_not_begun_has_no_recipe_and_no_numbers(tmp_path: Path) -> None:
    view = RunView(tmp_path)
    with pytest.raises(NotFound, match="a run must have begun"):
        view.recipe()
    assert (view.series_names(), view.logs().lines, view.checkpoints(), view.evaluations()) == ((), (), (), ())


def test_a_directory_that_is_not_on_this_host_is_said_never_shown_as_empty(tmp_path: Path) -> None:
    view = RunView(tmp_path / "elsewhere")
    for call in (view.series_names, view.groups, view.logs, view.checkpoints, view.evaluations, view.recipe):
        with pytest.raises(NotFound, match="the directory of a run must be readable"):
            call()  # type: ignore[operator]


def test_a_reader_beside_a_writer_sees_a_beginning_of_what_was_written(tmp_path: Path) -> None:
    num_steps, per_step = 150, 8
    files = RunFiles(tmp_path, make_description(), api_address="")

    def write() -> None:
        for step in range(1, num_steps + 1):
            append_groups(tmp_path, [make_group_line(per_step * step, step=step, num_correct=step % 5)])
            files.write_ledger(make_ledger_line(per_step * step + each, step=step) for each in range(per_step))
            files.write(make_step(step), at=float(step))
        files.close()

    view = RunView(tmp_path)
    writer = threading.Thread(target=write)
    failures: list[BaseException] = []

    def read() -> None:
        seen = 0
        try:
            while writer.is_alive() or seen < num_steps:
                steps = view.series(["step_s"])["step"]
                assert steps == list(range(1, len(steps) + 1)) and len(steps) >= seen
                seen = len(steps)
                page = view.groups(page_size=100)
                ordinals = [int(each.group_id[1:]) for each in page.items]
                assert ordinals == sorted(ordinals, reverse=True)
                # A group is written down before it ends.
                assert all(each.is_stored for each in page.items if int(each.group_id[1:]) % per_step == 0)
                for stored in [each for each in page.items if each.is_stored][:1]:
                    assert json.loads(view.group(stored.group_id))["correct"] == stored.num_correct
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for each in (writer, *readers):
        each.start()
    for each in (writer, *readers):
        each.join()
    assert failures == []
    assert view.outcomes() == {"trained": num_steps * per_step}
