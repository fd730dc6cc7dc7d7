"""House mode: every port in this process, without Ray. The orchestrator cannot tell the difference.

Engines and learner are real (transformers and plain torch, or the scripted engine of the tests), and so is the pool of
verifiers; what is missing is the other process borders. Shaping and learner work in threads of their own, so that the
loop stays awake.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from learner.batch_plan import BatchPlan
from rollout.engine import EngineInfo, EngineMemory
from rollout.worker import RolloutWorker
from services.house_mode import check_house_mode
from services.ports import RoundHandle, RoundOutcome, ShapedHandle
from services.recipe import Recipe
from services.roles.learner import LearnerRole, build_learner_role
from services.roles.rollout import build_rollout_worker
from services.roles.shaping import ShapingRole, build_shaping_role
from shaping.config import RewardConfig
from shaping.evaluation.answers import GradedResponse
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

    async def freeze(self) -> None:
        await self._worker.freeze()

    async def thaw(self) -> None:
        await self._worker.thaw()

    async def abort(self) -> None:
        await self._worker.abort()

    async def release(self, memory: EngineMemory) -> None:
        await self._worker.release(memory)

    async def wake(self, memory: EngineMemory) -> None:
        async with self._loading:
            await self._worker.wake(memory)

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        return await self._worker.canary(request)

    async def close(self) -> None:
        await self._worker.close()


class _OneThread:
    """Work of a role in a thread of its own, one piece after the other; the loop stays awake."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._is_open = True

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def close(self, work: Callable[[], object]) -> None:
        """Do the last piece of work; harmless when repeated."""
        if self._is_open:
            self._is_open = False
            await self.run(work)
            self._executor.shutdown()


class LocalShaping:
    """ShapingPort over a pipeline of this process."""

    def __init__(self, role: ShapingRole, worker_id: str) -> None:
        self.worker_id = worker_id
        self._role = role
        self._thread = _OneThread(worker_id)

    async def start(self) -> None:
        await self._thread.run(self._role.warm_up)

    async def restart(self) -> None:
        """The verifiers' processes, which alone could have died, are made anew by `start`."""

    async def ping(self) -> None:
        """Answers as long as this process lives."""

    async def configure(self, recipe: Recipe) -> None:
        # Whoever gives up waiting has still asked: it is done in its turn, as in a process of its own.
        await asyncio.shield(self._thread.run(lambda: self._role.configure(recipe)))

    async def score(self, round_handle: RoundHandle) -> RoundOutcome:
        return await self._thread.run(lambda: self._role.score(_group(round_handle)))

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        groups = tuple(_group(each) for each in rounds)
        summary, samples = await self._thread.run(lambda: self._role.shape(groups))
        return ShapedHandle(ref=samples, summary=summary)

    async def grade(self, round_handle: RoundHandle, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        return await self._thread.run(lambda: self._role.grade(_group(round_handle), reward))

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        pairs = [(each.summary, _samples(each)) for each in groups]
        return await self._thread.run(lambda: self._role.save_groups(pairs, file))

    async def load_groups(self, file: str, num_groups: int) -> tuple[ShapedHandle, ...]:
        pairs = await self._thread.run(lambda: self._role.load_groups(file, num_groups))
        return tuple(ShapedHandle(ref=samples, summary=summary) for summary, samples in pairs)

    async def close(self) -> None:
        await self._thread.close(self._role.close)


class LocalLearner:
    """LearnerPort over one rank of this process; its work runs in one thread of its own."""

    def __init__(self, role: LearnerRole, channel: MemoryChannel, loading: asyncio.Lock) -> None:
        self._loading = loading
        self._role = role
        self._channel = channel
        self._thread = _OneThread("learner")

    async def start(self) -> str:
        async with self._loading:
            return await self._thread.run(self._role.start)

    async def ping(self) -> None:
        """Answers as long as this process lives, also while its thread trains."""

    async def configure(self, recipe: Recipe) -> None:
        await self._thread.run(lambda: self._role.configure(recipe))

    async def step(self, batch: tuple[ShapedHandle, ...], plan: BatchPlan, step: int) -> StepResult:
        groups = {index: _samples(handle) for index, handle in enumerate(batch)}
        return await self._thread.run(lambda: self._role.step(plan, step, groups))

    async def weight_layout(self) -> WeightLayout:
        return await self._thread.run(self._role.weight_layout)

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        port = self._channel.open(num_receivers)
        return WeightChannel(backend="memory", address="", port=port, world_size=1 + num_receivers)

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self._thread.run(lambda: self._role.connect_weights(channel, self._channel))

    async def send_weights(self, policy_version: int) -> WeightManifest:
        return await self._thread.run(lambda: self._role.send_weights(policy_version))

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        return await self._thread.run(lambda: self._role.score_canary(answers))

    async def save(self, directory: str) -> tuple[StoredFile, ...]:
        return await self._thread.run(lambda: self._role.save(directory))

    async def load(self, directory: str) -> None:
        await self._thread.run(lambda: self._role.load(directory))

    async def export(self, directory: str) -> None:
        await self._thread.run(lambda: self._role.export(directory))

    async def close(self) -> None:
        await self._thread.close(self._role.close)


class LocalWorkers:
    """Rollout and shaping in one process: all that an evaluation needs.

    Args:
        groups: file for the groups that the recipe wants dumped; None dumps none.
    Raises:
        RecipeError: the vllm engine, which needs a process of its own.
    """

    def __init__(self, recipe: Recipe, groups: Path | None = None) -> None:
        check_house_mode(recipe, with_learner=False)
        # transformers builds a model under process-wide state: two at once in one process would spoil each other.
        self._loading = asyncio.Lock()
        self._channel = MemoryChannel()
        self.rollout = tuple(
            LocalRollout(partial(build_rollout_worker, recipe, index, self._channel), f"rollout-{index}", self._loading)
            for index in range(recipe.rollout.num_workers)
        )
        self.shaping = tuple(
            LocalShaping(build_shaping_role(recipe, groups), f"shaping-{index}")
            for index in range(recipe.cluster.num_shaping_workers)
        )

    async def close(self) -> None:
        """Stop engines and verifiers; harmless when repeated."""
        for engine in self.rollout:
            await engine.close()
        for verifier in self.shaping:
            await verifier.close()


class LocalHouse(LocalWorkers):
    """The ports of a run in one process.

    Raises:
        RecipeError: a recipe that needs process borders: the vllm engine or several learner ranks.
    """

    def __init__(self, recipe: Recipe, groups: Path | None = None) -> None:
        check_house_mode(recipe)
        super().__init__(recipe, groups)
        self.learner = LocalLearner(build_learner_role(recipe, 0, ("", 0)), self._channel, self._loading)

    async def close(self) -> None:
        """Stop every role; harmless when repeated."""
        await super().close()
        await self.learner.close()


def _group(handle: RoundHandle) -> RolloutGroup:
    assert isinstance(handle.ref, RolloutGroup)
    return handle.ref


def _samples(handle: ShapedHandle) -> tuple[TrainingSample, ...]:
    assert isinstance(handle.ref, tuple)
    return handle.ref
