"""A real run in this process that is paused at moments of a test's choosing: house mode, with all of its files.

A moment is the beginning or the end of a call to any role. `python paused_run.py RECIPE RUN_DIR MODE MOMENT` pauses at
one of them with a checkpoint, and kills itself with SIGKILL as soon as `paused` is said.
"""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_control import FakeControl, make_order
from fake_evaluations import FakeBook

from services.checkpoints.store import CheckpointStore
from services.describe_run import describe_run
from services.local import LocalHouse
from services.recipe import Recipe, load_recipe
from services.reports import IntentKind, PauseMode, PauseOrder, ReleaseLevel, RunEvent, RunReport
from services.run_dir import CHECKPOINTS_DIR, GROUPS_FILE, RunFiles, reopen_run_dir
from services.run_store import DiskStore
from services.session import Broadcast, Disk, read_prompts, run_session

WEIGHTS = ("connect_weights", "stage_weights", "verify_weights", "commit_weights", "send_weights", "canary")


@dataclass(slots=True)
class Moments:
    """Counts calls to roles: how many began or ended so far, and how many of each kind are under way."""

    number: int = 0
    under_way: Counter[str] = field(default_factory=Counter)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def passed(self, method: str, change: int) -> None:
        self.number += 1
        self.under_way[method] += change
        async with self._changed:
            self._changed.notify_all()

    async def until(self, number: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.number >= number)


class Watched:
    """A port whose calls are moments."""

    def __init__(self, port: Any, moments: Moments) -> None:
        self._port = port
        self._moments = moments

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        return self._watched(name, found) if asyncio.iscoroutinefunction(found) else found

    def _watched(self, name: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*arguments: Any, **options: Any) -> Any:
            await self._moments.passed(name, +1)
            try:
                return await call(*arguments, **options)
            finally:
                await self._moments.passed(name, -1)

        return watched


class WatchedHouse:
    """LocalHouse, every port watched."""

    def __init__(self, house: LocalHouse, moments: Moments) -> None:
        self.rollout = tuple(Watched(each, moments) for each in house.rollout)
        self.shaping = tuple(Watched(each, moments) for each in house.shaping)
        self.learner = Watched(house.learner, moments)


class _Writer:
    def __init__(self, files: RunFiles) -> None:
        self._files = files

    def show(self, report: RunReport) -> None:
        self._files.write(report, at=time.time())


Steering = Callable[[FakeControl, Moments], Awaitable[None]]


async def run_house(
    recipe: Recipe, run_dir: Path, steer: Steering | None = None, *, checkpoint: str = ""
) -> FakeControl:
    """Run a recipe to its end, steered meanwhile.

    Args:
        checkpoint: of the same directory, to go on from; its files are cut back to it, as `lessrl resume` does.
    """
    run_dir.mkdir(exist_ok=True)
    checkpoints, control, moments = CheckpointStore(run_dir / CHECKPOINTS_DIR), FakeControl(), Moments()
    found = checkpoints.get(checkpoint).checkpoint if checkpoint else None
    if found:
        checkpoints.set_aside_after(found)
    reopen_run_dir(run_dir, logs=found.manifest.logs if found else {})
    description = describe_run(recipe, run_id="run_1", run_dir=str(run_dir))
    house = LocalHouse(recipe, run_dir / GROUPS_FILE)
    with contextlib.closing(RunFiles(run_dir, description, api_address="")) as files:
        store = DiskStore(checkpoints, files, recipe, run_id="run_1")
        running = asyncio.create_task(
            run_session(
                recipe,
                read_prompts(recipe),
                WatchedHouse(house, moments),
                Broadcast(control, [_Writer(files)]),
                Disk(store=store, book=FakeBook(), checkpoint=found),
                api_address="",
                export_to=str(run_dir / "policy"),
            )
        )
        steering = asyncio.create_task(steer(control, moments)) if steer else None
        try:
            await running
        finally:
            if steering is not None:
                steering.cancel()
                await asyncio.gather(steering, return_exceptions=True)
            await house.close()
    if steering is not None and not steering.cancelled():
        steering.result()
    return control


@dataclass(slots=True)
class RandomPauses:
    """Pauses at random moments, one after the other; some are withdrawn, some grow harder.

    Args:
        number: of requests.
        modes: chosen from.
        longest: moments from a resume to the next pause, at most.
        seconds: from a request to `paused`, by mode.
    """

    seed: int
    number: int = 110
    modes: tuple[PauseMode, ...] = tuple(PauseMode)
    longest: int = 16
    withdraws: bool = True
    seconds: list[tuple[PauseMode, float]] = field(default_factory=list)
    num_withdrawn: int = 0
    problems: list[str] = field(default_factory=list)

    async def __call__(self, control: FakeControl, moments: Moments) -> None:
        chance = random.Random(self.seed)
        control.on_report = lambda report: self._check(report, moments)
        await control.until(lambda _: bool(control.events("started")))
        for _ in range(self.number):
            await moments.until(moments.number + chance.randrange(self.longest))
            await turns(chance.randrange(60))
            await self._pause(control, chance)

    async def _pause(self, control: FakeControl, chance: random.Random) -> None:
        mode = chance.choice(self.modes)
        release = ReleaseLevel.NONE
        if mode is not PauseMode.FREEZE:
            release = chance.choice((ReleaseLevel.NONE, ReleaseLevel.KV_CACHE, ReleaseLevel.ROLLOUT_WEIGHTS))
        began = time.monotonic()
        order = await control.pause(mode, checkpoint=chance.random() < 0.5, release=release)
        if self.withdraws and chance.random() < 0.15:
            await turns(chance.randrange(40))
            self.num_withdrawn += 1
        else:
            if self.withdraws and mode is PauseMode.DRAIN and chance.random() < 0.3:
                await turns(chance.randrange(20))
                mode = PauseMode.ABORT
                order = make_order(order.operation_id, mode=mode, checkpoint=order.checkpoint, release=release)
                await control.want(IntentKind.PAUSE, order=order)
            await control.until(lambda _: bool(answers(control, order)), seconds=60)
            self.seconds.append((mode, time.monotonic() - began))
        num_resumed = len(control.events("resumed"))
        await control.want(IntentKind.RUN)
        if answers(control, order):
            await control.until(lambda _: len(control.events("resumed")) > num_resumed)

    def _check(self, report: Any, moments: Moments) -> None:
        """At `paused` nothing is under way but, in a freeze, what the engines hold."""
        if not isinstance(report, RunEvent) or report.kind != "paused":
            return
        busy = {name: number for name, number in moments.under_way.items() if number and name not in ("ping",)}
        if set(busy) - {"generate"} or (busy and report.details["exactness"] == "learner_exact"):
            self.problems.append(f"{report.details}: {busy} under way")


def answers(control: FakeControl, order: PauseOrder) -> list[RunEvent]:
    """`paused` of this operation."""
    return [each for each in control.events("paused") if each.details["operation_id"] == order.operation_id]


async def turns(number: int) -> None:
    """Let the loop go round so many times: moments inside a call."""
    for _ in range(number):
        await asyncio.sleep(0)


async def _pause_and_die(control: FakeControl, moments: Moments, *, mode: PauseMode, moment: int) -> None:
    await moments.until(moment)
    order = await control.pause(mode, checkpoint=True)
    await control.until(lambda _: bool(answers(control, order)))
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _recipe, _run_dir, _mode, _moment = sys.argv[1:]
    asyncio.run(
        run_house(
            load_recipe(Path(_recipe)),
            Path(_run_dir),
            lambda control, moments: _pause_and_die(control, moments, mode=PauseMode(_mode), moment=int(_moment)),
        )
    )
