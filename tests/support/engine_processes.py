"""Engines in processes of their own, which a test may stop and kill, and a learner of one policy that sends over gloo.

Both are ports of a weight sync. What travels is real: the engines' receivers, the learner's sender, a process group.
"""

import asyncio
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
import xxhash
from engine_cases import Policy, free_port

from learner.weight_sender import WeightSender, open_sender
from rollout.config import EngineConfig
from rollout.engine import EngineInfo
from rollout.engines import EngineSettings, make_engine
from rollout.worker import RolloutWorker
from shaping.bucket_header import BucketHeader, transfer_headers
from shaping.errors import ChannelBroken, RoleDied
from shaping.records import GroupRequest, Sampling
from shaping.training import CanaryAnswer, WeightChannel, WeightLayout, WeightManifest

Message = tuple[BucketHeader, torch.Tensor | None]


class ProcessEngine:
    """RolloutPort of an hf engine in a process of its own; calls fail as soon as the process ends."""

    def __init__(self, worker_id: str, model_path: str, weight_timeout_s: float) -> None:
        self.worker_id = worker_id
        self._arguments = (model_path, weight_timeout_s)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._ids = itertools.count()

    async def start(self) -> EngineInfo:
        self._loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, *self._arguments), daemon=True)
        self._process.start()
        other.close()
        threading.Thread(target=self._listen, daemon=True).start()
        return await self._call("start")

    async def ping(self) -> int:
        return await self._call("ping")

    async def generate(self, request: GroupRequest) -> Any:
        return await self._call("generate", request)

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self._call("connect_weights", channel)

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        await self._call("stage_weights", layout, policy_version)

    async def verify_weights(self, manifest: WeightManifest) -> None:
        await self._call("verify_weights", manifest)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        await self._call("commit_weights", manifest)

    async def discard_staged_weights(self) -> None:
        await self._call("discard_staged_weights")

    async def resume(self) -> None:
        await self._call("resume")

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        return await self._call("canary", request)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    async def restart(self) -> None:
        await self.close()
        await self.start()

    async def close(self) -> None:
        self.signal(signal.SIGKILL)
        await asyncio.to_thread(self._process.join)
        self._connection.close()

    async def _call(self, method: str, *arguments: Any) -> Any:
        call_id = next(self._ids)
        answer = self._calls[call_id] = self._loop.create_future()
        try:
            self._connection.send((call_id, method, arguments))
        except OSError:
            raise RoleDied(role="rollout", cause="its process ended") from None
        return await answer

    def _listen(self) -> None:
        """In a thread: hand answers to the loop until the process ends."""
        while True:
            try:
                call_id, failure, result = self._connection.recv()
            except (EOFError, OSError):
                break
            self._loop.call_soon_threadsafe(self._answer, call_id, failure, result)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._fail_all)

    def _answer(self, call_id: int, failure: Exception | None, result: Any) -> None:
        answer = self._calls.pop(call_id)
        if answer.done():
            return
        if failure is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(result)

    def _fail_all(self) -> None:
        for call_id in tuple(self._calls):
            self._answer(call_id, RoleDied(role="rollout", cause="its process ended"), None)


def _serve(connection: Connection, model_path: str, weight_timeout_s: float) -> None:
    torch.set_num_threads(1)
    asyncio.run(_serve_calls(connection, model_path, weight_timeout_s))


async def _serve_calls(connection: Connection, model_path: str, weight_timeout_s: float) -> None:
    settings = EngineSettings(
        config=EngineConfig(kind="hf", dtype="float32"),
        model_path=model_path,
        max_model_tokens=512,
        seed=0,
        sampling=Sampling(),
        weight_timeout_s=weight_timeout_s,
    )
    worker = RolloutWorker(make_engine(settings))

    async def answer(call_id: int, method: str, arguments: tuple[Any, ...]) -> None:
        try:
            result = worker.policy_version if method == "ping" else await getattr(worker, method)(*arguments)
            connection.send((call_id, None, result))
        except Exception as error:  # a process border
            connection.send((call_id, error, None))

    tasks = set()
    while True:
        call = await asyncio.to_thread(connection.recv)
        task = asyncio.ensure_future(answer(*call))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class PolicyLearner:
    """LearnerPort, its weight methods alone: sends a policy with the learner's own sender.

    Args:
        spoil: changes the messages of the next transfer; used once.
        before: called before the message of this index is sent; used once.
    """

    def __init__(self, policy: Policy, weight_timeout_s: float) -> None:
        self.policy = policy
        self.spoil: Callable[[list[Message]], list[Message]] | None = None
        self.before: tuple[int, Callable[[], None]] | None = None
        self._timeout_s = weight_timeout_s
        self._sender: WeightSender | None = None

    async def ping(self) -> None: ...

    async def weight_layout(self) -> WeightLayout:
        return self.policy.layout()

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        return WeightChannel(backend="gloo", address="127.0.0.1", port=free_port(), world_size=1 + num_receivers)

    async def connect_weights(self, channel: WeightChannel) -> None:
        self._leave()
        self._sender = await asyncio.to_thread(open_sender, channel, None, self._timeout_s)

    async def send_weights(self, policy_version: int) -> WeightManifest:
        layout = self.policy.layout()
        buckets = self.policy.buckets(layout)
        content = [*(torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in buckets), None]
        messages: list[Message] = list(zip(transfer_headers(layout, policy_version), content, strict=True))
        if self.spoil is not None:
            messages, self.spoil = self.spoil(messages), None
        try:
            await asyncio.to_thread(self._send, messages)
        except ChannelBroken:
            self._leave()
            raise
        checksums = tuple(xxhash.xxh3_64_hexdigest(each) for each in buckets)
        return WeightManifest(policy_version=policy_version, layout=layout, checksums=checksums)

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        return max(float(np.abs(self._expected(each) - each.behavior_logprobs).max()) for each in answers)

    def _expected(self, answer: CanaryAnswer) -> np.ndarray:
        table = self.policy.logits(answer.prompt_ids, answer.response_ids).log_softmax(-1).numpy()
        return table[np.arange(len(answer.response_ids)), answer.response_ids]

    def _send(self, messages: list[Message]) -> None:
        for index, (header, data) in enumerate(messages):
            if self.before is not None and self.before[0] == index:
                self.before[1]()
                self.before = None
            assert self._sender is not None
            self._sender.send(header, data, self._timeout_s)

    def _leave(self) -> None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None
