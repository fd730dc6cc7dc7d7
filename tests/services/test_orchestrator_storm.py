"""The whole orchestrator under random deaths, hangs, pauses, evaluations and checkpoints, on a virtual clock."""

import asyncio
import random
import re

import pytest
from run_builders import FakeRun, make_run
from stormy_roles import StormyRollout, StormyShaping

from services.reports import IntentKind, PauseMode, ReleaseLevel
from services.virtual_time import run_virtual
from shaping.groups import DropReason

STEPS, GROUPS = 8, 2
LEVELS = (ReleaseLevel.NONE, ReleaseLevel.KV_CACHE, ReleaseLevel.ROLLOUT_WEIGHTS)
LONGEST_S = 50_000.0
"""Far beyond all deadlines of a run together: one that is still there then waits for ever."""


def make_storm(seed: int) -> tuple[FakeRun, random.Random, int]:
    chance = random.Random(seed)
    staleness = chance.choice((0, 1, 2))
    odds = {
        "chance": chance,
        "dies": chance.choice((0.0, 0.01, 0.03)),
        "dies_later": chance.choice((0.0, 0.02, 0.05)),
        "hangs": chance.choice((0.0, 0.003, 0.01)),
    }
    run = make_run(
        groups_per_step=GROUPS,
        num_steps=STEPS,
        max_staleness=staleness,
        workers=[StormyRollout(f"rollout-{index}", **odds) for index in range(chance.choice((1, 2, 3)))],
        shapers=[StormyShaping(f"shaping-{index}", **odds) for index in range(chance.choice((1, 2)))],
        num_held_out=chance.choice((0, 3)),
        evaluate_every=2,
        evaluation_workers=chance.choice((0, 1)),
        checkpoint_every=chance.choice((0, 1, 3)),
        max_worker_restarts=10**6,
        group_attempts=50,
        step_seconds=LONGEST_S,
        with_canary=chance.choice((False, True)),
    )
    for shaper in run.shapers:
        shaper.drops = lambda group_id: (
            DropReason.NO_SIGNAL if group_id.startswith("g") and _is_dull(group_id) else None
        )
    return run, chance, staleness


def _told(run: FakeRun) -> set[int]:
    """Versions of which the run said what became of their evaluation."""
    messages = [each.message for kind in ("evaluation_skipped", "evaluation_lost") for each in run.control.events(kind)]
    named = {int(re.search(r"version (\d+)", each).group(1)) for each in messages}  # type: ignore[union-attr]
    return named | {each.policy_version for each in run.control.evaluations}


def _is_dull(group_id: str) -> bool:
    return group_id.startswith("g") and int(group_id[1:]) % 4 == 1


async def pause_now_and_then(run: FakeRun, chance: random.Random) -> None:
    for _ in range(chance.choice((0, 1, 3))):
        await asyncio.sleep(60.0 * chance.random())
        mode = chance.choice(tuple(PauseMode))
        # Memory is given back with nothing under way, and a freeze keeps what is.
        release = chance.choice(LEVELS) if mode is not PauseMode.FREEZE else ReleaseLevel.NONE
        await run.control.pause(mode, checkpoint=chance.random() < 0.3, release=release)
        await asyncio.sleep(60.0 * chance.random())
        await run.control.want(IntentKind.RUN)


async def weather(seed: int) -> None:
    run, chance, staleness = make_storm(seed)
    running = asyncio.ensure_future(run.orchestrator.run())
    pausing = asyncio.ensure_future(pause_now_and_then(run, chance))
    done, _ = await asyncio.wait([running], timeout=LONGEST_S)
    pausing.cancel()
    assert done, f"no wait is without end, but after {len(run.control.steps)} steps the run stands in {run.sync.phase}"
    await running
    assert [each.step for each in run.control.steps] == list(range(1, STEPS + 1))
    assert max(run.learner.staleness) <= staleness
    ordinals = [line.ordinal for line in run.store.ledger]
    assert len(set(ordinals)) == len(ordinals), "a group ends once"
    assert sum(line.outcome == "trained" for line in run.store.ledger) == STEPS * GROUPS
    due = {0, *range(2, STEPS + 1, 2), STEPS} if run.book.stores else set()
    assert _told(run) == due, "an evaluation that is due is reported, or its loss is"
    under_way = {each.ordinal for each in run.orchestrator.in_flight}
    assert set(range(max(ordinals) + 1)) - set(ordinals) <= under_way, "none is lost"


@pytest.mark.parametrize("first", range(0, 500, 50))
def test_no_weather_stops_a_run_or_costs_it_a_group(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            run_virtual(weather(seed))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
