"""A real control plane behind a real port of this machine, for clients that are not asynchronous, and a run that obeys.

The run is no process: it reports what a test tells it to, and answers the intents of its control plane at once.
"""

import asyncio
import json
import threading
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar

from checkpoint_builders import make_store, save_checkpoint
from recipe_builders import make_recipe
from report_builders import make_description, make_event, make_step, make_worker
from run_view_builders import make_run_dir

from services.api.access import Access
from services.control.plane import ControlPlane
from services.hosting.server import ControlOptions, ControlServer
from services.reports import ControlReport, Intent, IntentKind, OperationReport, RunEvent, RunState
from services.run_dir import CONTROL_FILE
from services.run_lock import hold_run_dir

Answer = TypeVar("Answer")

RUN_ID = "run_000000000001"
CHECKPOINT = "step-000002"


class ServedPlane:
    """A control plane whose event loop runs in a thread of its own. Make it with `serve_plane`."""

    def __init__(self, folder: Path, access: Access) -> None:
        self._options = ControlOptions(store=str(folder / "control.db"), runs=None, access=access)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._server = ControlServer(self._options)

    @property
    def url(self) -> str:
        return self._server.address

    @property
    def plane(self) -> ControlPlane:
        return self._server.plane

    def do(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Run it on the control plane's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def begin(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Run it on the control plane's loop, beside all else."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self._server.start())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.do(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stop(self) -> None:
        """No longer answer; the store stays."""
        self.do(self._server.close())

    def start_again(self) -> None:
        """Answer again, at the same port."""
        self._server = ControlServer(self._options)
        self.do(self._server.start())


class ObedientRun:
    """A run that reports, and does at once what it is told to.

    Args:
        phases: of a pause, reported one after the other before `paused`.
        pause_error: why its pauses fail; "" where they do not.
    """

    def __init__(
        self,
        served: ServedPlane,
        run_dir: Path,
        *,
        run_id: str = RUN_ID,
        name: str = "tiny",
        phases: Sequence[str] = ("draining", "finishing_step", "saving"),
        pause_error: str = "",
    ) -> None:
        self.served = served
        self.run_id = run_id
        self.run_dir = run_dir
        self.told: list[Intent] = []
        self._phases = phases
        self._pause_error = pause_error
        self._sequence = 1
        self._reporting = asyncio.Lock()
        recipe = dict(make_recipe().as_dict())
        self._description = replace(make_description(run_id=run_id, name=name, recipe=recipe), run_dir=str(run_dir))

    def start(self) -> Self:
        """Register, start, finish one step, and obey from now on."""
        plane = self.served.plane
        self.served.do(plane.register(self._description, link_id="link-1", config_text="name: tiny  # as written\n"))
        workers = (make_worker("rollout-0"), make_worker("learner-0", role="learner"))
        self.report(make_event("starting", "loading", RunState.STARTING, workers=workers))
        self.report(make_event("started", "the first group is asked for"))
        self.report(make_step(1, {"reward_total_value": 0.5, "reward_correct_share": 0.5}, num_response_tokens=100))
        return self.go_on()

    def go_on(self) -> Self:
        """Obey, also after the control plane was started again."""
        self._obeying = self.served.begin(self._obey())
        return self

    def stop(self) -> None:
        self._obeying.cancel()

    def report(self, *reports: ControlReport) -> None:
        self.served.do(self._report(*reports))

    def end(self, kind: str, message: str = "") -> None:
        """completed, failed or cancelled."""
        self.report(make_event(kind, message, RunState(kind)))

    async def _report(self, *reports: ControlReport) -> None:
        # One after the other: a number that is used twice is a report that was taken in before.
        async with self._reporting:
            self._sequence = await self.served.plane.report(self.run_id, "link-1", self._sequence, reports)

    async def _obey(self) -> None:
        generation = 0
        while True:
            intent = await self.served.plane.intent_after(self.run_id, generation)
            generation = intent.generation
            self.told.append(intent)
            await self._do_tasks(intent)
            await self._take_changes(intent)
            if intent.kind is IntentKind.PAUSE:
                await self._pause(intent)
            elif intent.kind is IntentKind.CANCEL:
                await self._report(make_event("cancelled", "as asked", RunState.CANCELLED))
            else:
                await self._report(make_event("resumed", "goes on"))

    async def _do_tasks(self, intent: Intent) -> None:
        for task in intent.tasks:
            details = {"operation_id": task.operation_id, "result": {"checkpoint": CHECKPOINT}}
            await self._report(RunEvent(kind="task_done", message="", state=RunState.RUNNING, details=details))

    async def _take_changes(self, intent: Intent) -> None:
        for change in intent.changes:
            details = {"generation": change.generation, "step": 2, "values": dict(change.values)}
            await self._report(RunEvent(kind="config_applied", message="", state=RunState.RUNNING, details=details))

    async def _pause(self, intent: Intent) -> None:
        assert intent.order is not None
        number = intent.order.operation_id
        for behind, phase in enumerate(self._phases):
            left = len(self._phases) - behind - 1
            await self._report(OperationReport(operation_id=number, phase=phase, inflight_groups=left))
        if self._pause_error:
            details = {"operation_id": number, "phase": "saving", "error": self._pause_error}
            await self._report(
                RunEvent(kind="pause_failed", message=self._pause_error, state=RunState.RUNNING, details=details)
            )
            return
        kept = CHECKPOINT if intent.order.checkpoint else ""
        details = {"operation_id": number, "checkpoint": kept, "released": "none", "exactness": "learner_exact"}
        await self._report(RunEvent(kind="paused", message="as asked", state=RunState.PAUSED, details=details))


@contextmanager
def serve_plane(folder: Path, *, access: Access | None = None) -> Iterator[ServedPlane]:
    """A control plane on a free port of this machine."""
    with ServedPlane(folder, access or Access()) as served:
        yield served


@contextmanager
def serve_run(served: ServedPlane, folder: Path, **more: Any) -> Iterator[ObedientRun]:
    """A run of it that has made one step, with a directory that holds three steps, groups and a checkpoint."""
    run_dir = make_run_dir(folder)
    for step in (1, 2):
        save_checkpoint(make_store(run_dir), step)
    run = ObedientRun(served, run_dir, **more)
    (run_dir / CONTROL_FILE).write_text(json.dumps({"url": served.url, "run_id": run.run_id}))
    (run_dir / CONTROL_FILE).chmod(0o600)
    with hold_run_dir(run_dir):
        try:
            yield run.start()
        finally:
            run.stop()
