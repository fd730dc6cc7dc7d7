"""`lessrl train`: one run with everything around it: run directory, control plane, live view, summary, exit code.

House mode (torch) and the figure (matplotlib) are imported where they are used: a run on Ray waits for neither.
"""

import asyncio
import contextlib
import logging
import secrets
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.actor_logs import first_error
from services.addresses import HOUSE_ADDRESS
from services.cluster import RayHouse
from services.control_server import ControlServer
from services.history import RunHistory, summarise
from services.orchestrator import RunCancelled
from services.plan import RunPlan, make_plan
from services.ports import ControlPort
from services.progress import Progress
from services.ray_connection import connect, disconnect
from services.recipe import Recipe
from services.reports import Failure, RunDescription, RunEvent, RunReport, RunState, StepReport
from services.run_dir import GROUPS_FILE, LOGS_DIR, REPORT_FILE, RunFiles, create_run_dir
from services.run_state import Happening
from services.serve_http import bind_port
from services.session import Broadcast, House, Prompts, describe_run, read_prompts, run_session
from shaping.components import import_module_of
from shaping.errors import RunFailed, UserError

EXIT_CODES = {RunState.COMPLETED: 0, RunState.FAILED: 1, RunState.CANCELLED: 130}
POLICY_DIR = "policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainOptions:
    """Where a run goes and what it runs on.

    Args:
        run_dir: a new or empty directory; None makes `<runs>/<name>`.
        runs: folder in which runs get their directories.
        address: a Ray address, "local" for a Ray of this run's own, "house" for one process without Ray.
    """

    run_dir: Path | None
    runs: Path
    address: str


def train(recipe: Recipe, options: TrainOptions) -> int:
    """Run a recipe to its end.

    Returns:
        0 completed, 1 failed, 130 cancelled.
    Raises:
        UserError: the recipe, the data, the port or the cluster cannot work; nothing is left running.
    """
    plan = make_plan(recipe, with_torch=False)
    if recipe.control.port:
        bind_port(recipe.control.host, recipe.control.port).close()
    prompts = read_prompts(recipe)
    run_dir = create_run_dir(recipe.name, base=options.runs, explicit=options.run_dir)
    description = describe_run(recipe, run_id=f"run_{secrets.token_hex(6)}", run_dir=str(run_dir))
    history = RunHistory(description=description)
    try:
        with _log_to(run_dir):
            return asyncio.run(_train(recipe, plan, prompts, options, run_dir, history))
    except UserError:
        # A run that never began leaves no directory behind; it was new or empty, so all in it is this run's.
        if not history.steps:
            shutil.rmtree(run_dir)
        raise
    except asyncio.CancelledError:
        if not history.events:
            shutil.rmtree(run_dir)
        return EXIT_CODES[RunState.CANCELLED]


async def _train(
    recipe: Recipe, plan: RunPlan, prompts: Prompts, options: TrainOptions, run_dir: Path, history: RunHistory
) -> int:
    description = history.description
    _cancel_on_signals()
    async with _open_house(recipe, plan, options.address, description) as opened:
        # Again: connecting to Ray puts Ray's own handlers in their place.
        _cancel_on_signals()
        sys.stderr.writelines(f"lessrl: note: {warning}\n" for warning in plan.warnings)
        files = RunFiles(run_dir, description, api_address=opened.api_address)
        progress = Progress(description, run_dir=run_dir, api_address=opened.api_address)
        with contextlib.closing(files), progress:
            recorder = _Recorder(history, files)
            control = Broadcast(opened.control, [recorder, progress])
            state = await _run_to_its_end(recipe, prompts, opened, control, run_dir)
            seconds = recorder.seconds_to_first_step
            if history.steps:
                figure = import_module_of("services", "report_figure")
                figure.write_report(run_dir / REPORT_FILE, history, seconds_to_first_step=seconds)
            summary = summarise(history, state=state, seconds_to_first_step=seconds)
            files.finish(summary)
            progress.finish(summary)
    return EXIT_CODES[state]


def _cancel_on_signals() -> None:
    """Let SIGINT and SIGTERM cancel the task that calls this, which then closes what it opened."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)


async def _run_to_its_end(
    recipe: Recipe, prompts: Prompts, opened: "_OpenedHouse", control: ControlPort, run_dir: Path
) -> RunState:
    """Run, and report how it ended."""
    try:
        export_to = str(run_dir / POLICY_DIR)
        await run_session(recipe, prompts, opened.house, control, api_address=opened.api_address, export_to=export_to)
    except UserError:
        raise
    except (RunCancelled, asyncio.CancelledError) as error:
        reason = str(error) or "interrupted"
        await control.report(_ended(Happening.CANCELLED, f"Cancelled: {reason}", RunState.CANCELLED))
        return RunState.CANCELLED
    except Exception as error:
        # The border of this process: whatever ended the run, its files and its control plane say so.
        logging.getLogger(__name__).exception("run failed")
        failed = error if isinstance(error, RunFailed) else _unforeseen(error)
        printed = first_error(run_dir / LOGS_DIR, failed.role)
        cause = f"{failed.cause}; it printed first: {printed}" if printed else failed.cause
        failed = RunFailed(role=failed.role, cause=cause, group_id=failed.group_id)
        failure = Failure(role=failed.role, cause=failed.cause, group_id=failed.group_id)
        with contextlib.suppress(RunFailed):
            await control.report(_ended(Happening.FAILED, str(failed), RunState.FAILED, failure))
        return RunState.FAILED
    await control.report(_ended(Happening.COMPLETED, "All steps are done", RunState.COMPLETED))
    return RunState.COMPLETED


def _ended(happening: Happening, message: str, state: RunState, failure: Failure | None = None) -> RunEvent:
    return RunEvent(kind=happening.value, message=message, state=state, failure=failure)


def _unforeseen(error: Exception) -> RunFailed:
    lines = str(error).strip().splitlines() or ["no message"]
    return RunFailed(role="orchestrator", cause=f"{type(error).__name__}: {lines[0]} (logs/driver.log)")


class _Recorder:
    """Keeps what is reported for the summary, and writes it down at once."""

    def __init__(self, history: RunHistory, files: RunFiles) -> None:
        self._history = history
        self._files = files
        self.seconds_to_first_step: float | None = None

    def show(self, report: RunReport) -> None:
        if isinstance(report, StepReport) and self.seconds_to_first_step is None:
            self.seconds_to_first_step = time.time() - psutil.Process().create_time()
        self._history.add(report)
        self._files.write(report, at=time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenedHouse:
    house: House
    control: ControlPort
    api_address: str


@contextlib.asynccontextmanager
async def _open_house(
    recipe: Recipe, plan: RunPlan, address: str, description: RunDescription
) -> AsyncIterator[_OpenedHouse]:
    """The roles of the run and its control plane; everything is closed again, whatever happens."""
    if address == HOUSE_ADDRESS:
        server = ControlServer(description)
        groups = Path(description.run_dir) / GROUPS_FILE
        house = import_module_of("services", "local").LocalHouse(recipe, groups)
        try:
            api_address = await server.serve(recipe.control.host, recipe.control.port)
            yield _OpenedHouse(house=house, control=server, api_address=api_address)
        finally:
            await house.close()
            await server.close()
        return
    cluster = RayHouse(recipe, Path(description.run_dir) / LOGS_DIR)
    try:
        connect(address, recipe)
        api_address = await cluster.open_control(description)
        await cluster.place(plan.total_cpus, plan.total_gpus)
        yield _OpenedHouse(house=cluster, control=cluster.control, api_address=api_address)
    finally:
        try:
            await cluster.close()
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
