"""A rollout worker: one engine behind it, requests in, summaries and groups out. Knows nothing of Ray."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rollout.engine import Engine, EngineInfo, EngineMemory
from shaping.errors import RunFailed
from shaping.records import GroupRequest, RolloutGroup, StopReason
from shaping.training import CanaryAnswer, WeightChannel, WeightLayout, WeightManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """What the orchestrator sees of one generated round instead of its arrays.

    Args:
        response_lengths: tokens of each response, in rollout order.
        min_policy_version: lowest version at a first token of the round.
        max_policy_version: highest version at a last token.
        entropy_total: sum over all sampled tokens, nats; with `num_response_tokens` it is a mean that merges.
        generation_s: wall seconds in the engine.
    """

    group_id: str
    round_index: int
    num_rollouts: int
    response_lengths: tuple[int, ...]
    stop_reasons: tuple[StopReason, ...]
    min_policy_version: int
    max_policy_version: int
    entropy_total: float
    num_response_tokens: int
    generation_s: float


def summarise(group: RolloutGroup, *, round_index: int, generation_s: float) -> GroupSummary:
    """The summary of one round."""
    rollouts = group.rollouts
    return GroupSummary(
        group_id=group.group_id,
        round_index=round_index,
        num_rollouts=len(rollouts),
        response_lengths=tuple(each.num_tokens for each in rollouts),
        stop_reasons=tuple(each.stop_reason for each in rollouts),
        min_policy_version=group.min_policy_version,
        max_policy_version=max(each.max_policy_version for each in rollouts),
        entropy_total=float(sum(np.sum(each.entropies, dtype=np.float64) for each in rollouts)),
        num_response_tokens=group.num_response_tokens,
        generation_s=generation_s,
    )


class RolloutWorker:
    """Turns group requests into groups, and passes weight calls to its engine.

    Args:
        clock: monotonic seconds; replaced in tests.
    """

    def __init__(self, engine: Engine, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._info: EngineInfo | None = None

    async def start(self) -> EngineInfo:
        """Start and prove the engine."""
        self._info = await self._engine.start()
        return self._info

    @property
    def policy_version(self) -> int:
        return self._engine.policy_version

    async def generate(self, request: GroupRequest) -> tuple[GroupSummary, RolloutGroup]:
        """Sample one round of a group.

        Raises:
            RecordError: the engine cannot take the request, or its answer breaks a rule of the records.
            RunFailed: the engine failed; carries the group.
            RolloutAborted: it was given up.
        """
        if self._info is None:
            raise RunFailed(role="rollout", cause="the worker has not started", group_id=request.group_id)
        started = self._clock()
        try:
            rollouts = await self._engine.generate(
                prompt_ids=request.prompt_ids,
                hint_ids=request.hint_ids,
                num_rollouts=request.num_rollouts,
                sampling=request.sampling,
                seed=request.seed,
            )
        except RunFailed as error:
            raise RunFailed(role=error.role, cause=error.cause, group_id=request.group_id) from error
        group = RolloutGroup(
            group_id=request.group_id,
            prompt=request.prompt,
            prompt_ids=request.prompt_ids,
            rollouts=rollouts,
            vocab_size=self._info.vocab_size,
            recalled=request.recalled,
            max_response_tokens=request.sampling.max_response_tokens,
        )
        summary = summarise(group, round_index=request.round_index, generation_s=self._clock() - started)
        return summary, group

    async def canary(self, request: GroupRequest) -> CanaryAnswer:
        """Sample the canary prompt once, as any other group.

        Raises:
            RunFailed: the engine failed.
        """
        _, group = await self.generate(request)
        return CanaryAnswer(
            prompt_ids=request.prompt_ids,
            response_ids=group.rollouts[0].response_ids,
            behavior_logprobs=group.rollouts[0].behavior_logprobs,
            temperature=request.sampling.temperature,
        )

    async def pause(self) -> None:
        await self._engine.pause()

    async def resume(self) -> None:
        await self._engine.resume()

    async def freeze(self) -> None:
        await self._engine.freeze()

    async def thaw(self) -> None:
        await self._engine.thaw()

    async def abort(self) -> None:
        await self._engine.abort()

    async def release(self, memory: EngineMemory) -> None:
        await self._engine.release(memory)

    async def wake(self, memory: EngineMemory) -> None:
        await self._engine.wake(memory)

    async def connect_weights(self, channel: WeightChannel) -> None:
        await self._engine.connect_weights(channel)

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        await self._engine.stage_weights(layout, policy_version)

    async def verify_weights(self, manifest: WeightManifest) -> None:
        await self._engine.verify_weights(manifest)

    async def commit_weights(self, manifest: WeightManifest) -> None:
        await self._engine.commit_weights(manifest)

    async def discard_staged_weights(self) -> None:
        await self._engine.discard_staged_weights()

    async def close(self) -> None:
        await self._engine.close()
