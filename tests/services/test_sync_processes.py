"""The weight sync over real process groups and engines that are processes: what is damaged is refused by name, who
dies or stops is left out, and the others serve.
"""

import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import cast

import pytest
import pytest_asyncio
import torch
from engine_cases import Policy, save_tiny_policy
from engine_processes import Message, PolicyLearner, ProcessEngine

from services.canary import canary_request
from services.ports import LearnerPort, RolloutPort
from services.sync_phases import PEER_SHARE, SyncPhase
from services.weight_sync import SyncResult, WeightSync
from shaping.records import EntropySource

pytestmark = [pytest.mark.stack, pytest.mark.asyncio(loop_scope="module")]

DEADLINE = 8.0


class Fleet:
    """Two engines, a learner whose policy moves with every version, and the sync between them."""

    def __init__(self, model_path: str) -> None:
        timeout_s = PEER_SHARE * DEADLINE
        self.engines = [ProcessEngine(f"rollout-{index}", model_path, timeout_s) for index in range(2)]
        self.learner = PolicyLearner(Policy(model_path), timeout_s)
        self.version = 0
        self.sync = WeightSync(
            learner=cast(LearnerPort, self.learner),
            workers_per_engine=1,
            deadline_seconds=DEADLINE,
            clock=time.monotonic,
            canary=canary_request(EntropySource.RAW),
        )

    async def publish(self, engines: list[ProcessEngine] | None = None) -> SyncResult:
        """The next version."""
        self.version += 1
        self.learner.policy.perturb(self.version)
        return await self.again(engines)

    async def again(self, engines: list[ProcessEngine] | None = None) -> SyncResult:
        chosen = self.engines if engines is None else engines
        return await self.sync.publish(self.version, cast(list[RolloutPort], chosen))

    async def versions(self) -> list[int]:
        return [await each.ping() for each in self.engines]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made = Fleet(save_tiny_policy(tmp_path_factory.mktemp("policy")))
    for each in made.engines:
        await each.start()
    yield made
    for each in made.engines:
        await each.close()
    torch.set_num_threads(threads)


async def check_all_serve(fleet: Fleet, result: SyncResult) -> None:
    """Both serve the learner's policy, by what they sample and not only by what they say."""
    assert result.live == ("rollout-0", "rollout-1")
    assert await fleet.versions() == [fleet.version] * 2
    assert result.canary_difference_nats is not None and result.canary_difference_nats < 1e-4


async def test_every_version_is_served_by_both(fleet: Fleet) -> None:
    for _ in range(3):
        result = await fleet.publish()
        assert (result.aborts, result.left_out) == ((), ())
        await check_all_serve(fleet, result)


def dropped(messages: list[Message]) -> list[Message]:
    return [messages[0], *messages[2:]]


def repeated(messages: list[Message]) -> list[Message]:
    return [*messages[:2], *messages[1:]]


def swapped(messages: list[Message]) -> list[Message]:
    return [messages[1], messages[0], *messages[2:]]


def from_before(messages: list[Message]) -> list[Message]:
    return [(replace(header, policy_version=header.policy_version - 1), data) for header, data in messages]


def flipped(messages: list[Message]) -> list[Message]:
    header, data = messages[1]
    assert data is not None
    data = data.clone()
    data[len(data) // 2] ^= 1
    return [messages[0], (header, data), *messages[2:]]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (
            dropped,
            "transfer of version {0}: .*bucket 1 of version {0} must come next, found bucket 2: bucket 1 is missing",
        ),
        (repeated, "transfer of version {0}: .*bucket 2 of version {0} must come next, found bucket 1 again"),
        (swapped, "transfer of version {0}: .*bucket 0 of version {0} must come next, found bucket 1"),
        (
            from_before,
            "transfer of version {0}: .*bucket 0 of version {0} must come next, found bucket 0 of version {1}",
        ),
        (flipped, "verify of version {0}: rollout-0: bucket 1 must have checksum .*; rollout-1: bucket 1 must have"),
    ],
)
async def test_a_damaged_transfer_is_refused_by_name_and_the_next_attempt_works(
    fleet: Fleet, spoil: Callable[[list[Message]], list[Message]], told: str
) -> None:
    fleet.learner.spoil = spoil
    result = await fleet.publish()
    (abort,) = result.aborts
    assert re.search(told.format(fleet.version, fleet.version - 1), abort)
    assert result.num_mismatches == (2 if spoil is flipped else 0)
    assert result.left_out == ()
    await check_all_serve(fleet, result)


async def test_an_engine_killed_half_way_is_left_out_and_comes_back(fleet: Fleet) -> None:
    victim = fleet.engines[0]
    fleet.learner.before = (1, lambda: victim.signal(signal.SIGKILL))
    result = await fleet.publish()
    assert [(each.worker_id, each.phase, each.cause) for each in result.left_out] == [
        ("rollout-0", SyncPhase.TRANSFER, "its process ended")
    ]
    assert result.live == ("rollout-1",)
    assert await fleet.engines[1].ping() == fleet.version
    # Nobody waited for it: its end of the channel closed with it.
    assert sum(result.phase_seconds.values()) < DEADLINE
    await victim.restart()
    assert (await fleet.again([victim])).live == ("rollout-0",)
    assert await fleet.versions() == [fleet.version] * 2
    await check_all_serve(fleet, await fleet.publish())


async def test_an_engine_stopped_half_way_is_left_out_at_the_deadline_and_comes_back(fleet: Fleet) -> None:
    victim = fleet.engines[1]
    fleet.learner.before = (1, lambda: victim.signal(signal.SIGSTOP))
    result = await fleet.publish()
    assert [(each.worker_id, each.phase) for each in result.left_out] == [("rollout-1", SyncPhase.TRANSFER)]
    assert f"took longer than {DEADLINE:g} s" in result.left_out[0].cause
    assert result.live == ("rollout-0",)
    assert await fleet.engines[0].ping() == fleet.version
    # One that wakes up later still holds the old version, and nothing of the transfer that it slept through.
    victim.signal(signal.SIGCONT)
    assert await victim.ping() == fleet.version - 1
    await victim.restart()
    await check_all_serve(fleet, await fleet.publish())
