"""A whole run in this process whose config a test changes on the way: real sampler, learner and disk."""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.checkpoints.store import CheckpointStore
from services.describe_run import describe_run
from services.live.changes import CHANGES_FILE, ChangeFile, LiveState
from services.live.keys import read_patch
from services.live.settings import LiveSettings
from services.local import LocalHouse
from services.orchestrator import Orchestrator
from services.recipe import Recipe
from services.reports import ControlReport, Intent, IntentKind, LiveChange, RunEvent, StepReport
from services.run_dir import RunFiles
from services.run_store import DiskStore
from services.session import load_checkpoint, orchestrator_config, read_prompts, start_roles
from services.weight_sync import WeightSync

Asks = Mapping[int, Mapping[str, Any]]
"""What is asked of a run once so many steps are reported: values by dotted key."""


@dataclass(slots=True, kw_only=True)
class AskingControl:
    """ControlPort: asks for a change after a step, as a control plane would."""

    recipe: Recipe
    asks: Asks
    changes: tuple[LiveChange, ...] = ()
    steps: list[StepReport] = field(default_factory=list)
    events: list[RunEvent] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def report(self, report: ControlReport) -> None:
        if isinstance(report, RunEvent):
            self.events.append(report)
        if isinstance(report, StepReport):
            self.steps.append(report)
            await self.ask(report.step)

    async def ask(self, step: int) -> None:
        async with self._changed:
            if step in self.asks:
                values = read_patch(self.recipe, self.asks[step])
                self.changes += (LiveChange(generation=len(self.changes) + 2, values=values),)
                self._changed.notify_all()

    async def intent_after(self, generation: int) -> Intent:
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.changes) + 1 > generation)
            return Intent(generation=len(self.changes) + 1, kind=IntentKind.RUN, changes=self.changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """How a run went.

    Args:
        steps: what each step reported, its times left out, by its number.
        changes: lines of changes.jsonl.
        events: kinds, with details.
    """

    run_dir: Path
    steps: dict[int, dict[str, float]]
    changes: list[dict[str, Any]]
    events: list[tuple[str, dict[str, Any]]]


async def run_live(
    recipe: Recipe,
    run_dir: Path,
    *,
    asks: Asks | None = None,
    recorded: tuple[LiveChange, ...] = (),
    checkpoint: str = "",
) -> LiveRun:
    """Run a recipe to its end.

    Args:
        asks: by the number of the step after which they are asked for; 0 before the first.
        recorded: changes to be made at their steps.
        checkpoint: of the same directory, to go on from; what changes.jsonl says of later steps is made again.
    """
    run_dir.mkdir(exist_ok=True)
    control = AskingControl(recipe=recipe, asks=asks or {})
    await control.ask(0)
    house = LocalHouse(recipe)
    description = describe_run(recipe, run_id="run_1", run_dir=str(run_dir))
    with contextlib.closing(RunFiles(run_dir, description, api_address="")) as files:
        try:
            await start_roles(recipe, house, control)
            orchestrator = await _orchestrator(recipe, house, control, files, recorded, checkpoint)
            await orchestrator.run()
            await house.learner.export(str(run_dir / "policy"))
        finally:
            await house.close()
    return LiveRun(
        run_dir=run_dir,
        steps={each.step: _numbers(each) for each in control.steps},
        changes=_lines(run_dir / CHANGES_FILE),
        events=[(each.kind, dict(each.details)) for each in control.events],
    )


async def _orchestrator(
    recipe: Recipe,
    house: LocalHouse,
    control: AskingControl,
    files: RunFiles,
    recorded: tuple[LiveChange, ...],
    checkpoint: str,
) -> Orchestrator:
    prompts, file = read_prompts(recipe), ChangeFile(files.run_dir / CHANGES_FILE)
    checkpoints = CheckpointStore(files.run_dir / "checkpoints")
    found = checkpoints.get(checkpoint).checkpoint if checkpoint else None
    resumed = await load_checkpoint(recipe, house, found) if found else None
    live = LiveSettings(
        recipe,
        learner=house.learner,
        shaping=house.shaping,
        factory=prompts.factory,
        report=control.report,
        record=file.write,
        saved=LiveState.from_json(resumed.snapshot.live) if resumed else None,
        recorded=(*file.recorded, *recorded),
    )
    store = DiskStore(checkpoints, files, recipe, run_id="run_1")
    store.attach(house.learner, control)
    return Orchestrator(
        orchestrator_config(live.recipe),
        factory=prompts.factory,
        rollout=house.rollout,
        shaping=house.shaping,
        learner=house.learner,
        sync=WeightSync(learner=house.learner, workers_per_engine=1, deadline_seconds=60.0, clock=time.monotonic),
        evaluation=None,
        control=control,
        store=store,
        clock=time.monotonic,
        resumed=resumed,
        live=live,
        config_of=orchestrator_config,
    )


def _numbers(step: StepReport) -> dict[str, float]:
    return {name: value for name, value in step.metrics.items() if not name.endswith("_s")}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
