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
        self.events = EventTail(run_dir / "metrics.jsonl")

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl of one kind."""
        return [record for record in read_lines(self.run_dir / "metrics.jsonl") if record["kind"] == kind]

    @property
    def num_steps(self) -> int:
        return len(self.records("step"))

    @property
    def orchestrator(self) -> psutil.Process | None:
        """The process that works in the run's directory; None between two of them."""
        with suppress(psutil.Error, OSError, ValueError):
            process = psutil.Process(int((self.run_dir / ".lock").read_text().split()[0]))
            if process.ppid() == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def actors(self, role: str) -> list[psutil.Process]:
        """Processes of a role, in order of their ids."""
        found = [each for each in self.everyone() if _title(each).startswith(TITLES[role])]
        return sorted(found, key=lambda each: each.pid)

    def worker(self, worker_id: str) -> psutil.Process | None:
        """The actor that prints to this worker's log; None while there is none."""
        role = worker_id.split("-")[0]
        return next((each for each in self.actors(role) if prints_to(each) == f"{worker_id}.log"), None)

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
            self.events.read()
            self.everyone()
            assert self.process.poll() is None, f"the run ended with {self.process.returncode}: {self.output()}"
            assert time.monotonic() < began + seconds, f"{what} did not happen within {seconds} s: {self.output()}"
            time.sleep(POLL_SECONDS)
        self.events.read()
        return time.monotonic() - began

    def wait(self, seconds: float) -> int:
        """Exit code of the run."""
        began = time.monotonic()
        while self.process.poll() is None:
            self.events.read()
            self.everyone()
            assert time.monotonic() < began + seconds, f"the run did not end within {seconds} s: {self.output()}"
            time.sleep(POLL_SECONDS)
        self.events.read()
        return self.process.returncode

    def output(self) -> str:
        return self._output.read_text()[-4000:]


class EventTail:
    """Every event that a run ever reported: also those that a process that went on cut out of the file again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0
        self.all: list[dict[str, Any]] = []

    def read(self) -> None:
        """Take in what was written since the last call; often enough, nothing is cut out unseen."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            self._position = min(self._position, os.fstat(file.fileno()).st_size)
            file.seek(self._position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._position += len(whole)
        self.all += [record for record in map(json.loads, whole.splitlines()) if record["kind"] == "event"]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [each for each in self.all if each["event"] in kinds]


@contextmanager
def started(folder: Path, words: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[StackRun]:
    """`lessrl` with these words, the run's directory left out; it is ended at the end, whatever happens."""
    run_dir, output = folder / "run", folder / "output.txt"
    command = [sys.executable, "-m", "services.cli", *words]
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


def prints_to(process: psutil.Process) -> str:
    """Name of the file that a process prints to, or ""."""
    with suppress(OSError):
        return Path(os.readlink(f"/proc/{process.pid}/fd/1")).name
    return ""


def _title(process: psutil.Process) -> str:
    with suppress(psutil.Error, IndexError):
        return process.cmdline()[0]
    return ""
