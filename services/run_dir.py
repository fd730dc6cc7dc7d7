"""The directory that a run leaves behind.

recipe.yaml     the resolved recipe, every default written out; its first line names the layers, if there were any
metrics.jsonl   one JSON object per report, in order; `kind` says which: event, step, evaluation
ledger.jsonl    one JSON object per group that ended: trained, or dropped and why
groups.jsonl    the first groups of each step, token by token (`run.dump_groups_per_step`), for `lessrl explain`
checkpoints/    what the run can go on from
evaluations/    what `lessrl compare` reads: those that the run made (at-step-000010/), and those of `lessrl evaluate`
exports/        policies of checkpoints, for `lessrl evaluate --from` and for those who ask the API
policy/         the policy of the last step, as a Hugging Face model
skipped/        steps whose loss or gradient was not finite, if there were any, for `lessrl replay`
summary.json    written once, at the end
report.png      the curves
hints.png       accuracy by round and of single prompts, where groups had several rounds
README.txt      how to look further
run_id          of the run, the same for every process that goes on with it
control.json    where its control plane is, for `lessrl status DIR` and the like
control.db      what the control plane keeps, where it is the run's own
logs/           what the parts of the run log

Files that are appended to grow with the run. A process that goes on from a checkpoint first cuts them back to what they
were at that moment: each step, and each group, is in them once. Events stay, as they did happen.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from services.durable_files import replace_file
from services.history import RunHistory, RunSummary
from services.ledger import LedgerLine
from services.plain_data import plain_data
from services.recipe_yaml import header_of, recipe_text
from services.report_lines import read_report, report_line
from services.reports import RunDescription, RunReport
from services.skipped_step import SKIPPED_DIR
from shaping.errors import CheckpointError, UserError

METRICS_FILE = "metrics.jsonl"
LEDGER_FILE = "ledger.jsonl"
SUMMARY_FILE = "summary.json"
GROUPS_FILE = "groups.jsonl"
RECIPE_FILE = "recipe.yaml"
REPORT_FILE = "report.png"
HINTS_FILE = "hints.png"
README_FILE = "README.txt"
RUN_ID_FILE = "run_id"
CONTROL_FILE = "control.json"
LOGS_DIR = "logs"
CHECKPOINTS_DIR = "checkpoints"
POLICY_DIR = "policy"
EXPORTS_DIR = "exports"
APPENDED_FILES = (METRICS_FILE, LEDGER_FILE, GROUPS_FILE)
MAX_SAME_NAME = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EVENT_START = b'{"kind": "event"'


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


def read_run_id(run_dir: Path) -> str:
    """Of the run whose directory this is.

    Raises:
        UserError: it is no run's directory.
    """
    try:
        return (run_dir / RUN_ID_FILE).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"a run's directory must hold the file {RUN_ID_FILE}, found none that can be read ({run_dir}); name the "
            "directory that `lessrl train` made"
        ) from error


def reopen_run_dir(run_dir: Path, *, logs: Mapping[str, int]) -> None:
    """Take the files of a run back to the moment of a checkpoint; its summary goes, as the run has not ended.

    Args:
        logs: of the checkpoint's manifest; empty to begin from nothing.
    Raises:
        CheckpointError: metrics.jsonl or ledger.jsonl is shorter than it was at that moment, and nothing is cut; or a
            file cannot be cut.
    """
    if unknown := sorted(set(logs) - set(APPENDED_FILES)):
        raise CheckpointError(
            f"a manifest must name the files {', '.join(APPENDED_FILES)}, found {unknown} ({run_dir})"
        )
    sizes = {name: path.stat().st_size for name in APPENDED_FILES if (path := run_dir / name).exists()}
    for name in (METRICS_FILE, LEDGER_FILE):
        found, least = sizes.get(name, 0), logs.get(name, 0)
        if found < least:
            raise CheckpointError(
                f"{name} must hold the {least} bytes that it had at the checkpoint, found {found} ({run_dir}); put the "
                "file back"
            )
    try:
        for name, size in sizes.items():
            if size > logs.get(name, 0):
                _cut(run_dir / name, logs.get(name, 0))
        (run_dir / SUMMARY_FILE).unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(f"a run's files must be writable, found {error.strerror} ({run_dir})") from error


def _cut(path: Path, length: int) -> None:
    """Take a file back to a length, but for the events that come after it."""
    with path.open("r+b") as file:
        file.seek(length)
        # Half a line is what a killed process may leave, also one that was killed in here.
        events = [line for line in file if line.startswith(_EVENT_START) and line.endswith(b"}\n")]
        file.seek(length)
        file.writelines(events)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def read_history(run_dir: Path, description: RunDescription) -> RunHistory:
    """All that a run has reported, out of its metrics.jsonl; nothing where there is none.

    Raises:
        CheckpointError: a line that this version of lessrl did not write.
    """
    history, path = RunHistory(description=description), run_dir / METRICS_FILE
    if not path.exists():
        return history
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            history.add(read_report(line, f"line {number} of {path}"))
    return history


class RunFiles:
    """Writes the files of a run as it goes; a killed run leaves every line that was reported.

    A run that goes on finds its own lines there and writes behind them, see `reopen_run_dir`.
    """

    def __init__(self, run_dir: Path, description: RunDescription, *, api_address: str) -> None:
        self.run_dir = run_dir
        (run_dir / LOGS_DIR).mkdir(exist_ok=True)
        path = run_dir / RECIPE_FILE
        header = header_of(path.read_text(encoding="utf-8")) if path.is_file() else ""
        replace_file(path, recipe_text(description.recipe, header).encode())
        replace_file(run_dir / RUN_ID_FILE, f"{description.run_id}\n".encode())
        replace_file(run_dir / README_FILE, _readme(description, api_address).encode())
        self._metrics = (run_dir / METRICS_FILE).open("a", encoding="utf-8")
        self._ledger = (run_dir / LEDGER_FILE).open("a", encoding="utf-8")

    def write(self, report: RunReport, *, at: float) -> None:
        """Append one report.

        Args:
            at: seconds since the epoch.
        """
        self._metrics.write(report_line(report, at=at) + "\n")
        self._metrics.flush()

    def write_ledger(self, lines: Iterable[LedgerLine]) -> None:
        """Append groups that have ended."""
        self._ledger.writelines(json.dumps(each.as_plain()) + "\n" for each in lines)
        self._ledger.flush()

    def lengths(self) -> dict[str, int]:
        """Bytes of each file that is appended to, by name, for the manifest of a checkpoint: whole lines, on the disk.

        Raises:
            CheckpointError: the disk did not take them.
        """
        found = dict.fromkeys(APPENDED_FILES, 0)
        for name in APPENDED_FILES:
            path = self.run_dir / name
            try:
                with path.open("rb") as file:
                    # Shaping workers append to groups.jsonl, each whole line under the file's lock.
                    fcntl.flock(file, fcntl.LOCK_SH)
                    os.fsync(file.fileno())
                    found[name] = os.fstat(file.fileno()).st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise CheckpointError(f"{name} must be on the disk, found {error.strerror} ({path})") from error
        return found

    def finish(self, summary: RunSummary) -> None:
        """Write the summary and close; a reader sees all of it or nothing."""
        text = json.dumps(plain_data(summary.as_dict()), indent=2) + "\n"
        replace_file(self.run_dir / SUMMARY_FILE, text.encode())
        self.close()

    def close(self) -> None:
        """Stop writing reports; a second close does nothing."""
        self._metrics.close()
        self._ledger.close()


def _readme(description: RunDescription, api_address: str) -> str:
    run = f"{api_address}/v1/runs/{description.run_id}"
    return f"""\
{description.name}: {description.method} on {description.model}
seed {description.seed}, {description.total_steps} steps, run id {description.run_id}

Files
  {RECIPE_FILE:14} the recipe with every default written out; `lessrl train {RECIPE_FILE}` runs it again
  {METRICS_FILE:14} one JSON object per line: kind "step", "evaluation" or "event", in order
  {LEDGER_FILE:14} one JSON object per group that ended: prompt, step, and "trained" or why it was dropped
  {GROUPS_FILE:14} the first groups of each step, token by token, as many as run.dump_groups_per_step says
  {CHECKPOINTS_DIR + "/":14} what the run can go on from; `lessrl checkpoints .` lists, verifies and pins them
  {SKIPPED_DIR + "/":14} groups of steps that were not finite, if any; `lessrl replay .` says which group it was
  {SUMMARY_FILE:14} how it ended; written at the end, so that it exists means that the run ended
  {REPORT_FILE:14} the curves, drawn at the end
  {HINTS_FILE:14} what hints did, drawn at the end of a run that has them
  {LOGS_DIR + "/":14} what the parts of the run log

While it runs
  curl {run}
  curl -X POST {run}/pause
  curl -X POST {run}/resume
  curl -X POST {run}/cancel
  {api_address}/ in a browser shows live curves and groups; {api_address}/docs lists every call
  {api_address}/metrics is for Prometheus; `lessrl dashboards export DIR` writes the dashboards for Grafana

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
