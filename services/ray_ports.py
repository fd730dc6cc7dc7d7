"""The orchestrator's ports over Ray actors.

A remote failure becomes a failure of ours at this border: an error that lessrl raised on purpose comes out as itself,
anything else as RunFailed with its first cause.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
)

from learner.batch_plan import BatchPlan
from rollout.engine import EngineInfo, EngineMemory
from services.ports import RoundHandle, RoundOutcome, ShapedHandle
from services.recipe import Recipe
from shaping.config import RewardConfig
from shaping.errors import GroupLost, LessrlError, RoleDied, RunFailed
from shaping.evaluation.answers import GradedResponse
from shaping.records import GroupRequest
from shaping.stored_files import StoredFile
from shaping.training import CanaryAnswer, StepResult, WeightChannel, WeightLayout, WeightManifest

CLOSE_SECONDS = 5.0

# Ray ends a process that takes too much of its node's memory, and does not count that among RayActorErrors.
_DEATHS = (RayActorError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError)


async def result(reference: Any, role: str, group_id: str = "") -> Any:
    """Await a remote call.

    Raises:
        LessrlError: raised by the actor on purpose, as it was.
        RoleDied: its process ended.
        GroupLost: what it was to work on is gone with a node.
        RunFailed: anything else, with its first cause.
    """
    try:
        return await reference
    except RayTaskError as error:
        cause = first_remote_cause(error)
        if isinstance(cause, LessrlError):
            raise cause from error
        if isinstance(cause, ObjectLostError):
            raise GroupLost(role=role, cause=f"its arrays are lost: {_line(cause)}", group_id=group_id) from error
        raise RunFailed(role=role, cause=f"{type(cause).__name__}: {_line(cause)}", group_id=group_id) from error
    except _DEATHS as error:
        raise RoleDied(role=role, cause=f"its process ended: {_line(error)}", group_id=group_id) from error
    except ObjectLostError as error:
        raise GroupLost(role=role, cause=f"its arrays are lost: {_line(error)}", group_id=group_id) from error
    except RayError as error:
        raise RunFailed(role=role, cause=f"{type(error).__name__}: {_line(error)}", group_id=group_id) from error


def first_remote_cause(error: BaseException) -> BaseException:
    """Unwrap what Ray wrapped around the exception that an actor raised."""
    while isinstance(error, RayTaskError) and isinstance(error.cause, BaseException):
        error = error.cause
    return error


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"


class RayRollout:
    """RolloutPort over one RolloutActor.

    A new process takes seconds to import its engine, and answers nothing meanwhile: whoever asks one that is not
    started is told so at once, above all a weight sync that the death of its predecessor found under way.
    """

    def __init__(self, make: Callable[[], Any], worker_id: str) -> None:
        self.worker_id = worker_id
        self._make = make
        self._is_started = False
        self.actor = make()

    async def start(self) -> EngineInfo:
        info: EngineInfo = await result(self.actor.start.remote(), "rollout")
        self._is_started = True
        return info

    async def restart(self) -> None:
        self._is_started = False
        kill([self.actor])
        self.actor = self._make()

    async def ping(self) -> int:
        version: int = await result(self._started.ping.remote(), "rollout")
        return version

    async def generate(self, request: GroupRequest) -> RoundHandle:
        summary, group = self._started.generate.remote(request)
        return RoundHandle(ref=group, summary=await result(summary, "rollout", request.group_id))

    async def freeze(self) -> None:
        await result(self._started.call.remote("freeze"), "rollout")

    async def thaw(self) -> None:
        await result(self._started.call.remote("thaw"), "rollout")

    async def abort(self) -> None:
        await result(self._started.call.remote("abort"), "rollout")

    async def release(self, memory: EngineMemory) -> None:
        await result(self._started.call.remote("release", memory), "rollout")

    async def wake(self, memory: EngineMemory) -> None:
        await result(self._started.call.remote("wake", memory), "rollout")

    async def connect_weights(self, channel: WeightChannel) -> None:
        await result(self._started.connect_weights.remote(channel), "rollout")

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        await result(self._started.stage_weights.remote(layout, policy_version), "rollout")

    async def verify_weights(self, manifest: WeightManifest) -> None:
        await result(self._started.verify_weights.remote(manifest), "rollout")

    async def commit_weights(self, manifest: WeightManifest) -> None:
        await result(self._started.commit_weights.remote(manifest), "rollout")

    async def discard_staged_weights(self) -> None:
        await result(self._started.discard_staged_weights.remote(), "rollout")

    async def resume(self) -> None:
        await result(self._started.resume.remote(), "rollout")

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        answer: CanaryAnswer = await result(self._started.canary.remote(request), "rollout")
        return answer

    async def close(self) -> None:
        await close_politely([self.actor])

    @property
    def _started(self) -> Any:
        if not self._is_started:
            raise RoleDied(role="rollout", cause=f"{self.worker_id} is being started")
        return self.actor


class RayShaping:
    """ShapingPort over one ShapingActor. A new process is made with the recipe that the run began with: what it was
    changed to since then, if anything, follows once it is started.
    """

    def __init__(self, make: Callable[[], Any], worker_id: str) -> None:
        self.worker_id = worker_id
        self._make = make
        self._recipe: Recipe | None = None
        self.actor = make()

    async def start(self) -> None:
        await result(self.actor.start.remote(), "shaping")
        if self._recipe is not None:
            await result(self.actor.configure.remote(self._recipe), "shaping")

    async def configure(self, recipe: Recipe) -> None:
        self._recipe = recipe
        await result(self.actor.configure.remote(recipe), "shaping")

    async def restart(self) -> None:
        kill([self.actor])
        self.actor = self._make()

    async def ping(self) -> None:
        await result(self.actor.ping.remote(), "shaping")

    async def score(self, round_handle: RoundHandle) -> RoundOutcome:
        group_id = round_handle.summary.group_id
        outcome: RoundOutcome = await result(self.actor.score.remote(round_handle.ref), "shaping", group_id)
        return outcome

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        summary, samples = self.actor.shape.remote(*(each.ref for each in rounds))
        return ShapedHandle(ref=samples, summary=await result(summary, "shaping", rounds[0].summary.group_id))

    async def grade(self, round_handle: RoundHandle, reward: RewardConfig) -> tuple[GradedResponse, ...]:
        group_id = round_handle.summary.group_id
        graded: tuple[GradedResponse, ...] = await result(
            self.actor.grade.remote(round_handle.ref, reward), "shaping", group_id
        )
        return graded

    async def save_groups(self, groups: tuple[ShapedHandle, ...], file: str) -> StoredFile:
        summaries, samples = tuple(each.summary for each in groups), (each.ref for each in groups)
        stored: StoredFile = await result(self.actor.save_groups.remote(file, summaries, *samples), "shaping")
        return stored

    async def load_groups(self, file: str, num_groups: int) -> tuple[ShapedHandle, ...]:
        # One object per group, owned by this process: they outlive the actor that read them.
        loading = self.actor.load_groups.options(num_returns=1 + num_groups).remote(file, num_groups)
        summaries, *samples = loading if num_groups else [loading]
        pairs = zip(await result(summaries, "shaping"), samples, strict=True)
        return tuple(ShapedHandle(ref=ref, summary=summary) for summary, ref in pairs)

    async def close(self) -> None:
        """Nothing to save: the house ends the process."""


class RayLearner:
    """LearnerPort over the LearnerActors of all ranks. Each rank is sent only the groups that its part names."""

    def __init__(self, actors: Sequence[Any], channel_backend: str) -> None:
        self.actors = tuple(actors)
        self._channel_backend = channel_backend

    async def start(self) -> str:
        address, port = await result(self.actors[0].free_address.remote(), "learner")
        descriptions = await self._all([actor.start.remote(address, port) for actor in self.actors])
        return f"{len(self.actors)} ranks, {descriptions[0]}"

    async def ping(self) -> None:
        await self._all([actor.ping.remote() for actor in self.actors])

    async def configure(self, recipe: Recipe) -> None:
        await self._call("configure", recipe)

    async def step(self, batch: tuple[ShapedHandle, ...], plan: BatchPlan, step: int) -> StepResult:
        calls = []
        for rank, actor in enumerate(self.actors):
            indices = groups_of_rank(plan, rank)
            calls.append(actor.step.remote(plan, step, indices, *(batch[index].ref for index in indices)))
        results: list[StepResult] = await self._all(calls)
        return results[0]

    async def weight_layout(self) -> WeightLayout:
        layout: WeightLayout = await result(self.actors[0].call.remote("weight_layout"), "learner")
        return layout

    async def open_channel(self, num_receivers: int) -> WeightChannel:
        address, port = await result(self.actors[0].free_address.remote(), "learner")
        return WeightChannel(backend=self._channel_backend, address=address, port=port, world_size=1 + num_receivers)

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self._call("connect_weights", channel)

    async def send_weights(self, policy_version: int) -> WeightManifest:
        manifest: WeightManifest = await self._call("send_weights", policy_version)
        return manifest

    async def score_canary(self, answers: tuple[CanaryAnswer, ...]) -> float:
        difference: float = await self._call("score_canary", answers)
        return difference

    async def save(self, directory: str) -> tuple[StoredFile, ...]:
        files: tuple[StoredFile, ...] = await self._call("save", directory)
        return files

    async def load(self, directory: str) -> None:
        await self._call("load", directory)

    async def export(self, directory: str) -> None:
        await self._call("export", directory)

    async def close(self) -> None:
        await close_politely(self.actors)

    async def _call(self, method: str, *arguments: Any) -> Any:
        """What rank 0 says, once all ranks have answered."""
        return (await self._all([actor.call.remote(method, *arguments) for actor in self.actors]))[0]

    async def _all(self, references: Sequence[Any]) -> list[Any]:
        """All ranks, or the first failure of any: a rank that failed leaves the others waiting in a collective."""
        return list(await asyncio.gather(*(result(each, "learner") for each in references)))


def groups_of_rank(plan: BatchPlan, rank: int) -> tuple[int, ...]:
    """Indices of the groups that a rank's part of a plan names, rising."""
    return tuple(
        sorted(
            {
                size.group_index
                for mini_batch in plan.mini_batches
                for micro_batch in mini_batch.micro_batches[rank]
                for size in micro_batch
            }
        )
    )


async def close_politely(actors: Sequence[Any]) -> None:
    """Let actors close what they hold; one that does not answer in time is left to `kill`."""
    pending = [asyncio.ensure_future(_quiet(actor.close.remote())) for actor in actors]
    await asyncio.wait(pending, timeout=CLOSE_SECONDS)
    for each in pending:
        each.cancel()


async def _quiet(reference: Any) -> None:
    try:
        await reference
    except (RayError, GetTimeoutError):
        return


def kill(actors: Sequence[Any]) -> None:
    """End the processes of actors."""
    for actor in actors:
        ray.kill(actor, no_restart=True)
