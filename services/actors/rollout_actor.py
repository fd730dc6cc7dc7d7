"""Ray shell of one rollout worker. Decides nothing."""

from typing import Any

import ray

from rollout.engine import EngineInfo
from rollout.worker import GroupSummary
from services.actor_logs import redirect_output
from services.recipe import Recipe
from services.roles.rollout import build_rollout_worker
from shaping.records import GroupRequest, RolloutGroup
from shaping.training import CanaryAnswer, WeightChannel, WeightLayout, WeightManifest


class RolloutActor:
    """RolloutWorker in its own process; a group stays in this node's object store, its summary travels."""

    def __init__(self, recipe: Recipe, worker_index: int, log: str) -> None:
        redirect_output(log)
        self._worker = build_rollout_worker(recipe, worker_index)

    async def start(self) -> EngineInfo:
        return await self._worker.start()

    async def ping(self) -> int:
        return self._worker.policy_version

    @ray.method(num_returns=2)
    async def generate(self, request: GroupRequest) -> tuple[GroupSummary, RolloutGroup]:
        return await self._worker.generate(request)

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self._worker.connect_weights(channel)

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        await self._worker.stage_weights(layout, policy_version)

    async def verify_weights(self, manifest: WeightManifest) -> None:
        await self._worker.verify_weights(manifest)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        await self._worker.commit_weights(manifest)

    async def discard_staged_weights(self) -> None:
        await self._worker.discard_staged_weights()

    async def resume(self) -> None:
        await self._worker.resume()

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        return await self._worker.canary(request)

    async def call(self, method: str, *arguments: Any) -> None:
        """Any other method of the worker that answers nothing."""
        await getattr(self._worker, method)(*arguments)

    async def close(self) -> None:
        await self._worker.close()
