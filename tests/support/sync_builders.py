"""A weight sync over fake roles, and what tests ask of them."""

import asyncio
import time
from collections.abc import Sequence

from fake_roles import LAYOUT, FakeLearner, FakeRollout

from services.canary import canary_request
from services.weight_sync import WeightSync
from shaping.records import EntropySource, GroupRequest
from shaping.training import WeightManifest

DEADLINE = 20.0
LATE = "{phase} of version 1 took longer than 20 s (run.deadlines.weights_seconds)"
MANIFEST = WeightManifest(policy_version=1, layout=LAYOUT, checksums=("0",))
CANARY = canary_request(EntropySource.RAW)


def make_sync(
    num_engines: int = 2, *, workers_per_engine: int = 1, canary: GroupRequest | None = None
) -> tuple[WeightSync, FakeLearner, list[FakeRollout]]:
    learner = FakeLearner()
    engines = [FakeRollout(f"rollout-{index}") for index in range(num_engines)]
    sync = WeightSync(
        learner=learner,
        workers_per_engine=workers_per_engine,
        deadline_seconds=DEADLINE,
        clock=time.monotonic,
        canary=canary,
    )
    return sync, learner, engines


def is_at_rest(engine: FakeRollout) -> bool:
    return not engine.is_paused and not engine.is_staged


def versions(engines: Sequence[FakeRollout]) -> list[int]:
    return [each.policy_version for each in engines]


def hang(engine: FakeRollout, *methods: str) -> None:
    """The engine answers none of these any more, and not even the abort."""
    for each in (*methods, "discard_staged_weights", "resume"):
        engine.script[each] = [asyncio.Event()] * 9
