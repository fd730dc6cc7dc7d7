"""`lessrl train` in processes of its own: followed through its run directory, its actors found by their titles.

What is ended here is found below the run's own process, by id: never another run's.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
TITLES = {
    "rollout": "ray::RolloutActor",
    "shaping": "ray::ShapingActor",
    "learner": "ray::LearnerActor",
    "control": "ray::ControlActor",
}
POLL_SECONDS = 0.05


class StackRun:
    """A run under its supervisor.

    Args:
        process: the supervisor.
        output: what it and its children print.
    """

    def __init__(self, process: "subprocess.Popen[str]", run_dir: Path, output: Path) -> None:
        self.process = process
        self.run_dir = run_dir
        self._output = output
        self._seen: set[psutil.Process] = set()
        self.reports = ReportTail(run_dir / "metrics.jsonl")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl of one kind."""
        return [record for record in read_lines(self.run_dir / "metrics.jsonl") if record["kind"] == kind]

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Events of these kinds, all of them without any, as far as they were seen."""
        return [each for each in self.reports.all if each["kind"] == "event" and (not kinds or each["event"] in kinds)]

    @property
    def orchestrator(self) -> psutil.Process | None:
        """The process that works in the run's directory; None between two of them."""
        with suppress(psutil.Error, OSError, ValueError):
            process = psutil.Process(int((self.run_dir / ".lock").read_text().split()[0]))
            if process.ppid() == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def actors(self, role: str) -> dict[str, psutil.Process]:
        """Processes of a role by the name of their log: "rollout-0"; those that have none yet are left out."""
        found = {_log_of(each): each for each in self.everyone() if _title(each).startswith(TITLES[role])}
        return {name: found[name] for name in sorted(found) if name}

    def everyone(self) -> list[psutil.Process]:
        """Every process below the supervisor now; all of them are remembered."""
        found: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
        self._seen.update(found)
        return found

    def left_over(self, seconds: float) -> list[str]:
        """Titles of the processes of this run that still live after `seconds`."""
        _, alive = psutil.wait_procs(list(self._seen), timeout=seconds)
        return [f"{each.pid} {_title(each)}" for each in alive]

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float) -> float:
        """Poll until something is so: the run is another process, so there is no event to wait on.

        Returns:
            How long it took.
        """
        began = time.monotonic()
        while not holds():
            self.reports.read()
            self.everyone()
            assert self.process.poll() is None, f"the run ended with {self.process.returncode}: {self.output()}"
            assert time.monotonic() < began + seconds, f"{what} did not happen within {seconds} s: {self.output()}"
            time.sleep(POLL_SECONDS)
        self.reports.read()
        return time.monotonic() - began

    def wait(self, seconds: float) -> int:
        """Exit code of the run."""
        began = time.monotonic()
        while self.process.poll() is None:
            self.reports.read()
            self.everyone()
            assert time.monotonic() < began + seconds, f"the run did not end within {seconds} s: {self.output()}"
            time.sleep(POLL_SECONDS)
        self.reports.read()
        return self.process.returncode

    def output(self) -> str:
        return self._output.read_text()[-4000:]


class ReportTail:
    """Every report that a run ever wrote: also steps that a process that went on cut out of the file again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self._seen: set[bytes] = set()
        self.all: list[dict[str, Any]] = []

    def read(self) -> None:
        """Take in what was written since the last call; often enough, nothing is cut out unseen."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._position:
                self._position = 0
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        # Every line has the time at which it was written.
        new = [line for line in whole.splitlines() if line not in self._seen]
        self._seen.update(new)
        self.all += map(json.loads, new)


@contextmanager
def started(
    folder: Path,
    words: Sequence[str],
    environment: Mapping[str, str] | None = None,
    *,
    program: Sequence[str] = ("-m", "services.cli"),
) -> Iterator[StackRun]:
    """`lessrl` with these words, the run's directory left out; it is ended at the end, whatever happens.

    Args:
        program: what of Python's is `lessrl`.
    """
    run_dir, output = folder / "run", folder / "output.txt"
    command = [sys.executable, *program, *words]
    with output.open("a") as printed:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=printed,
            stderr=printed,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
    run = StackRun(process, run_dir, output)
    try:
        yield run
    finally:
        if process.poll() is None:
            run.everyone()
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)
        for each in run.everyone():
            with suppress(psutil.NoSuchProcess):
                each.kill()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file of JSON objects; none where it is not there yet."""
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _log_of(process: psutil.Process) -> str:
    """Name of the log that an actor prints to, or ""."""
    with suppress(OSError):
        path = Path(os.readlink(f"/proc/{process.pid}/fd/1"))
        return path.stem if path.suffix == ".log" and path.parent.name == "logs" else ""
    return ""


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error, IndexError):
        return process.cmdline()[0]
    return ""
