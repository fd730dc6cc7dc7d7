"""Syncs, evaluations, pauses, deaths and slow engines in any order: no wait without an end, no gate left shut.

Every interleaving is drawn from its seed and runs in virtual time, against a fleet that checks what it is asked.
"""

import asyncio
import random
import re
from dataclasses import replace
from typing import Any, cast

import pytest
from sim_fleet import BUCKET_FAULTS, NUM_BUCKETS, Fault, Network, SimEngine, SimLearner, bucket_of

from services.canary import canary_request
from services.ports import LearnerPort, RolloutPort
from services.sync_phases import PEER_SHARE, SyncPhase
from services.virtual_time import run_virtual, virtual_clock
from services.weight_sync import MAX_ABORT_SECONDS, SyncResult, WeightSync
from shaping.errors import ChannelBroken, RoleDied
from shaping.records import EntropySource

NUM_INTERLEAVINGS = 500
NUM_VERSIONS = 5
METHODS = ("ping", "connect_weights", "stage_weights", "verify_weights", "commit_weights", "canary")


class Story:
    """One interleaving: a run that syncs version after version while things happen."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.deadline = self.random.choice((5.0, 20.0, 100.0))
        network = Network(peer_seconds=PEER_SHARE * self.deadline)
        self.learner = SimLearner(network)
        self.engines = [SimEngine(f"rollout-{index}", network) for index in range(self.random.randint(1, 4))]
        self.restarting: set[str] = set()
        self.results: list[SyncResult] = []
        self.is_running = asyncio.Event()
        self.is_running.set()
        self.entered_at: list[float] = []
        self.phases: list[SyncPhase] = []
        self.sync = WeightSync(
            learner=cast(LearnerPort, self.learner),
            workers_per_engine=1,
            deadline_seconds=self.deadline,
            clock=self._clock,
            canary=canary_request(EntropySource.RAW),
        )

    def _clock(self) -> float:
        """Asked at every change of phase, of which it keeps a log."""
        now = virtual_clock()
        self.entered_at.append(now)
        self.phases.append(self.sync.phase)
        return now

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            others = [
                tasks.create_task(each)
                for each in (self._evaluate(), self._pause(), self._break_engines(), self._kill_engines())
            ]
            for version in range(1, NUM_VERSIONS + 1):
                await asyncio.sleep(self.random.uniform(0.0, 10.0))
                await self.is_running.wait()
                self.learner.version = version
                await self._publish(tasks)
            for each in others:
                each.cancel()
        self.is_running.set()

    async def settle(self) -> None:
        """What is still under way in engines comes to its end, and nothing new goes wrong."""
        for each in self.engines:
            each.faults.clear()
        await asyncio.sleep(10 * self.deadline)

    async def _publish(self, tasks: asyncio.TaskGroup) -> None:
        """As a run does: whoever is left out is started again, and the rest goes on; without an engine it waits."""
        while True:
            ready = [each for each in self.engines if each.worker_id not in self.restarting]
            if not ready:
                await asyncio.sleep(1.0)
                continue
            result = await self.sync.publish(self.learner.version, cast(list[RolloutPort], ready))
            self.results.append(result)
            for left_out in result.left_out:
                engine = next(each for each in self.engines if each.worker_id == left_out.worker_id)
                self._check_left_out(engine, left_out.cause)
                self.restarting.add(engine.worker_id)
                tasks.create_task(self._restart(engine))
            self._check_served()
            if result.live:
                return

    async def _restart(self, engine: SimEngine) -> None:
        await engine.restart()
        self.restarting.discard(engine.worker_id)

    async def _evaluate(self) -> None:
        """Sample from any engine, through its gate."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self.random.uniform(0.1, 5.0))
                await self.is_running.wait()
                tasks.create_task(self._sample(self.random.choice(self.engines), self.random.uniform(0.0, 8.0)))

    async def _sample(self, engine: SimEngine, seconds: float) -> None:
        try:
            async with asyncio.timeout(3 * self.deadline + seconds):
                weights = await engine.generate(seconds)
        except (TimeoutError, RoleDied):
            assert engine.history or engine.worker_id in self.restarting, "an engine held a request for no reason"
            return
        assert weights in {_weights_of(version) for version in range(self.learner.version + 1)}

    async def _pause(self) -> None:
        """The user's pause: nothing new is begun, what is under way ends."""
        while True:
            await asyncio.sleep(self.random.uniform(1.0, 30.0))
            self.is_running.clear()
            await asyncio.sleep(self.random.uniform(0.0, 10.0))
            self.is_running.set()

    async def _break_engines(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(0.5, 15.0))
            method = self.random.choice(METHODS)
            kinds = ("hang", "slow", "slow", "refuse", "die", *(BUCKET_FAULTS if method == "stage_weights" else ()))
            fault = Fault(
                kind=self.random.choice(kinds),
                num_times=self.random.randint(1, 3),
                seconds=self.random.uniform(0.1, 1.5) * self.deadline,
                bucket=self.random.randrange(NUM_BUCKETS),
            )
            self.random.choice(self.engines).faults[method] = fault

    async def _kill_engines(self) -> None:
        while True:
            await asyncio.sleep(self.random.uniform(5.0, 60.0))
            self.random.choice(self.engines).die()

    # -- what must hold

    def _check_left_out(self, engine: SimEngine, cause: str) -> None:
        assert engine.history, f"{engine.worker_id} was left out and had done nothing wrong: {cause}"
        if {each.kind for each in engine.history} <= set(BUCKET_FAULTS):
            assert re.search(r"bucket \d|the end", cause), f"the bucket at fault is not named: {cause}"

    def _check_served(self) -> None:
        for each in self.engines:
            assert each.is_loading or each.weights == _weights_of(each.version), "unverified weights are served"

    def check_end(self) -> None:
        self._check_served()
        for each in self.engines:
            assert not each.is_alive or each.gate.is_set(), f"{each.worker_id} was left paused"
            assert not each.is_alive or each.staged is None, f"{each.worker_id} still holds staged weights"
        assert self.sync.phase is SyncPhase.IDLE
        for phase, began, ended in zip(self.phases[1:], self.entered_at, self.entered_at[1:], strict=False):
            limit = min(self.deadline, MAX_ABORT_SECONDS) if phase is SyncPhase.ABORT else self.deadline
            assert phase is SyncPhase.IDLE or ended - began <= limit + 1e-6, f"{phase} took {ended - began} s"
        for result in self.results:
            assert result.canary_difference_nats in (0.0, None)
            assert all(each.phase is not SyncPhase.IDLE and each.cause for each in result.left_out)


def _weights_of(version: int) -> tuple[str, ...]:
    return tuple(bucket_of(version, index) for index in range(NUM_BUCKETS))


async def _tell(seed: int) -> Story:
    story = Story(seed)
    await story.run()
    await story.settle()
    story.check_end()
    # Whatever happened, with healthy engines the next sync is like the first.
    for each in story.engines:
        await each.restart()
    story.learner.version += 1
    result = await story.sync.publish(story.learner.version, cast(list[Any], story.engines))
    assert result.live == tuple(each.worker_id for each in story.engines)
    assert (result.left_out, len(result.aborts), result.canary_difference_nats) == ((), 0, 0.0)
    assert all(each.weights == _weights_of(story.learner.version) for each in story.engines)
    return story


@pytest.mark.parametrize("first", range(0, NUM_INTERLEAVINGS, 50))
def test_no_wait_passes_its_deadline_no_gate_is_left_shut_and_every_engine_left_out_is_named(first: int) -> None:
    stories = [run_virtual(_tell(seed)) for seed in range(first, first + 50)]
    # The interleavings are worth their name: engines were left out in several phases, and buckets were at fault.
    left_out = [each for story in stories for result in story.results for each in result.left_out]
    assert len({each.phase for each in left_out}) >= 4
    assert any("bucket" in each.cause for each in left_out)
    assert sum(len(result.aborts) for story in stories for result in story.results) > 10


def test_engines_in_a_channel_with_a_slow_one_are_not_left_out_with_it() -> None:
    """So slow that the other ends give up, and not so slow that it misses the deadline itself; every time."""

    async def scenario() -> None:
        network = Network(peer_seconds=18.0)
        learner, engines = SimLearner(network), [SimEngine(f"rollout-{index}", network) for index in range(3)]
        engines[1].faults["stage_weights"] = Fault(kind="slow", num_times=9, seconds=19.0)
        sync = WeightSync(
            learner=cast(LearnerPort, learner), workers_per_engine=1, deadline_seconds=20.0, clock=virtual_clock
        )
        learner.version = 1
        result = await sync.publish(1, cast(list[RolloutPort], engines))
        assert result.live == ("rollout-0", "rollout-2")
        (left_out,) = result.left_out
        assert (left_out.worker_id, left_out.phase) == ("rollout-1", SyncPhase.TRANSFER)
        assert re.search(r"bucket \d of version 1 did not arrive", left_out.cause)

    run_virtual(scenario())


def test_the_fleet_breaks_a_channel_as_a_network_does() -> None:
    """The ground of the tests above: a receiver that dies half-way ends the waits of all the others."""

    async def scenario() -> float:
        network = Network(peer_seconds=18.0)
        learner, engines = SimLearner(network), [SimEngine(f"rollout-{index}", network) for index in range(2)]
        learner.version = 1
        channel = await learner.open_channel(2)
        joined = [
            engine.connect_weights(replace(channel, first_rank=rank)) for rank, engine in enumerate(engines, start=1)
        ]
        await asyncio.gather(learner.connect_weights(channel), *joined)
        layout = await learner.weight_layout()
        calls = [
            asyncio.ensure_future(each)
            for each in (learner.send_weights(1), *(engine.stage_weights(layout, 1) for engine in engines))
        ]
        await asyncio.sleep(0.15)
        engines[0].die()
        sent, dead, other = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(sent, ChannelBroken) and isinstance(dead, RoleDied) and isinstance(other, ChannelBroken)
        return virtual_clock()

    assert run_virtual(scenario()) < 1.0
