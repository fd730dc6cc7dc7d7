"""Seconds from a request to `paused`, by mode, of a real run: python -m tests.benchmarks.pauses [--json] [--rounds 8]

House mode: the quickstart's policy behind transformers, plain torch, one process, a staleness of 1. Requests come at
random moments of the first second after a resume. `paused` includes what a mode waits for, the learner step under way
and, where one is asked for, the committed checkpoint. A drain waits for whole groups: its seconds are those of the
longest response; a freeze and an abort wait for the learner step alone. `resumed` is from the request to `resumed`.
"""

import asyncio
import contextlib
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from services.checkpoints.store import CheckpointStore
from services.describe_run import describe_run
from services.evaluation.run_book import RunBook
from services.local import LocalHouse
from services.pausing import RunCancelled
from services.recipe import Recipe, load_recipe
from services.reports import (
    ControlReport,
    Intent,
    IntentKind,
    PauseMode,
    PauseOrder,
    ReleaseLevel,
    RunEvent,
)
from services.run_dir import CHECKPOINTS_DIR, RunFiles
from services.run_store import DiskStore
from services.session import Disk, read_prompts, run_session
from tests.benchmarks.report import Report, Row, make_parser, write_report
from tests.benchmarks.timing import use_one_core

RECIPE = Path(__file__).resolve().parents[2] / "deploy" / "recipes" / "quickstart.yaml"
CHANGES = {
    "rollout.engine": {"kind": "hf", "dtype": "float32", "max_num_seqs": 64},
    "rollout.num_workers": 2,
    "rollout.groups_per_step": 4,
    "rollout.group_size": 4,
    "rollout.sampling.max_response_tokens": 64,
    "learner.engine": "torch",
    "learner.num_ranks": 1,
    "run.steps": 100_000,
    "run.max_staleness": 1,
    "run.checkpoint": {"every_steps": 0},
    "shaping.verifiers": {"num_processes": 0},
    "evaluation": {"every_steps": 0, "num_problems": 1},
}
CASES = (
    (PauseMode.DRAIN, True, ReleaseLevel.NONE),
    (PauseMode.FREEZE, False, ReleaseLevel.NONE),
    (PauseMode.FREEZE, True, ReleaseLevel.NONE),
    (PauseMode.ABORT, False, ReleaseLevel.NONE),
    (PauseMode.ABORT, True, ReleaseLevel.NONE),
    (PauseMode.ABORT, True, ReleaseLevel.ROLLOUT_WEIGHTS),
)


@dataclass(slots=True)
class Steering:
    """ControlPort that one coroutine steers, and that knows when an event came first."""

    intent: Intent = field(default_factory=lambda: Intent(generation=1, kind=IntentKind.RUN))
    events: list[tuple[float, RunEvent]] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def report(self, report: ControlReport) -> None:
        if isinstance(report, RunEvent):
            async with self._changed:
                self.events.append((time.perf_counter(), report))
                self._changed.notify_all()

    async def intent_after(self, generation: int) -> Intent:
        async with self._changed:
            await self._changed.wait_for(lambda: self.intent.generation > generation)
            return self.intent

    async def want(self, kind: IntentKind, order: PauseOrder | None = None) -> float:
        """Another intent; when it was given."""
        async with self._changed:
            self.intent = Intent(generation=self.intent.generation + 1, kind=kind, order=order)
            self._changed.notify_all()
            return time.perf_counter()

    async def next(self, kind: str, after: int) -> float:
        """When the first event of a kind behind the `after`-th came."""

        def found() -> list[float]:
            return [at for at, event in self.events[after:] if event.kind == kind]

        async with self._changed:
            await self._changed.wait_for(lambda: bool(found()))
            return found()[0]


async def steer(control: Steering, rounds: int) -> list[Row]:
    """Every case in turn, so many times."""
    chance, rows = random.Random(0), []
    await control.next("started", 0)
    await asyncio.sleep(3.0)
    for number in range(rounds * len(CASES)):
        mode, checkpoint, release = CASES[number % len(CASES)]
        await asyncio.sleep(chance.random())
        known = len(control.events)
        order = PauseOrder(operation_id=f"op-{number}", mode=mode, checkpoint=checkpoint, release=release)
        asked = await control.want(IntentKind.PAUSE, order)
        paused = await control.next("paused", known)
        went_on = await control.want(IntentKind.RUN)
        resumed = await control.next("resumed", known)
        rows.append(
            {
                "mode": mode.value,
                "checkpoint": str(checkpoint),
                "release": release.value,
                "paused_seconds": paused - asked,
                "resumed_seconds": resumed - went_on,
            }
        )
    await control.want(IntentKind.CANCEL)
    return rows


async def run_steered(recipe: Recipe, run_dir: Path, rounds: int) -> list[Row]:
    """The run, until it is cancelled."""
    control, house = Steering(), LocalHouse(recipe)
    description = describe_run(recipe, run_id="run_1", run_dir=str(run_dir))
    prompts = read_prompts(recipe)
    with contextlib.closing(RunFiles(run_dir, description, api_address="")) as files:
        store = DiskStore(CheckpointStore(run_dir / CHECKPOINTS_DIR), files, recipe, run_id="run_1")
        disk = Disk(store=store, book=RunBook(run_dir, recipe, prompts.evaluation, reported=set()), checkpoint=None)
        steering = asyncio.create_task(steer(control, rounds))
        try:
            with contextlib.suppress(RunCancelled):
                await run_session(recipe, prompts, house, control, disk, api_address="", export_to=str(run_dir / "out"))
        finally:
            await house.close()
    return await steering


def measure(rounds: int, *, core: int | None) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(run_steered(load_recipe(RECIPE, CHANGES), Path(folder), rounds))
    table: list[Row] = []
    figures: dict[str, float] = {}
    for mode, checkpoint, release in CASES:
        key = (mode.value, str(checkpoint), release.value)
        of_case = [row for row in rows if (row["mode"], row["checkpoint"], row["release"]) == key]
        paused = sorted(float(row["paused_seconds"]) for row in of_case)
        resumed = sorted(float(row["resumed_seconds"]) for row in of_case)
        middle = len(paused) // 2
        table.append(
            {
                **dict(zip(("mode", "checkpoint", "release"), key, strict=True)),
                "paused_median_s": paused[middle],
                "paused_max_s": paused[-1],
                "resumed_median_s": resumed[middle],
                "resumed_max_s": resumed[-1],
            }
        )
        if release is ReleaseLevel.NONE and checkpoint is (mode is not PauseMode.FREEZE):
            figures[f"pause_{mode}_median_seconds"] = paused[middle]
            figures[f"pause_{mode}_max_seconds"] = paused[-1]
    return Report(
        benchmark="pauses", core=core, figures={**figures, "num_pauses": float(len(rows))}, rows={"cases": table}
    )


def main() -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=8, help="pauses of each kind")
    options = parser.parse_args()
    write_report(measure(options.rounds, core=use_one_core()), as_json=options.json)


if __name__ == "__main__":
    main()
