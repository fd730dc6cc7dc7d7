"""The real application on a loopback port, with a run whose process is played here: for tests that drive a browser.

The server has a thread and an event loop of its own, as the browser is driven from the test's thread.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from checkpoint_builders import make_store, save_checkpoint
from recipe_builders import make_recipe
from report_builders import make_description, make_evaluation, make_event, make_step, make_worker
from run_view_builders import append_groups, make_ledger_line

from services.api.access import Access
from services.api.app import create_app
from services.control.plane import ControlPlane
from services.control.reconciler import Reconciler
from services.control.records import Caller
from services.control.redaction import Redactor
from services.control.store import open_store
from services.reports import (
    BufferReport,
    ControlReport,
    Intent,
    IntentKind,
    OperationReport,
    PauseOrder,
    RunDescription,
    RunReport,
    RunState,
)
from services.run_dir import RunFiles
from services.serve_http import HttpServer, bind_port

Result = TypeVar("Result")
MINUTE = 60.0
STEPS = 10

# A step's numbers, as a run with LESS reports them; share by class of the segment tokens.
METRICS = {
    "reward_total_value": 0.5,
    "reward_correct_share": 0.5,
    "rollout_entropy_nats": 0.25,
    "learner_entropy_nats": 0.25,
    "segments_threshold_nats": 0.125,
    "segments_correct_only_tokens": 40.0,
    "segments_incorrect_only_tokens": 20.0,
    "segments_shared_tokens": 20.0,
    "segments_unique_tokens": 20.0,
    "segments_low_tokens_share": 0.75,
    "segments_covered_tokens_share": 0.5,
    "segments_overlap_correct_incorrect_share": 0.125,
    "learner_grad_norm": 1.5,
}


class PlayedRun:
    """A run of ten steps whose process does what it is told, when the test lets it.

    Args:
        run_dir: gets the files that a run writes.
        groups: lines for groups.jsonl, each of step 1.
    """

    def __init__(self, plane: ControlPlane, description: RunDescription, groups: list[dict[str, Any]]) -> None:
        self._plane = plane
        self._description = description
        self._files = RunFiles(Path(description.run_dir), description, api_address="")
        self._store = make_store(Path(description.run_dir))
        self._groups = groups
        self._sequence = 1
        self._applied: set[int] = set()
        self.step = 0
        self.may_pause = asyncio.Event()
        self.may_pause.set()

    async def begin(self) -> None:
        """Register, start, evaluate and make the first steps."""
        self.control = await self._plane.register(self._description, link_id="link")
        workers = (
            make_worker(),
            make_worker("shaping-0", role="shaping", description="pipeline"),
            make_worker("learner", role="learner", description="2 ranks"),
        )
        await self._say(make_event("starting", "Starting workers", RunState.STARTING))
        await self._say(make_event("started", "Training", workers=workers), make_evaluation(0, 0.25))
        run_dir = Path(self._description.run_dir)
        append_groups(run_dir, self._groups)
        self._files.write_ledger(
            make_ledger_line(index, prompt_id=each["prompt_id"]) for index, each in enumerate(self._groups)
        )
        for _ in range(3):
            await self.make_step()
        queues = {"in_flight": (5, 8), "buffered": (1, 4)}
        await self._say(BufferReport(queues=queues, version=2))

    async def make_step(self) -> None:
        self.step += 1
        metrics = {**METRICS, "reward_total_value": self.step / 8}
        await self._say(make_step(self.step, metrics))

    async def follow(self) -> None:
        """Do what is wanted, for ever."""
        intent = await self._plane.intent_after(self._description.run_id, 0)
        is_paused = False
        while True:
            await self._apply(intent)
            if intent.kind is IntentKind.PAUSE and intent.order is not None and not is_paused:
                await self._pause(intent.order)
                is_paused = True
            elif intent.kind is IntentKind.RUN and is_paused:
                await self._say(make_event("resumed", "Training goes on"))
                is_paused = False
            elif intent.kind is IntentKind.CANCEL:
                await self._say(make_event("cancelled", "Ended as asked", RunState.CANCELLED))
                return
            intent = await self._plane.intent_after(self._description.run_id, intent.generation)

    async def _apply(self, intent: Intent) -> None:
        for change in intent.changes:
            if change.generation not in self._applied:
                self._applied.add(change.generation)
                details = {"generation": change.generation, "step": self.step + 1, "values": dict(change.values)}
                event = make_event("config_applied", f"generation {change.generation} holds from step {self.step + 1}")
                await self._say(replace(event, details=details))

    async def _pause(self, order: PauseOrder) -> None:
        await self._say(
            OperationReport(operation_id=order.operation_id, phase="finishing_step", progress=0.5, inflight_groups=3)
        )
        await self.may_pause.wait()
        name = save_checkpoint(self._store, self.step).name if order.checkpoint else ""
        details = {
            "operation_id": order.operation_id,
            "checkpoint": name,
            "released": str(order.release),
            "exactness": "learner_exact" if name else "none",
        }
        await self._say(
            replace(make_event("paused", f"Paused after step {self.step}", RunState.PAUSED), details=details)
        )

    async def _say(self, *reports: ControlReport) -> None:
        for report in reports:
            if isinstance(report, RunReport):
                self._files.write(report, at=time.time())
        self._sequence = await self._plane.report(self._description.run_id, "link", self._sequence, reports)

    def close(self) -> None:
        self._files.close()


class PageService:
    """What a test holds in its hands: the address of the page, and the run behind it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str, run: PlayedRun, stop: Callable[[], None]) -> None:
        self._loop = loop
        self.address = address
        self.run = run
        self.stop = stop
        """Ends the server; harmless when repeated."""

    def change(self, key: str, value: Any) -> None:
        """A live change by another caller."""
        patch: dict[str, Any] = value
        for name in reversed(key.split(".")):
            patch = {name: patch}
        held = self.run.control
        self.do(held.change_config(patch, held.record.config_generation, Caller(name="bob", role="operate")))

    def do(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something on the server's loop, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(MINUTE)

    def let_pause(self, may: bool) -> None:
        """Whether a pause that is asked for comes to its end."""
        change = self.run.may_pause.set if may else self.run.may_pause.clear
        self._loop.call_soon_threadsafe(change)


@contextmanager
def serve_page(
    run_dir: Path, groups: list[dict[str, Any]], *, access: Access | None = None, port: int = 0, name: str = "tiny"
) -> Iterator[PageService]:
    """A control plane with one run, `run-1`, served until the block ends."""
    run_dir.mkdir(parents=True, exist_ok=True)
    recipe = make_recipe({"run.steps": STEPS})
    description = make_description(name=name, total_steps=STEPS, recipe=recipe.as_dict())
    description = replace(description, run_dir=str(run_dir), model=recipe.model.path)
    ready: list[PageService] = []
    began, ended = threading.Event(), threading.Event()
    failure: list[BaseException] = []

    async def serve() -> None:
        plane = ControlPlane(open_store(":memory:"), clock=time.time, redactor=Redactor())
        await plane.open()
        run = PlayedRun(plane, description, groups)
        await run.begin()
        app = create_app(plane, registry=plane.registry, access=access or Access())
        server = await HttpServer.start(app, bind_port("127.0.0.1", port))
        tasks = [asyncio.create_task(run.follow()), asyncio.create_task(Reconciler(plane).keep_time())]
        ready.append(PageService(asyncio.get_running_loop(), server.address, run, stop))
        began.set()
        await asyncio.to_thread(ended.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop()
        run.close()
        app.state.views.close()
        await plane.close()

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failure.append(error)
            raise
        finally:
            began.set()

    def stop() -> None:
        ended.set()
        thread.join(MINUTE)

    thread = threading.Thread(target=work, name="page-service")
    thread.start()
    assert began.wait(MINUTE), "the page's server must begin within a minute"
    assert ready, failure
    try:
        yield ready[0]
    finally:
        stop()
