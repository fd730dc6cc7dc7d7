"""What an engine is: the thing that samples, behind vLLM, transformers or a script.

Data flows in as token ids and out as rollouts. An engine knows nothing of groups, rewards or Ray.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from shaping.checks import IntArray
from shaping.records import Rollout, Sampling
from shaping.training import WeightChannel, WeightLayout, WeightManifest

NO_VERSION = -1
"""What an engine serves whose weights were given back and have not come again: nothing."""


class EngineMemory(StrEnum):
    """What an engine can give back while nothing is under way. Weights are given back with the KV cache."""

    KV_CACHE = "kv_cache"
    ROLLOUT_WEIGHTS = "rollout_weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What an engine proved at start.

    Args:
        vocab_size: width of the logits.
        max_model_tokens: longest prompt + response.
        max_logprob_error, max_entropy_error: largest difference found by the proof against an independent computation,
            in nats.
        num_workers: processes that receive weights (tensor parallel size).
        description: one line for logs, with the library's version and model runner.
        can_release: what it can give back, see `Engine.release`.
    """

    vocab_size: int
    max_model_tokens: int
    max_logprob_error: float
    max_entropy_error: float
    num_workers: int
    description: str
    can_release: tuple[EngineMemory, ...] = ()


class Engine(Protocol):
    """Samples responses, and takes new weights in two phases: stage (generation goes on), then commit."""

    async def start(self) -> EngineInfo:
        """Load the model and prove log-probs and entropies on a few tokens.

        Raises:
            EngineRefused: the proof failed, or the library is not the pinned one.
        """
        ...

    @property
    def policy_version(self) -> int: ...

    async def generate(
        self, *, prompt_ids: IntArray, hint_ids: IntArray, num_rollouts: int, sampling: Sampling, seed: int
    ) -> tuple[Rollout, ...]:
        """Sample `num_rollouts` continuations of prompt + hint; rollout i has its own stream derived from `seed`.

        Raises:
            RolloutAborted: `abort` was called meanwhile.
        """
        ...

    async def pause(self) -> None:
        """For a weight sync: finish nothing, start nothing; requests under way are held at a token border."""
        ...

    async def resume(self) -> None:
        """End `pause`, and nothing else: requests that the user froze stay so."""
        ...

    async def freeze(self) -> None:
        """For the user: hold requests at a token border, until `thaw`; a weight sync may come and go meanwhile."""
        ...

    async def thaw(self) -> None:
        """End `freeze`: every request goes on at its next token. Harmless without one."""
        ...

    async def abort(self) -> None:
        """Give up every request under way, frozen ones too; later ones are served, or held where requests are."""
        ...

    async def release(self, memory: EngineMemory) -> None:
        """Give memory back, with all that comes before it; no request may be under way. Twice is once.

        Raises:
            EngineRefused: not among `EngineInfo.can_release`, or a request is under way.
        """
        ...

    async def wake(self, memory: EngineMemory) -> None:
        """Take memory again: first weights, which hold nothing before the next commit, then the KV cache."""
        ...

    async def connect_weights(self, channel: WeightChannel) -> None:
        """Join a weight channel, at the same time as its other ends; an earlier channel is left.

        Raises:
            EngineRefused: a channel that this engine cannot reach.
            ChannelBroken: the others did not come in time.
        """
        ...

    async def stage_weights(self, layout: WeightLayout, policy_version: int) -> None:
        """Receive every bucket beside the live weights and compute own checksums.

        Raises:
            EngineRefused: another model's layout, a version that is not newer, a bucket missing, repeated or out of
                order; the channel is left.
            ChannelBroken: a bucket did not arrive; the channel is left.
        """
        ...

    async def verify_weights(self, manifest: WeightManifest) -> None:
        """Compare the checksums of what is staged with those of what was sent.

        Raises:
            EngineRefused: nothing staged, a checksum differs, or the version is not newer; the old version goes on.
        """
        ...

    async def commit_weights(self, manifest: WeightManifest) -> None:
        """Verify once more and serve the staged weights as `manifest.policy_version`, with an empty prefix cache.

        Raises:
            EngineRefused: as `verify_weights`.
            RunFailed: loading verified weights failed; this engine serves nothing any more.
        """
        ...

    async def discard_staged_weights(self) -> None:
        """Drop what is staged, and what a transfer under way will bring."""
        ...

    async def close(self) -> None: ...
