"""The directory of a study, in which it can be gone on with.

study.json                     what is asked: each arm's recipe, address; written before the first run begins
recipes/ARM/seed-000.yaml      the whole recipe of each run
runs/ARM/seed-000/             the run, as `lessrl train` leaves it
logs/ARM/seed-000.log          what its processes said
results.json, results.md       what it amounts to, see services/study/results.py
curves.png, differences.png    the pictures
"""

import json
import shutil
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from services.checkpoints.store import CheckpointStore
from services.durable_files import replace_file
from services.plain_data import plain_data
from services.reports import RunState
from services.run_dir import CHECKPOINTS_DIR, RECIPE_FILE, RUN_ID_FILE, SUMMARY_FILE
from services.study.planning import PlannedRun, StudyPlan, flat
from shaping.errors import UserError

STUDY_FILE, RESULTS_FILE, TABLE_FILE = "study.json", "results.json", "results.md"
CURVES_FILE, DIFFERENCES_FILE = "curves.png", "differences.png"
MAX_DIFFERENCES = 3


class Standing(StrEnum):
    """How far a run is."""

    ABSENT = "absent"
    UNFINISHED = "unfinished"
    FINISHED = "finished"


class StudyDirectory:
    """Where everything of a study is."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def recipe_path(self, run: PlannedRun) -> Path:
        return self.root / "recipes" / f"{run.name}.yaml"

    def run_dir(self, run: PlannedRun) -> Path:
        return self.root / "runs" / run.name

    def log_path(self, run: PlannedRun) -> Path:
        return self.root / "logs" / f"{run.name}.log"

    def standing(self, run: PlannedRun) -> Standing:
        """A run that completed is finished; one that failed, or was ended, is to be gone on with."""
        run_dir = self.run_dir(run)
        if not run_dir.is_dir():
            return Standing.ABSENT
        completed = self.summary(run).get("status") == RunState.COMPLETED.value
        return Standing.FINISHED if completed else Standing.UNFINISHED

    def summary(self, run: PlannedRun) -> dict[str, Any]:
        """Its summary.json; empty where it has not ended."""
        try:
            found: dict[str, Any] = json.loads((self.run_dir(run) / SUMMARY_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return found

    def can_go_on(self, run: PlannedRun) -> bool:
        """Whether an unfinished run left what it can go on from; otherwise it begins again."""
        run_dir = self.run_dir(run)
        is_run = (run_dir / RECIPE_FILE).is_file() and (run_dir / RUN_ID_FILE).is_file()
        return is_run and CheckpointStore(run_dir / CHECKPOINTS_DIR).latest() is not None

    def forget(self, run: PlannedRun) -> None:
        """Take away what an unfinished run left."""
        shutil.rmtree(self.run_dir(run))

    def write_recipe(self, run: PlannedRun) -> Path:
        path = self.recipe_path(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(plain_data(run.recipe.as_dict()), sort_keys=False, allow_unicode=True)
        replace_file(path, text.encode())
        return path

    def claim(self, plan: StudyPlan) -> None:
        """Write down what is asked.

        Raises:
            UserError: as `check`.
        """
        asked = self.check(plan)
        replace_file(self.root / STUDY_FILE, json.dumps(asked, indent=2).encode() + b"\n")

    def check(self, plan: StudyPlan) -> dict[str, Any]:
        """Compare what is asked with what was asked of this directory before, if it is there; writes nothing.

        More seeds and other arms may be added, and some left out: results of one question are never mixed with those
        of another.

        Returns:
            What STUDY_FILE is to hold.
        Raises:
            UserError: another study's directory, an arm whose recipe is not what it was, or other files.
        """
        path = self.root / STUDY_FILE
        asked = _asked(plan)
        if path.exists():
            before = _read(path)
            _check_unchanged(before, asked, self.root)
            asked["arms"] = before["arms"] | asked["arms"]
        elif found := sorted(each.name for each in self.root.glob("*") if not each.name.startswith(".")):
            raise UserError(
                f"a study's directory must be new, empty or a study's, found {found[0]} ({self.root}); choose another "
                "with --out"
            )
        return asked


def _asked(plan: StudyPlan) -> dict[str, Any]:
    """What decides a run's numbers, the seed and the name apart."""
    recipes = {run.arm: plain_data(run.recipe.as_dict()) for run in plan.runs}
    arms = {
        name: {key: value for key, value in recipe.items() if key not in ("name", "seed")}
        for name, recipe in recipes.items()
    }
    return {"name": plan.study.name, "address": plan.study.run.address, "arms": arms}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        if not (isinstance(found, dict) and found.keys() >= {"name", "address", "arms"}):
            raise ValueError("keys are missing")
    except (OSError, ValueError) as error:
        raise UserError(f"{STUDY_FILE} must be what a study wrote, found: {error} ({path})") from error
    return found


def _check_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], root: Path) -> None:
    for key in ("name", "address"):
        if before[key] != now[key]:
            raise UserError(
                f"a study must go on as it began, found {key} {before[key]} in the directory and {now[key]} in the "
                f"study ({root}); choose another directory with --out"
            )
    for name in filter(before["arms"].__contains__, now["arms"]):
        old, new = flat(before["arms"][name]), flat(now["arms"][name])
        changed = [
            f"{key}: {old.get(key, 'nothing')} -> {new.get(key, 'nothing')}"
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key)
        ]
        if changed:
            raise UserError(
                f"an arm must stay as it was, or its runs would mix, found in arm {name}: "
                f"{'; '.join(changed[:MAX_DIFFERENCES])} ({root}); give the arm another name, or choose another "
                "directory with --out"
            )
