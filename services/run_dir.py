"""The directory that a run leaves behind.

recipe.yaml     the resolved recipe, every default written out
metrics.jsonl   one JSON object per report, in order; `kind` says which: event, step, evaluation
groups.jsonl    the first groups of each step, token by token (`run.dump_groups_per_step`), for `lessrl explain`
summary.json    written once, at the end
report.png      the curves
README.txt      how to look further
logs/           what the parts of the run log
"""

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from services.history import RunSummary
from services.reports import EvaluationReport, RunDescription, RunReport, StepReport
from shaping.errors import UserError

METRICS_FILE = "metrics.jsonl"
SUMMARY_FILE = "summary.json"
GROUPS_FILE = "groups.jsonl"
RECIPE_FILE = "recipe.yaml"
REPORT_FILE = "report.png"
README_FILE = "README.txt"
LOGS_DIR = "logs"
MAX_SAME_NAME = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def create_run_dir(name: str, *, base: Path = Path("runs"), explicit: Path | None = None) -> Path:
    """Make the directory of a new run; an earlier run's is never touched.

    Args:
        name: the run's name: `<base>/<name>`, or `<name>-2`, `<name>-3` ... when that exists.
        explicit: this directory instead; must be new or empty.
    Returns:
        The absolute path.
    Raises:
        UserError: a name that is no file name, a directory that holds something, or one that cannot be made.
    """
    if explicit is not None:
        return _make_explicit(explicit)
    if not _NAME.fullmatch(name):
        raise UserError(
            f"a run's name must be 1 to 64 letters, digits, dots, dashes or underscores, and start with a letter or "
            f"digit, got {name!r} (name in the recipe); rename it"
        )
    try:
        base.mkdir(parents=True, exist_ok=True)
        for number in range(1, MAX_SAME_NAME):
            candidate = base / (name if number == 1 else f"{name}-{number}")
            # mkdir is the test and the claim in one: two runs that start together get two directories.
            try:
                candidate.mkdir()
            except FileExistsError:
                continue
            return candidate.resolve()
    except OSError as error:
        raise UserError(
            f"a run directory must be writable, found {error.strerror} ({base}); choose --run-dir"
        ) from error
    raise UserError(
        f"run names must be free, found {MAX_SAME_NAME} runs named {name} ({base}); remove some or rename it"
    )


def _make_explicit(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = sum(1 for _ in path.iterdir())
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--run-dir must be a directory, found a file ({path}); choose another") from error
    except OSError as error:
        raise UserError(f"--run-dir must be writable, found {error.strerror} ({path}); choose another") from error
    if found:
        raise UserError(
            f"--run-dir must be new or empty, found {found} entries ({path}); choose another directory or remove it"
        )
    return path.resolve()


class RunFiles:
    """Writes the files of a run as it goes; a killed run leaves every line that was reported."""

    def __init__(self, run_dir: Path, description: RunDescription, *, api_address: str) -> None:
        self.run_dir = run_dir
        (run_dir / LOGS_DIR).mkdir(exist_ok=True)
        recipe = yaml.safe_dump(_plain(description.recipe), sort_keys=False, allow_unicode=True)
        _write_whole(run_dir / RECIPE_FILE, recipe)
        _write_whole(run_dir / README_FILE, _readme(description, api_address))
        self._metrics = (run_dir / METRICS_FILE).open("a", encoding="utf-8")

    def write(self, report: RunReport, *, at: float) -> None:
        """Append one report.

        Args:
            at: seconds since the epoch.
        """
        line = json.dumps(_record(report, at), allow_nan=False)
        self._metrics.write(line + "\n")
        self._metrics.flush()

    def finish(self, summary: RunSummary) -> None:
        """Write the summary and close; a reader sees all of it or nothing."""
        _write_whole(self.run_dir / SUMMARY_FILE, json.dumps(_plain(summary.as_dict()), indent=2) + "\n")
        self.close()

    def close(self) -> None:
        """Stop writing reports; a second close does nothing."""
        self._metrics.close()


def _record(report: RunReport, at: float) -> dict[str, Any]:
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    plain = _plain(asdict(report))
    if isinstance(report, StepReport):
        return {"kind": "step", "time": time, **plain}
    if isinstance(report, EvaluationReport):
        return {"kind": "evaluation", "time": time, **plain}
    event = plain.pop("kind")
    return {"kind": "event", "time": time, "event": event, **plain}


def _plain(value: Any) -> Any:
    """What JSON and YAML hold: enums by value, tuples as lists, null for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _write_whole(path: Path, text: str) -> None:
    """Replace a file so that a reader, or a crash, finds the old or the new one, never half."""
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _readme(description: RunDescription, api_address: str) -> str:
    run = f"{api_address}/v1/runs/{description.run_id}"
    return f"""\
{description.name}: {description.algorithm} with {description.shaping} shaping on {description.model}
seed {description.seed}, {description.total_steps} steps, run id {description.run_id}

Files
  {RECIPE_FILE:14} the recipe with every default written out; `lessrl train {RECIPE_FILE}` runs it again
  {METRICS_FILE:14} one JSON object per line: kind "step", "evaluation" or "event", in order
  {GROUPS_FILE:14} the first groups of each step, token by token, as many as run.dump_groups_per_step says
  {SUMMARY_FILE:14} how it ended; written at the end, so that it exists means that the run ended
  {REPORT_FILE:14} the curves, drawn at the end
  {LOGS_DIR + "/":14} what the parts of the run log

While it runs
  curl {run}
  curl -X POST {run}/pause
  curl -X POST {run}/resume
  curl -X POST {run}/cancel
  {api_address}/docs lists every call, {api_address}/metrics is for Prometheus

Why each token got its advantage, while it runs or afterwards
  lessrl explain {GROUPS_FILE}
  lessrl explain {GROUPS_FILE} --html groups.html

Afterwards
  held-out accuracy by step:
    python3 -c "import json; [print(r['step'], r['accuracy']) for r in map(json.loads, open('{METRICS_FILE}')) \
if r['kind'] == 'evaluation']"
  reward by step:
    python3 -c "import json; [print(r['step'], r['metrics']['reward_total_value']) for r in map(json.loads, \
open('{METRICS_FILE}')) if r['kind'] == 'step']"
"""
