"""`lessrl train`: the process of a run: its directory, its control plane, its sittings, its exit code."""

import asyncio
import contextlib
import itertools
import logging
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from services.addresses import HOUSE_ADDRESS
from services.collector import collected_rarely
from services.control.calls import ResumeRequest
from services.hosting.run_link import open_link
from services.hosting.signals import RunSignals
from services.hosting.supervisor import EXIT_RESUMABLE, Attempt
from services.open_run import open_run
from services.pausing import Released
from services.ray_connection import connect, disconnect
from services.reports import RunState
from services.run_dir import LOGS_DIR, METRICS_FILE
from services.run_lock import hold_run_dir
from services.run_setup import PreparedRun
from services.sitting import Sitting
from shaping.errors import UserError

EXIT_PREEMPTED = 143
EXIT_CODES = {RunState.COMPLETED: 0, RunState.FAILED: 1, RunState.CANCELLED: 130, RunState.PAUSED: EXIT_PREEMPTED}


def train(prepared: PreparedRun, attempt: Attempt) -> int:
    """Run one process of a run to its end.

    Returns:
        0 completed, 1 failed, 130 cancelled, 143 paused as the system wanted it ended, EXIT_RESUMABLE where another
        process may go on from the last checkpoint.
    Raises:
        UserError: the data or the cluster cannot work; nothing is left running.
        CheckpointError: the checkpoint asked for cannot be used.
    """
    try:
        with hold_run_dir(prepared.run_dir), _log_to(prepared.run_dir), collected_rarely():
            return asyncio.run(_train(prepared, attempt))
    except UserError:
        _forget_new_run(prepared, attempt, has_begun=lambda line: line.startswith('{"kind": "step"'))
        raise
    except asyncio.CancelledError:
        _forget_new_run(prepared, attempt, has_begun=bool)
        return EXIT_CODES[RunState.CANCELLED]


def _forget_new_run(prepared: PreparedRun, attempt: Attempt, *, has_begun: Callable[[str], bool]) -> None:
    """A run that never began leaves no directory behind: it was new or empty, so all in it is this run's.

    Args:
        has_begun: whether a line of its metrics says that it has.
    """
    metrics = prepared.run_dir / METRICS_FILE
    lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
    if prepared.is_new and attempt.number == 0 and not any(map(has_begun, lines)):
        shutil.rmtree(prepared.run_dir)


async def _train(prepared: PreparedRun, attempt: Attempt) -> int:
    signals = RunSignals(grace_seconds=prepared.recipe.run.deadlines.step_seconds)
    signals.install()
    run = open_run(prepared, None if attempt.number else prepared.checkpoint)
    resumed = run.found is not None or attempt.number > 0
    sys.stderr.writelines(f"lessrl: note: {warning}\n" for warning in prepared.plan.warnings)
    async with _connected(prepared), open_link(prepared, run.description, run.history.reports, resumed=resumed) as link:
        # Again: connecting to Ray puts Ray's own handlers in their place.
        signals.install()
        if resumed and attempt.number == 0:
            await link.link.resume(ResumeRequest(reason="lessrl resume"), "lessrl resume")
        for number in itertools.count():
            sitting = Sitting(
                prepared=prepared, attempt=attempt, run=run, link=link, signals=signals, is_first=number == 0
            )
            end = await sitting.hold()
            if not isinstance(end, Released):
                return EXIT_RESUMABLE if end is None else EXIT_CODES[end]
            run = await asyncio.to_thread(open_run, prepared, end.checkpoint)
    raise AssertionError("the last sitting returns")


@contextlib.asynccontextmanager
async def _connected(prepared: PreparedRun) -> AsyncIterator[None]:
    if prepared.address == HOUSE_ADDRESS:
        yield
        return
    try:
        connect(prepared.address, prepared.recipe)
        yield
    finally:
        disconnect()


@contextlib.contextmanager
def _log_to(run_dir: Path) -> Iterator[None]:
    logs = run_dir / LOGS_DIR
    logs.mkdir(exist_ok=True)
    handler = logging.FileHandler(logs / "driver.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
