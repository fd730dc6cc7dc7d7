"""Laws of memory and store over any history of calls, reports, ticks, restarts and writes that fail."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from control_builders import CALLER, BrokenStore, FakeLauncher, Run, described, open_plane
from hypothesis import given, settings
from hypothesis import strategies as st
from report_builders import Clock, make_step

from services.control.calls import CancelRequest, OnTimeout, PauseRequest, ResumeRequest
from services.control.machine import Happening, OperationKind
from services.control.plane import ControlPlane
from services.control.reconciler import Reconciler
from services.control.records import LoggedEvent, StoreError
from services.control.redaction import Redactor
from services.control.store import open_store
from services.reports import IntentKind, OperationReport, RunState

TRANSITIONAL = {
    RunState.PAUSING: OperationKind.PAUSE,
    RunState.RESUMING: OperationKind.RESUME,
    RunState.CANCELLING: OperationKind.CANCEL,
}
PAUSE = PauseRequest(timeout_seconds=20.0, on_timeout=OnTimeout.ABORT, ttl_seconds=30.0)
RUN_DIR = Path("/nowhere/tiny")


class KeptStore(BrokenStore):
    """A store that outlives the control planes over it."""

    def close(self) -> None:
        """It goes on."""


class History:
    """One run, and what happens to it."""

    def __init__(self, store: KeptStore) -> None:
        self.store = store
        self.clock = Clock()
        self.launcher = FakeLauncher()
        self.launcher.alive[RUN_DIR] = True
        self.links = 1
        self.said = 1

    async def open(self) -> None:
        self.plane = ControlPlane(
            self.store, clock=self.clock, launcher=self.launcher, redactor=Redactor(), runs_dir=RUN_DIR
        )
        await self.plane.open()
        self.reconciler = Reconciler(self.plane)
        self.run = Run(self.plane, described(run_dir=str(RUN_DIR)), link=f"link-{self.links}")
        self.run.following = self.said

    async def happen(self, name: str) -> None:
        steps: dict[str, Callable[[], Awaitable[object]]] = {
            "pause": lambda: self.run.control.pause(PAUSE, CALLER),
            "resume": lambda: self.run.control.resume(ResumeRequest(), CALLER),
            "cancel": lambda: self.run.control.cancel(CancelRequest(grace_seconds=15.0), CALLER),
            "eval": lambda: self.run.control.start_task(OperationKind.EVAL, {}, CALLER),
            "step": lambda: self.run.say(make_step(1)),
            "saving": self.saving,
            "ten seconds": self.ten_seconds,
            "new process": self.new_process,
            "process dies": self.process_dies,
            "restart": self.restart,
        }
        try:
            await (steps[name]() if name in steps else self.run.tell(name, checkpoint="step-000001"))
        except StoreError:
            assert self.store.is_broken
        self.said = self.run.following

    async def saving(self) -> None:
        operation = self.run.control.latest_operation(OperationKind.PAUSE)
        if operation is not None:
            await self.run.say(OperationReport(operation_id=operation.operation_id, phase="saving"))

    async def ten_seconds(self) -> None:
        self.clock.now += 10.0
        await self.reconciler.tick(self.clock.now)
        await self.reconciler.settle()

    async def new_process(self) -> None:
        self.links, self.launcher.alive[RUN_DIR] = self.links + 1, True
        later = Run(self.plane, self.run.description, link=f"link-{self.links}")
        await later.register()
        self.run = later

    async def process_dies(self) -> None:
        self.launcher.alive[RUN_DIR] = False

    async def restart(self) -> None:
        await self.plane.close()
        await self.open()

    async def check(self) -> None:
        facts = self.run.facts
        async with open_plane(KeptStore(self.store), clock=self.clock) as other:
            held = other.run("run-1")
            assert held is not None
            # Which intent was observed is told again by the next question.
            assert held.facts == facts
        record, state = facts.record, facts.record.life.state
        events = await other_events(self.store)
        changes = [each for each in events if each.kind == "run_state_changed"]
        assert [each.details["from"] for each in changes[1:]] == [each.details["to"] for each in changes[:-1]]
        assert changes[-1].details["to"] == state and events[-1].state is state
        if state in TRANSITIONAL:
            assert any(each.kind is TRANSITIONAL[state] and each.deadline_at for each in facts.open_operations)
        if state.is_terminal:
            assert facts.open_operations == () and record.finished_at is not None
        assert len({each.kind for each in facts.open_operations}) == len(facts.open_operations)
        assert {each.operation_id for each in record.intent.tasks} == {
            each.operation_id for each in facts.open_operations if each.kind is OperationKind.EVAL
        }
        order = record.intent.order
        if order is not None and record.intent.kind is IntentKind.PAUSE and state is RunState.PAUSING:
            assert order.operation_id in {each.operation_id for each in facts.open_operations}


async def other_events(store: KeptStore) -> list[LoggedEvent]:
    return list(await asyncio.to_thread(lambda: store.events("run-1", limit=100_000)))


EVENTS = st.sampled_from(
    [
        *(
            "pause",
            "resume",
            "cancel",
            "eval",
            "step",
            "saving",
            "ten seconds",
            "new process",
            "process dies",
            "restart",
        ),
        *(each.value for each in Happening),
        *("pause", "resume", Happening.STARTED.value, Happening.PAUSED.value, Happening.RESUMED.value),
    ]
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(EVENTS, st.integers(0, 9)), min_size=5, max_size=30))
def test_memory_and_store_never_part_and_no_event_is_without_its_state(history: list[tuple[str, int]]) -> None:
    async def live() -> None:
        inner = open_store(":memory:")
        it = History(KeptStore(inner))
        await it.open()
        await it.run.start()
        for name, luck in history:
            # One write in ten fails, whatever it was to be.
            it.store.is_broken = luck == 0
            await it.happen(name)
            it.store.is_broken = False
            await it.check()
        await it.plane.close()
        inner.close()

    asyncio.run(live())
