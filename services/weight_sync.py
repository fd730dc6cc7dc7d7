"""Weights from the learner to every engine, as one transaction with one owner.

    propose -> transfer (stage beside the live weights, generation goes on) -> verify and commit -> live
                  |                                            |
                  +------------------ abort <------------------+   staged weights dropped, every engine un-paused

Each phase has the same deadline. An engine commits only when its own checksums equal the learner's manifest, so an
abort leaves it with the version that it served before; one that had committed is left out when the others try again.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Coroutine, Sequence
from enum import StrEnum
from typing import Any, TypeVar

from services.deadlines import within
from services.ports import LearnerPort, RolloutPort
from shaping.errors import EngineRefused, RunFailed
from shaping.training import WeightChannel, WeightLayout, WeightManifest

T = TypeVar("T")

MAX_ABORT_SECONDS = 30.0


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
            RunFailed: they did not meet within the deadline, or an engine refused.
        """
        layout = await self._within(self._learner.weight_layout(), "learner", "weight layout")
        num_receivers = len(self._rollout) * self._workers_per_engine
        channel = await self._within(self._learner.open_channel(num_receivers), "learner", "weight channel")
        receivers = [
            port.connect_weights(_for_receiver(channel, 1 + index * self._workers_per_engine))
            for index, port in enumerate(self._rollout)
        ]
        joined = asyncio.gather(self._learner.connect_weights(channel), *receivers)
        try:
            await self._within(joined, "rollout", "joining the weight channel")
        except EngineRefused as refusal:
            raise RunFailed(role="rollout", cause=str(refusal)) from refusal
        self._layout = layout
        return layout

    async def publish(self, policy_version: int) -> WeightManifest:
        """Make `policy_version` live on every engine.

        Raises:
            RunFailed: refused `max_attempts` times, or too slow; every engine is un-paused and serves what it verified.
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
        staging = [asyncio.ensure_future(port.stage_weights(layout)) for port in self._rollout]
        await _all_or_first_failure([sending, *staging])
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
        calls: list[Coroutine[Any, Any, None]] = []
        for port in self._rollout:
            calls += [port.discard_staged_weights(), port.resume()]
        pending = [asyncio.ensure_future(call) for call in calls]
        # An engine that hangs must keep neither the others paused nor the run from ending.
        done, late = await asyncio.wait(pending, timeout=min(self._deadline_seconds, MAX_ABORT_SECONDS))
        for each in late:
            each.cancel()
        await asyncio.gather(*done, return_exceptions=True)
        self.phase = SyncPhase.IDLE

    async def _within(self, work: Awaitable[T], role: str, what: str) -> T:
        key = "run.deadlines.weights_seconds"
        return await within(self._deadline_seconds, work, role=role, what=what, key=key)


async def _all_or_first_failure(calls: Sequence[asyncio.Future[Any]]) -> None:
    """All calls, or the failure that came first.

    After a refusal the others are waited for, since another attempt follows and must not meet what they left in the
    channel; any other failure ends the run and waits for nobody.
    """
    try:
        done, pending = await asyncio.wait(calls, return_when=asyncio.FIRST_EXCEPTION)
        failure = next((each.exception() for each in calls if each in done and each.exception()), None)
        if isinstance(failure, EngineRefused) and pending:
            await asyncio.wait(pending)
        if failure is not None:
            raise failure
    finally:
        for each in calls:
            if not each.cancel() and not each.cancelled():
                # Asked for, so that asyncio does not report it as one that nobody looked at.
                each.exception()


def _for_receiver(channel: WeightChannel, first_rank: int) -> WeightChannel:
    return dataclasses.replace(channel, first_rank=first_rank)
