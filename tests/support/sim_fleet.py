"""Engines and a learner that exchange weights in virtual time and fail as they are told: the ports of a weight sync.

As over a process border, what an engine was asked goes on when the caller gives up. Weights are names: an engine serves
what it loaded, so that a test sees what nobody verified.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from shaping.bucket_header import BucketHeader, check_next, transfer_headers
from shaping.errors import ChannelBroken, EngineRefused, RoleDied
from shaping.records import GroupRequest
from shaping.training import BucketLayout, CanaryAnswer, WeightChannel, WeightLayout, WeightManifest

T = TypeVar("T")

NUM_BUCKETS = 4
LAYOUT = WeightLayout(
    buckets=tuple(
        BucketLayout(names=(f"w{index}",), shapes=((2,),), dtype="float32", num_bytes=8) for index in range(NUM_BUCKETS)
    )
)
CALL_SECONDS, BUCKET_SECONDS, LOAD_SECONDS, START_SECONDS = 0.01, 0.1, 0.5, 5.0
BUCKET_FAULTS = ("flip", "drop", "repeat", "old")


def bucket_of(version: int, index: int) -> str:
    """The bytes of a bucket, and its checksum."""
    return f"v{version}b{index}"


@dataclass(slots=True, kw_only=True)
class Fault:
    """What goes wrong at a call.

    Args:
        kind: "die", "hang" (from now on), "slow", "refuse"; in a transfer also one of BUCKET_FAULTS.
        num_times: calls left that it happens at.
        seconds: of a slow call.
        bucket: at fault, where one is.
    """

    kind: str
    num_times: int = 1
    seconds: float = 0.0
    bucket: int = 0


class Meeting:
    """One weight channel: who has joined, a queue per receiver, and whether it broke."""

    def __init__(self, num_receivers: int) -> None:
        self.num_missing = 1 + num_receivers
        self.everybody = asyncio.Event()
        self.broke = asyncio.Event()
        self.queues: dict[int, asyncio.Queue[tuple[bytes, str]]] = {
            rank: asyncio.Queue() for rank in range(1, 1 + num_receivers)
        }
        self.num_taken: dict[int, int] = dict.fromkeys(self.queues, 0)
        self.taken = asyncio.Condition()

    async def join(self, seconds: float) -> None:
        if self.broke.is_set():
            raise ChannelBroken("nobody is there any more")
        self.num_missing -= 1
        if not self.num_missing:
            self.everybody.set()
        try:
            await self.until(self.everybody.wait(), seconds, "a peer did not come")
        except ChannelBroken:
            self.broke.set()
            raise

    async def until(self, work: Coroutine[Any, Any, T], seconds: float, told: str) -> T:
        """Work that the channel's end, or its own time-out, interrupts."""
        task, broke = asyncio.ensure_future(work), asyncio.ensure_future(self.broke.wait())
        try:
            await asyncio.wait((task, broke), timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ChannelBroken(f"{told}: {'closed by peer' if broke.done() else 'timed out'}")
            return task.result()
        finally:
            task.cancel()
            broke.cancel()

    async def took(self, rank: int) -> None:
        async with self.taken:
            self.num_taken[rank] += 1
            self.taken.notify_all()


@dataclass(slots=True)
class Network:
    """Where meetings are found, and how long an end waits in them."""

    peer_seconds: float
    meetings: dict[int, Meeting] = field(default_factory=dict)


class SimLearner:
    """LearnerPort, its weight methods alone."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.version = 0
        self._meeting: Meeting | None = None

    async def ping(self) -> None:
        await asyncio.sleep(0)

    async def weight_layout(self) -> WeightLayout:
        return LAYOUT

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        port = len(self.network.meetings) + 1
        self.network.meetings[port] = Meeting(num_receivers)
        return WeightChannel(backend="memory", address="", port=port, world_size=1 + num_receivers)

    async def connect_weights(self, channel: WeightChannel) -> None:
        self._leave()
        self._meeting = self.network.meetings[channel.port]
        await self._meeting.join(self.network.peer_seconds)

    async def send_weights(self, policy_version: int) -> WeightManifest:
        assert policy_version == self.version, "the learner holds another version than it is asked for"
        meeting = self._meeting
        assert meeting is not None
        ends_at = asyncio.get_running_loop().time() + self.network.peer_seconds
        try:
            for number, header in enumerate(transfer_headers(LAYOUT, policy_version), start=1):
                content = "" if header.is_end else bucket_of(policy_version, header.bucket_index)
                for each in meeting.queues.values():
                    each.put_nowait((header.pack(), content))
                seconds = ends_at - asyncio.get_running_loop().time()
                told = f"{header} of version {policy_version} was not received"
                await meeting.until(_all_took(meeting, number), seconds, told)
        except ChannelBroken:
            self._leave()
            raise
        checksums = tuple(bucket_of(policy_version, index) for index in range(NUM_BUCKETS))
        return WeightManifest(policy_version=policy_version, layout=LAYOUT, checksums=checksums)

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        """Engines answer with the version of the weights that they sample from."""
        return float(max(abs(self.version - each.behavior_logprobs[0]) for each in answers))

    def _leave(self) -> None:
        if self._meeting is not None:
            self._meeting.broke.set()
            self._meeting = None


async def _all_took(meeting: Meeting, number: int) -> None:
    async with meeting.taken:
        await meeting.taken.wait_for(lambda: min(meeting.num_taken.values()) >= number)


class SimEngine:
    """RolloutPort of one engine, started again by `restart`.

    `faults` are by method; `history` names every fault that this process met.
    """

    def __init__(self, worker_id: str, network: Network) -> None:
        self.worker_id = worker_id
        self.network = network
        self.faults: dict[str, Fault] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._begin()

    def _begin(self) -> None:
        self.version = 0
        self.weights = tuple(bucket_of(0, index) for index in range(NUM_BUCKETS))
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_loading = False
        self.is_hung = False
        self.staged: tuple[str, ...] | None = None
        self.died = asyncio.Event()
        self.history: list[Fault] = []
        self._meeting: Meeting | None = None
        self._rank = 0

    # -- what tests do to it

    def die(self) -> None:
        self.history.append(Fault(kind="die"))
        self._end()

    async def restart(self) -> None:
        self._end()
        self.faults.clear()
        await asyncio.sleep(START_SECONDS)
        self._begin()

    @property
    def is_alive(self) -> bool:
        return not self.died.is_set() and not self.is_hung

    # -- the port

    async def ping(self) -> int:
        async def answer(_: Fault | None) -> int:
            return self.version

        return await self._call("ping", answer)

    async def generate(self, seconds: float) -> tuple[str, ...]:
        """The weights that an answer was sampled from."""

        async def sample(_: Fault | None) -> tuple[str, ...]:
            await asyncio.sleep(seconds)
            await self.gate.wait()
            assert not self.is_loading, "half-loaded weights were sampled from"
            return self.weights

        return await self._call("generate", sample)

    async def connect_weights(self, channel: WeightChannel) -> None:
        async def join(_: Fault | None) -> None:
            self._leave()
            meeting = self.network.meetings[channel.port]
            await meeting.join(self.network.peer_seconds)
            self._meeting, self._rank = meeting, channel.first_rank

        await self._call("connect_weights", join)

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        assert layout == LAYOUT

        async def receive(fault: Fault | None) -> None:
            assert policy_version > self.version, "an engine that serves a version was sent it again"
            self.staged = None
            self.staged = await self._receive(policy_version, fault)

        await self._call("stage_weights", receive)

    async def verify_weights(self, manifest: WeightManifest) -> None:
        async def compare(_: Fault | None) -> None:
            self._check(manifest)

        await self._call("verify_weights", compare)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        async def load(_: Fault | None) -> None:
            self.weights, self.staged = self._check(manifest), None
            self.gate.clear()
            self.is_loading = True
            await asyncio.sleep(LOAD_SECONDS)
            self.version = manifest.policy_version
            self.is_loading = False
            self.gate.set()

        await self._call("commit_weights", load)

    async def discard_staged_weights(self) -> None:
        async def drop(_: Fault | None) -> None:
            self.staged = None

        await self._call("discard_staged_weights", drop)

    async def resume(self) -> None:
        async def open_gate(_: Fault | None) -> None:
            if not self.is_loading:
                self.gate.set()

        await self._call("resume", open_gate)

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        async def sample(_: Fault | None) -> CanaryAnswer:
            await self.gate.wait()
            return CanaryAnswer(
                prompt_ids=request.prompt_ids,
                response_ids=np.array([1], dtype=np.int32),
                behavior_logprobs=np.array([_version_of(self.weights)], dtype=np.float32),
                temperature=1.0,
            )

        return await self._call("canary", sample)

    # -- inside

    async def _call(self, method: str, work: Callable[[Fault | None], Awaitable[T]]) -> T:
        """Work in the engine's own process: it outlives a caller that gives up, and ends when the process dies."""
        died = self.died
        task = asyncio.ensure_future(self._at_work(method, work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        death = asyncio.ensure_future(died.wait())
        try:
            await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
        if died.is_set():
            raise RoleDied(role="rollout", cause=f"the process of {self.worker_id} ended")
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Asked for, since the caller may have given up.
            task.exception()

    def _end(self) -> None:
        self.died.set()
        self._leave()
        for task in self._tasks:
            task.cancel()

    async def _at_work(self, method: str, work: Callable[[Fault | None], Awaitable[T]]) -> T:
        fault = self._next_fault(method)
        kind = "" if fault is None else fault.kind
        if kind == "die":
            self.die()
        self.is_hung = self.is_hung or kind == "hang"
        if self.is_hung:
            await asyncio.Event().wait()
        if fault is not None and kind == "slow":
            await asyncio.sleep(fault.seconds)
        if kind == "refuse":
            raise EngineRefused(f"{self.worker_id} refuses")
        await asyncio.sleep(CALL_SECONDS)
        return await work(fault)

    def _next_fault(self, method: str) -> Fault | None:
        fault = self.faults.get(method)
        if fault is not None:
            self.history.append(fault)
            fault.num_times -= 1
            if fault.num_times == 0:
                del self.faults[method]
        return fault

    async def _receive(self, policy_version: int, fault: Fault | None) -> tuple[str, ...]:
        meeting = self._meeting
        if meeting is None:
            raise EngineRefused("weights must be connected before they are staged")
        ends_at = asyncio.get_running_loop().time() + self.network.peer_seconds
        received = []
        try:
            for header in transfer_headers(LAYOUT, policy_version):
                seconds = ends_at - asyncio.get_running_loop().time()
                told = f"{header} of version {policy_version} did not arrive"
                packed, content = await meeting.until(meeting.queues[self._rank].get(), seconds, told)
                await asyncio.sleep(BUCKET_SECONDS)
                check_next(packed if fault is None else _damaged(header, fault).pack(), header)
                if not header.is_end:
                    is_flipped = fault is not None and fault.kind == "flip" and fault.bucket == header.bucket_index
                    received.append(content + "!" if is_flipped else content)
                await meeting.took(self._rank)
        except (EngineRefused, ChannelBroken):
            self._leave()
            raise
        return tuple(received)

    def _check(self, manifest: WeightManifest) -> tuple[str, ...]:
        staged, self.staged = self.staged, None
        if staged is None:
            raise EngineRefused("found none staged")
        for index, (mine, theirs) in enumerate(zip(staged, manifest.checksums, strict=True)):
            if mine != theirs:
                raise EngineRefused(f"bucket {index} must have checksum {theirs}, received {mine}")
        self.staged = staged
        return staged

    def _leave(self) -> None:
        if self._meeting is not None:
            self._meeting.broke.set()
            self._meeting = None


def _damaged(header: BucketHeader, fault: Fault) -> BucketHeader:
    """What comes instead of a header."""
    index = header.bucket_index
    if fault.kind == "drop" and index == fault.bucket:
        return replace(header, bucket_index=index + 1)
    if fault.kind == "repeat" and index == fault.bucket + 1:
        return replace(header, bucket_index=index - 1)
    if fault.kind == "old" and index == fault.bucket:
        return replace(header, policy_version=header.policy_version - 1)
    return header


def _version_of(weights: tuple[str, ...]) -> float:
    """Of weights that are all of one version."""
    (version,) = {each.split("b")[0].removeprefix("v") for each in weights}
    return float(version)
