"""A study's life without a real run: what is begun, what is not begun again, what goes on past a failure."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from study_builders import FakeLauncher, write_finished_run, write_study

from services.cli import main
from services.study.command import run_study, write_results
from services.study.directory import Standing, StudyDirectory
from services.study.document import load_study
from services.study.planning import PlannedRun, StudyPlan, plan_study
from services.study.processes import Ending, Outcome, run_all
from shaping.errors import UserError


def plan(folder: Path, changes: dict[str, Any] | None = None, **more: Any) -> StudyPlan:
    path = write_study(folder, changes, **more)
    return plan_study(load_study(path), base_dir=path.parent)


def directory(folder: Path) -> StudyDirectory:
    root = folder / "out"
    root.mkdir(exist_ok=True)
    return StudyDirectory(root)


def finish(run: PlannedRun, run_dir: Path) -> int:
    gain = 0.1 if run.arm == "less" else 0.0
    write_finished_run(run_dir, [0.4, 0.5 + gain, 0.6 + gain + run.seed / 100])
    return 0


def test_every_run_is_begun_once_and_finished_ones_never_again(tmp_path: Path) -> None:
    planned, where = plan(tmp_path), directory(tmp_path)
    launcher, remarks = FakeLauncher(where, finish), []
    outcomes = run_study(planned, where, launcher, jobs=2, remark=remarks.append)
    assert outcomes is not None and {each.ending for each in outcomes} == {Ending.FINISHED}
    assert launcher.launched == [run.name for run in planned.runs]
    assert remarks[-1] == "   6 of 6  less/seed-002  accuracy 0.400 to 0.720 in 8 s"
    first = write_results(planned, where).as_dict()
    again = FakeLauncher(where, finish)
    assert run_study(planned, where, again, jobs=2, remark=remarks.append) == []
    assert again.launched == []
    assert write_results(planned, where).as_dict() == first == json.loads((where.root / "results.json").read_text())


def test_a_run_that_fails_keeps_no_other_from_running(tmp_path: Path) -> None:
    planned, where = plan(tmp_path), directory(tmp_path)

    def make(run: PlannedRun, run_dir: Path) -> int:
        if run.name != "less/seed-001":
            return finish(run, run_dir)
        run_dir.mkdir(parents=True)
        failure = {"role": "learner", "cause": "loss is not finite"}
        (run_dir / "summary.json").write_text(json.dumps({"status": "failed", "failure": failure}))
        return 1

    outcomes = run_study(planned, where, FakeLauncher(where, make), jobs=1, remark=lambda _: None)
    assert outcomes is not None and len(outcomes) == 6
    (failed,) = (each for each in outcomes if each.ending is Ending.FAILED)
    assert (failed.run.name, failed.cause) == ("less/seed-001", "learner: loss is not finite")
    results = write_results(planned, where, [failed])
    assert results.failures == (("less/seed-001", "learner: loss is not finite"),)
    assert results.comparisons["less"].at_steps.num_seeds == 2
    assert "- failed: less/seed-001: learner: loss is not finite" in (where.root / "results.md").read_text()
    assert where.standing(failed.run) is Standing.UNFINISHED, "it is tried again by the next command"


def test_once_the_user_ends_a_study_no_run_begins(tmp_path: Path) -> None:
    planned, where, remarks = plan(tmp_path), directory(tmp_path), []

    class Interrupted(FakeLauncher):
        """Ctrl-C comes while the second run goes on, which ends once it is told to."""

        async def launch(self, run: PlannedRun) -> int:
            if run.name != "less/seed-000":
                return await super().launch(run)
            self.launched.append(run.name)
            self.told = asyncio.Event()
            os.kill(os.getpid(), signal.SIGINT)
            await self.told.wait()
            return 130

        def interrupt(self) -> None:
            super().interrupt()
            self.told.set()

    launcher = Interrupted(where, finish)
    assert run_study(planned, where, launcher, jobs=1, remark=remarks.append) is None
    assert launcher.launched == ["grpo/seed-000", "less/seed-000"] and launcher.num_interrupts == 1
    assert remarks[-1] == "interrupted: 1 of 6 runs are finished; the same command goes on"


async def test_runs_that_go_on_are_interrupted(tmp_path: Path) -> None:
    planned, stop, begun = plan(tmp_path), asyncio.Event(), asyncio.Event()

    class Waiting:
        def __init__(self) -> None:
            self.interrupted = asyncio.Event()

        async def launch(self, run: PlannedRun) -> int:
            assert run.seed == 0
            begun.set()
            await self.interrupted.wait()
            return 130

        def interrupt(self) -> None:
            self.interrupted.set()

    def settle(run: PlannedRun, code: int) -> Outcome:
        return Outcome(run=run, ending=Ending.FAILED, cause=f"exit code {code}")

    working = asyncio.create_task(
        run_all(planned.runs, Waiting(), jobs=2, stop=stop, settle=settle, tell=lambda _: None)
    )
    await begun.wait()
    stop.set()
    outcomes = await working
    assert [(each.run.name, each.ending) for each in outcomes] == [
        ("grpo/seed-000", Ending.INTERRUPTED),
        ("less/seed-000", Ending.INTERRUPTED),
    ]


def test_more_seeds_and_arms_may_come_to_a_study(tmp_path: Path) -> None:
    where = directory(tmp_path)
    where.claim(plan(tmp_path))
    third = {"set": {"learner.num_epochs": 2}}
    where.claim(plan(tmp_path, {"seeds": 5, "arms": {"grpo": {"set": {"shaping.shapers": []}}, "twice": third}}))
    assert json.loads((where.root / "study.json").read_text())["arms"].keys() == {"grpo", "less", "twice"}


def test_a_study_that_would_mix_results_is_refused_by_name(tmp_path: Path) -> None:
    where = directory(tmp_path)
    where.claim(plan(tmp_path))
    other = {"arms": {"grpo": {"set": {"shaping.shapers": []}}, "less": {"set": {"learner.num_epochs": 2}}}}
    with pytest.raises(UserError, match=r"found in arm less: learner.num_epochs: 1 -> 2"):
        where.claim(plan(tmp_path, other))
    with pytest.raises(UserError, match=r"found in arm grpo: .*run.steps: 4 -> 6"):
        where.claim(plan(tmp_path, recipe={"run.steps": 6}))
    with pytest.raises(UserError, match="found name two in the directory and three in the study"):
        where.claim(plan(tmp_path, {"name": "three"}))
    where.claim(plan(tmp_path))


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    where = directory(tmp_path)
    (where.root / "mine.txt").write_text("")
    with pytest.raises(UserError, match=r"a study's directory must be new, empty or a study's, found mine\.txt"):
        where.claim(plan(tmp_path))
    assert [each.name for each in where.root.iterdir()] == ["mine.txt"]


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["study", *(str(word) for word in words)])
    code = ended.value.code
    assert code is None or isinstance(code, int)
    return code or 0


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path)
    assert command(path, "--dry-run", "--out", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert told.startswith("two: 2 arms x 3 seeds = 6 runs of 4 steps, 0 of them finished, 1 at a time, address house")
    assert "2 comparisons with grpo" in told and "arm less            shaping.shapers=['less']" in told
    assert not (tmp_path / "out").exists()
    assert command(path, "--dry-run", "--json", "--jobs", 3) == 0
    asked = json.loads(capsys.readouterr().out)
    assert (asked["num_runs"], asked["jobs"]) == (6, 3)
    assert command(path, "--dry-run", "--jobs", 3) == 0
    assert "3 at a time" in capsys.readouterr().out


def test_a_dry_run_refuses_what_the_study_would_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = write_study(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").touch()
    assert command(path, "--dry-run", "--out", out) == 2
    assert "found notes.txt" in capsys.readouterr().err
    assert [each.name for each in out.iterdir()] == ["notes.txt"]


def test_finished_directories_are_only_drawn_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, where = write_study(tmp_path), directory(tmp_path)
    planned = plan(tmp_path)
    where.claim(planned)
    for run in planned.runs:
        finish(run, where.run_dir(run))
    assert command(path, "--out", where.root, "--json") == 0
    told = capsys.readouterr()
    # 0.1 at every seed: no spread, no interval, nothing declared.
    found = json.loads(told.out)["comparisons"]["less"]["at_equal_steps"]
    assert found["value"] == pytest.approx(0.1) and found["verdict"] == "no difference shown"
    assert told.err == ""
    assert {each.name for each in where.root.iterdir() if each.suffix in (".png", ".md")} == {
        *("curves.png", "differences.png", "results.md")
    }


def test_a_measure_that_no_step_reports_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_study(tmp_path, {"measures": ["accuracy", "rollout_entropi_nats"]})
    assert command(path, "--out", tmp_path / "out") == 2
    assert "a measure must be a metric of docs/metrics.md, got 'rollout_entropi_nats'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
