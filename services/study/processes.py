"""Runs of a study as processes of their own, some side by side; what they say goes into a log file each."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from services.addresses import HOUSE_ADDRESS
from services.run_lock import is_held
from services.study.directory import Standing, StudyDirectory
from services.study.planning import PlannedRun
from shaping.errors import UserError

RELEASE_SECONDS = 120.0
_POLL_SECONDS = 0.2


class Ending(StrEnum):
    """How a run of this process ended."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A run that was begun here, and its end; `cause` of a failed one is one line."""

    run: PlannedRun
    ending: Ending
    cause: str = ""


class Launcher(Protocol):
    """Runs one run to its end."""

    async def launch(self, run: PlannedRun) -> int:
        """Returns: its exit code."""
        ...

    def interrupt(self) -> None:
        """Have every run that goes on end itself."""
        ...


class ProcessLauncher:
    """A process for each run, in a group of its own: Ctrl-C reaches the study alone, which passes it on once."""

    def __init__(self, directory: StudyDirectory, address: str) -> None:
        self._directory = directory
        self._address = address
        self._processes: set[asyncio.subprocess.Process] = set()
        self._is_interrupted = False

    async def launch(self, run: PlannedRun) -> int:
        run_dir, log = self._directory.run_dir(run), self._directory.log_path(run)
        await _released(self._directory, run)
        if self._directory.standing(run) is Standing.UNFINISHED and not self._directory.can_go_on(run):
            self._directory.forget(run)
        recipe = self._directory.write_recipe(run)
        log.parent.mkdir(parents=True, exist_ok=True)
        words = ("-m", "services.study.one_run", str(os.getpid()), str(recipe), str(run_dir), self._address)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=_environment(self._address),
                process_group=0,
            )
        self._processes.add(process)
        if self._is_interrupted:
            process.send_signal(signal.SIGINT)
        try:
            return await process.wait()
        finally:
            self._processes.discard(process)

    def interrupt(self) -> None:
        self._is_interrupted = True
        for each in self._processes:
            if each.returncode is None:
                each.send_signal(signal.SIGINT)


async def run_all(
    runs: Sequence[PlannedRun],
    launcher: Launcher,
    *,
    jobs: int,
    stop: asyncio.Event,
    settle: Callable[[PlannedRun, int], Outcome],
    tell: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run them in order, `jobs` side by side; one that fails keeps no other from running.

    Args:
        stop: once set, no further run begins, and those that go on are interrupted.
        settle: what became of a run that ended with an exit code.
        tell: of each run as it ends.
    Returns:
        What became of those that were begun.
    """
    outcomes: list[Outcome] = []
    waiting = iter(runs)

    async def work(waiting: Iterator[PlannedRun]) -> None:
        for run in waiting:
            if stop.is_set():
                return
            outcome = settle(run, await launcher.launch(run))
            if outcome.ending is Ending.FAILED and stop.is_set():
                outcome = Outcome(run=run, ending=Ending.INTERRUPTED)
            outcomes.append(outcome)
            tell(outcome)

    watching = asyncio.create_task(_interrupt_after(stop, launcher))
    try:
        await asyncio.gather(*(work(waiting) for _ in range(jobs)))
    finally:
        watching.cancel()
    return outcomes


async def stoppable(work: Callable[[asyncio.Event], Awaitable[list[Outcome]]]) -> list[Outcome]:
    """Do the work with an event that Ctrl-C, or what ends a process politely, sets."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        return await work(stop)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _interrupt_after(stop: asyncio.Event, launcher: Launcher) -> None:
    await stop.wait()
    launcher.interrupt()


async def _released(directory: StudyDirectory, run: PlannedRun) -> None:
    """Wait for a process of a study that was killed to end: it is interrupted, and takes its time.

    Raises:
        UserError: it does not end.
    """
    waited = 0.0
    while is_held(directory.run_dir(run)):
        if waited >= RELEASE_SECONDS:
            raise UserError(
                f"a run must not be in the hands of another process, found it still held after {RELEASE_SECONDS:g} s "
                f"({directory.run_dir(run)}); end that process"
            )
        await asyncio.sleep(_POLL_SECONDS)
        waited += _POLL_SECONDS


def _environment(address: str) -> dict[str, str]:
    """One thread for a run in one process, unless the user says otherwise: it is then the same bit for bit."""
    return {"OMP_NUM_THREADS": "1", **os.environ} if address == HOUSE_ADDRESS else dict(os.environ)
