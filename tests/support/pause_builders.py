"""Runs over fake roles that are about to be paused, and what they say of it."""

import asyncio

from fake_control import FakeControl
from run_builders import FakeRun, group_ids, make_run


def paused(control: FakeControl) -> list[dict[str, object]]:
    return [dict(each.details) for each in control.events("paused")]


def held_run(**options: object) -> FakeRun:
    """Two groups a step; the first two are under way."""
    run = make_run(groups_per_step=2, num_steps=2, **options)  # type: ignore[arg-type]
    for worker in run.workers:
        worker.holds = {each: asyncio.Event() for each in group_ids(0, 1)}
    return run


def let_go(run: FakeRun) -> None:
    for worker in run.workers:
        for event in worker.holds.values():
            event.set()
