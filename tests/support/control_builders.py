"""A control plane for tests: a store, time that the test moves, a launcher that starts nothing, a run that reports."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from recipe_builders import make_recipe
from report_builders import Clock, make_description, make_event

from services.control.draft import RunFacts
from services.control.launcher import Launch
from services.control.machine import Happening, OperationKind
from services.control.plane import ControlPlane
from services.control.records import Caller, Change, ControlStore, LoggedEvent, Operation, StoreError
from services.control.redaction import Redactor
from services.control.run import RunControl
from services.control.store import open_store
from services.reports import ControlReport, RunDescription, RunState
from shaping.errors import UserError

CALLER = Caller(name="ada", role="operate", address="127.0.0.1")
LINK = "link-1"


class FakeLauncher:
    """RunLauncher whose processes the test ends."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []
        self.killed: list[Path] = []
        self.alive: dict[Path, bool | None] = {}
        self.refuses = ""
        self.survives_kill = False

    def launch(self, launch: Launch) -> None:
        if self.refuses:
            raise UserError(self.refuses)
        self.launches.append(launch)
        self.alive[launch.run_dir] = True

    def is_alive(self, run_dir: Path) -> bool | None:
        return self.alive.get(run_dir, False)

    def kill(self, run_dir: Path) -> None:
        self.killed.append(run_dir)
        if not self.survives_kill:
            self.alive[run_dir] = False


class BrokenStore:
    """A store that fails while the test says so; what it then takes is nothing."""

    def __init__(self, store: ControlStore) -> None:
        self.is_broken = False
        self._store = store

    def commit(self, change: Change) -> None:
        if self.is_broken:
            raise StoreError("the disk is full")
        self._store.commit(change)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Run:
    """The process of a run, as the control plane sees it: it registers and reports, each report numbered."""

    def __init__(self, plane: ControlPlane, description: RunDescription, *, link: str = LINK) -> None:
        self.plane = plane
        self.description = description
        self.link = link
        self.following = 1

    @property
    def run_id(self) -> str:
        return self.description.run_id

    @property
    def control(self) -> RunControl:
        control = self.plane.run(self.run_id)
        assert control is not None
        return control

    @property
    def facts(self) -> RunFacts:
        return self.control.facts

    @property
    def state(self) -> RunState:
        return self.control.life.state

    async def register(self, **more: Any) -> RunControl:
        return await self.plane.register(self.description, link_id=self.link, **more)

    async def say(self, *reports: ControlReport) -> None:
        self.following = await self.plane.report(self.run_id, self.link, self.following, reports)

    async def tell(self, kind: str, message: str = "", **details: Any) -> None:
        await self.say(make_event(kind, message, details=details))

    async def start(self) -> None:
        await self.register()
        await self.tell(Happening.STARTED)

    def latest(self, kind: OperationKind) -> Operation:
        operation = self.control.latest_operation(kind)
        assert operation is not None
        return operation

    async def events(self, *kinds: str) -> Sequence[LoggedEvent]:
        return await self.plane.events_after(self.run_id, 0, kinds, 10_000)

    async def kinds(self, *kinds: str) -> list[str]:
        return [each.kind for each in await self.events(*kinds)]


@asynccontextmanager
async def open_plane(
    store: ControlStore | str = ":memory:", *, clock: Clock | None = None, secrets: Sequence[str] = (), **more: Any
) -> AsyncIterator[ControlPlane]:
    """An open control plane over a store, or over one that is opened for it."""
    opened = open_store(store) if isinstance(store, str) else store
    plane = ControlPlane(opened, clock=clock or Clock(), redactor=Redactor(secrets), **more)
    await plane.open()
    try:
        yield plane
    finally:
        await plane.close()


@asynccontextmanager
async def started_run(**more: Any) -> AsyncIterator[Run]:
    """A run that trains, of a control plane of its own."""
    async with open_plane(**more) as plane:
        run = Run(plane, described())
        await run.start()
        yield run


def described(run_id: str = "run-1", *, run_dir: str = "/nowhere/tiny") -> RunDescription:
    """A run with a recipe that live changes can be made to; no process works in its directory."""
    return make_description(run_id=run_id, recipe=make_recipe().as_dict(), run_dir=run_dir)


async def soon(condition: Any) -> None:
    """Let other tasks run until something holds; fails where it does not hold soon."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to hold")
