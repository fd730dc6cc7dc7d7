"""House mode: every port in this process, without Ray. The orchestrator cannot tell the difference.

Engines and learner are real (transformers and plain torch, or the scripted engine of the tests); what is missing is the
process borders. Engines and learner work in threads of their own, so that the loop stays awake; shaping takes
milliseconds and runs on the loop.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from learner.batch_plan import BatchPlan
from rollout.engine import EngineInfo
from rollout.worker import RolloutWorker
from services.ports import RoundHandle, RoundOutcome, ShapedHandle
from services.recipe import Recipe
from services.roles.learner import LearnerRole, build_learner_role
from services.roles.rollout import build_rollout_worker
from services.roles.shaping import ShapingRole, build_shaping_role
from shaping.errors import RecipeError
from shaping.memory_channel import MemoryChannel
from shaping.records import GroupRequest, RolloutGroup
from shaping.stored_files import StoredFile
from shaping.training import CanaryAnswer, StepResult, TrainingSample, WeightChannel, WeightLayout, WeightManifest

T = TypeVar("T")


class LocalRollout:
    """RolloutPort over a worker of this process."""

    def __init__(self, make: Callable[[], RolloutWorker], worker_id: str, loading: asyncio.Lock) -> None:
        self.worker_id = worker_id
        self._make = make
        self._worker = make()
        self._loading = loading

    async def start(self) -> EngineInfo:
        async with self._loading:
            return await self._worker.start()

    async def restart(self) -> None:
        await self._worker.close()
        self._worker = self._make()

    async def ping(self) -> int:
        return self._worker.policy_version

    async def generate(self, request: GroupRequest) -> RoundHandle:
        summary, group = await self._worker.generate(request)
        return RoundHandle(ref=group, summary=summary)

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

    async def close(self) -> None:
        await self._worker.close()


class LocalShaping:
    """ShapingPort over a pipeline of this process."""

    def __init__(self, role: ShapingRole, worker_id: str) -> None:
        self.worker_id = worker_id
        self._role = role

    async def start(self) -> None:
        self._role.warm_up()

    async def restart(self) -> None:
        """Nothing that could have died."""

    async def ping(self) -> None:
        """Answers as long as this process lives."""

    async def score(self, round_handle: RoundHandle) -> RoundOutcome:
        return self._role.score(_group(round_handle))

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        summary, samples = self._role.shape(tuple(_group(each) for each in rounds))
        return ShapedHandle(ref=samples, summary=summary)

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        pairs = [(each.summary, _samples(each)) for each in groups]
        return await asyncio.to_thread(self._role.save_groups, pairs, file)

    async def load_groups(self, file: str, num_groups: int) -> tuple[ShapedHandle, ...]:
        pairs = await asyncio.to_thread(self._role.load_groups, file, num_groups)
        return tuple(ShapedHandle(ref=samples, summary=summary) for summary, samples in pairs)

    async def close(self) -> None:
        """Nothing to give back."""


class LocalLearner:
    """LearnerPort over one rank of this process; its work runs in one thread of its own."""

    def __init__(self, role: LearnerRole, channel: MemoryChannel, loading: asyncio.Lock) -> None:
        self._loading = loading
        self._role = role
        self._channel = channel
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="learner")
        self._is_open = True

    async def start(self) -> str:
        async with self._loading:
            return await self._run(self._role.start)

    async def ping(self) -> None:
        """Answers as long as this process lives, also while its thread trains."""

    async def step(self, batch: tuple[ShapedHandle, ...], plan: BatchPlan, step: int) -> StepResult:
        groups = {index: _samples(handle) for index, handle in enumerate(batch)}
        return await self._run(lambda: self._role.step(plan, step, groups))

    async def weight_layout(self) -> WeightLayout:
        return await self._run(self._role.weight_layout)

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        port = self._channel.open(num_receivers)
        return WeightChannel(backend="memory", address="", port=port, world_size=1 + num_receivers)

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self._run(lambda: self._role.connect_weights(channel, self._channel))

    async def send_weights(self, policy_version: int) -> WeightManifest:
        return await self._run(lambda: self._role.send_weights(policy_version))

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        return await self._run(lambda: self._role.score_canary(answers))

    async def save(self, directory: str) -> tuple[StoredFile, ...]:
        return await self._run(lambda: self._role.save(directory))

    async def load(self, directory: str) -> None:
        await self._run(lambda: self._role.load(directory))

    async def export(self, directory: str) -> None:
        await self._run(lambda: self._role.export(directory))

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            await self._run(self._role.close)
            self._thread.shutdown()

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class LocalHouse:
    """The ports of a run in one process.

    Args:
        groups: file for the groups that the recipe wants dumped; None dumps none.
    Raises:
        RecipeError: a recipe that needs process borders: the vllm engine or several learner ranks.
    """

    def __init__(self, recipe: Recipe, groups: Path | None = None) -> None:
        if recipe.rollout.engine.kind == "vllm" or recipe.learner.engine != "torch":
            raise RecipeError(
                "house mode runs in one process: it needs rollout.engine.kind hf or scripted and learner.engine torch, "
                f"got {recipe.rollout.engine.kind} and {recipe.learner.engine} (rollout.engine.kind, learner.engine)"
            )
        # transformers builds a model under process-wide state: two at once in one process would spoil each other.
        loading = asyncio.Lock()
        channel = MemoryChannel()
        self.rollout = tuple(
            LocalRollout(partial(build_rollout_worker, recipe, index, channel), f"rollout-{index}", loading)
            for index in range(recipe.rollout.num_workers)
        )
        self.shaping = tuple(
            LocalShaping(build_shaping_role(recipe, groups), f"shaping-{index}")
            for index in range(recipe.cluster.num_shaping_workers)
        )
        self.learner = LocalLearner(build_learner_role(recipe, 0, ("", 0)), channel, loading)

    async def close(self) -> None:
        """Stop engines and learner; harmless when repeated."""
        for port in self.rollout:
            await port.close()
        await self.learner.close()


def _group(handle: RoundHandle) -> RolloutGroup:
    assert isinstance(handle.ref, RolloutGroup)
    return handle.ref


def _samples(handle: ShapedHandle) -> tuple[TrainingSample, ...]:
    assert isinstance(handle.ref, tuple)
    return handle.ref
