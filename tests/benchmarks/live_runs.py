"""Runs that live side by side and work in turns: while one has its turn, every process of the others is stopped.

A run tells its steps by lines that it appends to a file. Seconds are read outside of the runs, from the start of a turn
to the line of its last step, so that no run's own clock has to be trusted across a stop.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL_S = 0.002
START_S = 600.0
STEP_S = 300.0
END_S = 60.0


@dataclass(slots=True, kw_only=True)
class LiveRun:
    """A process and its descendants.

    Args:
        lines: the file that it appends to.
        is_step: whether a line of it says that a step has ended.
        output: what the process prints, for the message when it ends early.
    """

    process: subprocess.Popen[bytes]
    lines: Path
    is_step: Callable[[str], bool]
    output: Path
    num_steps: int = 0
    _read: int = field(default=0, init=False)

    def turn(self, num_steps: int, *, within_s: float = STEP_S) -> float:
        """Let it work until it has ended so many steps more, then stop it.

        Returns:
            Seconds.
        Raises:
            RuntimeError: it ended, or took longer than `within_s` for a step.
        """
        began, wanted = time.perf_counter(), self.num_steps + num_steps
        self._send(signal.SIGCONT)
        last = began
        while self.num_steps < wanted:
            time.sleep(POLL_S)
            if self._count() > 0:
                last = time.perf_counter()
            if self.process.poll() is not None or time.perf_counter() - last > within_s:
                tail = self.output.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"a run ended or stood still after {self.num_steps} steps: {tail}")
        seconds = time.perf_counter() - began
        self._send(signal.SIGSTOP)
        return seconds

    def close(self) -> None:
        """End it as a user would, then by force what is left."""
        family = self._family()
        self._send(signal.SIGCONT)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=END_S)
        for each in psutil.wait_procs(family, timeout=5)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def _count(self) -> int:
        """Read new whole lines; the number of steps among them."""
        if not self.lines.exists():
            return 0
        with self.lines.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        found = sum(map(self.is_step, whole.decode().splitlines()))
        self.num_steps += found
        return found

    def _family(self) -> list[psutil.Process]:
        if self.process.poll() is not None:
            return []
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def _send(self, number: signal.Signals) -> None:
        for each in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(number)


def start_run(
    words: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    lines: Path,
    is_step: Callable[[str], bool],
    output: Path,
) -> LiveRun:
    with output.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=cwd, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
        )
    return LiveRun(process=process, lines=lines, is_step=is_step, output=output)


def take_turns(
    makers: Mapping[str, Callable[[], LiveRun]], *, num_turns: int, steps_per_turn: int, num_warm_up_steps: int
) -> dict[str, list[float]]:
    """Seconds per step of each turn of each run.

    Runs start one after the other and warm up alone; the order turns round from one round to the next.
    """
    runs: dict[str, LiveRun] = {}
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    with contextlib.ExitStack() as stack:
        for name, make in makers.items():
            runs[name] = make()
            stack.callback(runs[name].close)
            runs[name].turn(num_warm_up_steps, within_s=START_S)
        for index in range(num_turns):
            for name in runs if index % 2 else reversed(runs):
                seconds[name].append(runs[name].turn(steps_per_turn) / steps_per_turn)
    return seconds
