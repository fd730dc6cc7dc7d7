"""A control plane with its reconciler, time that the test moves, and processes that live as long as it says."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from control_builders import CALLER, FakeLauncher, Run, described, open_plane
from recipe_builders import make_raw
from report_builders import Clock

from services.control.launcher import Launch
from services.control.plane import ControlPlane, Created, CreateRequest
from services.control.reconciler import Reconciler


class SlowLauncher(FakeLauncher):
    """Takes as long as the test likes."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()

    def launch(self, launch: Launch) -> None:
        assert self.may_go_on.wait(30)
        super().launch(launch)


class World:
    """A control plane, its clock and its launcher."""

    def __init__(self, plane: ControlPlane, clock: Clock, launcher: FakeLauncher) -> None:
        self.plane = plane
        self.clock = clock
        self.launcher = launcher
        self.reconciler = Reconciler(plane)

    async def at(self, now: float) -> None:
        """Let it be this late, and look at everything."""
        self.clock.now = now
        await self.reconciler.tick(now)
        await self.reconciler.settle()

    async def started(self, run_dir: Path | None = None) -> Run:
        run = Run(self.plane, described(run_dir=str(run_dir or "/nowhere/tiny")))
        self.launcher.alive[Path(run.description.run_dir)] = True
        await run.start()
        return run

    async def created(self, **more: Any) -> Run:
        request = CreateRequest(**{"config_text": yaml.safe_dump(make_raw()), **more})
        answer = await self.plane.create(request, CALLER)
        assert isinstance(answer, Created), answer
        return Run(self.plane, answer.run.description)


@asynccontextmanager
async def world(tmp_path: Path, store: Any = ":memory:", launcher: FakeLauncher | None = None) -> AsyncIterator[World]:
    clock, known = Clock(1000.0), launcher or FakeLauncher()
    async with open_plane(store, clock=clock, launcher=known, runs_dir=tmp_path / "runs") as plane:
        yield World(plane, clock, known)
