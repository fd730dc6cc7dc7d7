"""What a token plan is: per-token weights and clip ranges from detached signals."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import torch


class Scope(StrEnum):
    """Over which tokens a plan takes its statistics.

    UPDATE: all trained tokens of the optimizer update, over ranks and micro-batches; costs one more forward pass.
    MICRO_BATCH: those of one forward pass of one rank; depends on how the batch was divided.
    """

    UPDATE = "update"
    MICRO_BATCH = "micro_batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSignals:
    """Trained tokens of the plan's scope, each tensor [N] float32 without gradient; the order means nothing.

    Args:
        policy_logprobs, policy_entropies: of the current policy.
        behavior_logprobs: from the sampler.
        advantages: after shaping.
    """

    policy_logprobs: torch.Tensor
    policy_entropies: torch.Tensor
    behavior_logprobs: torch.Tensor
    advantages: torch.Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeights:
    """What a plan decided, each tensor [N] float32 without gradient.

    Args:
        weights: factors on the token losses, >= 0.
        clip_low, clip_high: clip ranges of these tokens; None leaves them to the loss.
    """

    weights: torch.Tensor
    clip_low: torch.Tensor | None = None
    clip_high: torch.Tensor | None = None

    def part(self, start: int, stop: int) -> "TokenWeights":
        """Those of tokens [start, stop)."""
        return TokenWeights(
            weights=self.weights[start:stop],
            clip_low=None if self.clip_low is None else self.clip_low[start:stop],
            clip_high=None if self.clip_high is None else self.clip_high[start:stop],
        )


class TokenPlan(Protocol):
    """Signals of a scope to weights of the same tokens; permuting the tokens permutes the result. N may be 0."""

    @property
    def scope(self) -> Scope: ...

    def plan(self, signals: TokenSignals) -> TokenWeights: ...
