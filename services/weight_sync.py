"""Weights from the learner to every engine, as one transaction with one owner.

    propose -> transfer (stage beside the live weights, generation goes on) -> verify and commit -> live
                  |                                            |
                  +------------------ abort <------------------+   staged weights dropped, every engine un-paused

Each phase has the same deadline. An engine commits only when its own checksums equal the learner's manifest, so after
an abort every engine still serves the version it served before.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Sequence
from enum import StrEnum
from typing import TypeVar

from services.ports import LearnerPort, RolloutPort
from shaping.errors import EngineRefused, RunFailed
from shaping.training import WeightChannel, WeightLayout, WeightManifest

T = TypeVar("T")


class SyncPhase(StrEnum):
    """Where a weight sync stands."""

    IDLE = "idle"
    TRANSFER = "transfer"
    COMMIT = "commit"
    ABORT = "abort"


class WeightSync:
    """The only caller of the weight methods of learner and engines."""

    def __init__(
        self,
        *,
        learner: LearnerPort,
        rollout: Sequence[RolloutPort],
        workers_per_engine: int,
        deadline_seconds: float,
        max_attempts: int = 2,
    ) -> None:
        self._learner = learner
        self._rollout = tuple(rollout)
        self._workers_per_engine = workers_per_engine
        self._deadline_seconds = deadline_seconds
        self._max_attempts = max_attempts
        self._layout: WeightLayout | None = None
        self._live = {port.worker_id: 0 for port in self._rollout}
        self.phase = SyncPhase.IDLE
        self.num_aborts = 0

    async def connect(self) -> WeightLayout:
        """Bring sender and receivers together, once.

        Raises:
            RunFailed: they did not meet within the deadline.
        """
        layout = await self._within(self._learner.weight_layout(), "learner", "weight layout")
        num_receivers = len(self._rollout) * self._workers_per_engine
        channel = await self._within(self._learner.open_channel(num_receivers), "learner", "weight channel")
        receivers = [
            port.connect_weights(_for_receiver(channel, 1 + index * self._workers_per_engine))
            for index, port in enumerate(self._rollout)
        ]
        joined = asyncio.gather(self._learner.connect_weights(channel), *receivers)
        await self._within(joined, "rollout", "joining the weight channel")
        self._layout = layout
        return layout

    async def publish(self, policy_version: int) -> WeightManifest:
        """Make `policy_version` live on every engine.

        Raises:
            RunFailed: refused or too slow `max_attempts` times; the engines serve the old version.
        """
        if self._layout is None:
            raise RunFailed(role="orchestrator", cause="weights were published before the channel was connected")
        for attempt in range(1, self._max_attempts + 1):
            try:
                return await self._transaction(policy_version, self._layout)
            except EngineRefused as refusal:
                self.num_aborts += 1
                if attempt == self._max_attempts:
                    cause = f"weights of version {policy_version} were refused {attempt} times: {refusal}"
                    raise RunFailed(role="rollout", cause=cause) from refusal
        raise AssertionError("max_attempts is at least 1")

    async def _transaction(self, policy_version: int, layout: WeightLayout) -> WeightManifest:
        try:
            self.phase = SyncPhase.TRANSFER
            what = f"transfer of version {policy_version}"
            manifest = await self._within(self._transfer(policy_version, layout), "learner", what)
            self.phase = SyncPhase.COMMIT
            await self._within(self._commit(manifest), "rollout", f"commit of version {policy_version}")
        except BaseException:
            await self._abort()
            raise
        self.phase = SyncPhase.IDLE
        return manifest

    async def _transfer(self, policy_version: int, layout: WeightLayout) -> WeightManifest:
        sending = asyncio.ensure_future(self._learner.send_weights(policy_version))
        await asyncio.gather(sending, *(port.stage_weights(layout) for port in self._rollout))
        return sending.result()

    async def _commit(self, manifest: WeightManifest) -> None:
        """Commit where the version is not live yet: after a retry some engines already serve it."""
        behind = [port for port in self._rollout if self._live[port.worker_id] < manifest.policy_version]
        ahead = [port for port in self._rollout if port not in behind]
        for port in ahead:
            await port.discard_staged_weights()
        results = await asyncio.gather(*(port.commit_weights(manifest) for port in behind), return_exceptions=True)
        for port, result in zip(behind, results, strict=True):
            if result is None:
                self._live[port.worker_id] = manifest.policy_version
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _abort(self) -> None:
        """Un-pause every engine whatever the others do; one that cannot even do that fails at its next call."""
        self.phase = SyncPhase.ABORT
        for port in self._rollout:
            results = await asyncio.gather(port.discard_staged_weights(), port.resume(), return_exceptions=True)
            for result in results:
                if isinstance(result, asyncio.CancelledError):
                    raise result
        self.phase = SyncPhase.IDLE

    async def _within(self, work: Awaitable[T], role: str, what: str) -> T:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                return await work
        except TimeoutError as error:
            cause = f"{what} took longer than {self._deadline_seconds:g} s (run.deadlines.weights_seconds)"
            raise RunFailed(role=role, cause=cause) from error


def _for_receiver(channel: WeightChannel, first_rank: int) -> WeightChannel:
    return dataclasses.replace(channel, first_rank=first_rank)
