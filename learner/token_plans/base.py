"""What a token plan is: per-token weights, clip ranges and penalties from detached signals."""

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal, Protocol

import torch

Variant = Literal["recommended", "parity"]
"""How a plan with a released code that differs from its default behaves; "parity" is as released."""


class Scope(StrEnum):
    """Over which tokens a plan takes its statistics.

    UPDATE: all trained tokens of the optimizer update, over ranks and micro-batches; costs one more forward pass.
    MICRO_BATCH: those of one forward pass of one rank; depends on how the batch was divided.
    """

    UPDATE = "update"
    MICRO_BATCH = "micro_batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSignals:
    """Trained tokens of the plan's scope, each tensor [N] without gradient, float32 but for `keys`.

    The order of tokens means nothing.

    Args:
        policy_logprobs, policy_entropies: of the current policy.
        behavior_logprobs: from the sampler.
        old_logprobs: what the loss takes its ratios against; the behavior log-probs unless they are recomputed.
        advantages: after shaping.
        keys: int64, spread evenly; of the token, the step and the update alone (learner/token_keys.py), for draws.
        clip_low, clip_high: of the policy loss, which clips ratios outside [1 - clip_low, 1 + clip_high].
    """

    policy_logprobs: torch.Tensor
    policy_entropies: torch.Tensor
    behavior_logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    advantages: torch.Tensor
    keys: torch.Tensor
    clip_low: float
    clip_high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWeights:
    """What a plan decided, each tensor [N] without gradient, float32 but for `unclipped`.

    Args:
        weights: factors on the token losses, >= 0.
        clip_low, clip_high: clip ranges of these tokens; None leaves them to the loss.
        unclipped: bool, tokens whose importance ratio the loss must not clip in any way; None: no token.
        penalties: coefficient of |policy - old log-prob| in the token's loss, >= 0; None: no such term.
    """

    weights: torch.Tensor
    clip_low: torch.Tensor | None = None
    clip_high: torch.Tensor | None = None
    unclipped: torch.Tensor | None = None
    penalties: torch.Tensor | None = None

    def part(self, start: int, stop: int) -> "TokenWeights":
        """Those of tokens [start, stop)."""
        rows = {item.name: getattr(self, item.name) for item in fields(self)}
        return TokenWeights(**{name: None if row is None else row[start:stop] for name, row in rows.items()})


class TokenPlan(Protocol):
    """Signals of a scope to weights of the same tokens; permuting the tokens permutes the result. N may be 0."""

    @property
    def scope(self) -> Scope: ...

    def plan(self, signals: TokenSignals) -> TokenWeights: ...


def scope_of(scope: Scope | None, variant: Variant) -> Scope:
    """The scope that a recipe names; otherwise the whole update, or each micro-batch as in the released codes."""
    return scope or (Scope.MICRO_BATCH if variant == "parity" else Scope.UPDATE)


def covariances(signals: TokenSignals) -> torch.Tensor:
    """Each token's share of the covariance of advantage and log-prob: (A - mean A)(log pi - mean log pi).

    Returns:
        [N] float64, so that the order of the tokens does not show in the means.
    Source: Cui et al. 2025 (arXiv:2505.22617), where its mean governs the change of entropy in a step.
    """
    advantages, logprobs = signals.advantages.double(), signals.policy_logprobs.double()
    return (advantages - advantages.mean()) * (logprobs - logprobs.mean())


def count_of(share: float, num_tokens: int) -> int:
    """max(1, floor(share x tokens)). The share is a decimal fraction: 0.29 x 100 counts as 29."""
    return max(1, int(round(share * num_tokens, 6)))


def first_of(values: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` highest of [N] values as [N] bool; of equal ones those that stand first, so that order matters."""
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen[values.sort(descending=True, stable=True).indices[:count]] = True
    return chosen


def draw(candidates: torch.Tensor, count: int, keys: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    """`count` of the candidates, or all where there are fewer, uniformly and without replacement.

    The same tokens are drawn in any order and in any division of the update. Of tokens of one key, which are those of
    responses that are the same, the ones that stand first are drawn first.

    Args:
        candidates: [N] bool.
        keys: [N] int64, see `TokenSignals`; those nearest to the seed's word are drawn.
        seed: >= 0.
    Returns:
        [N] bool.
    """
    count = min(count, int(candidates.sum()))
    if count == 0:
        return torch.zeros_like(candidates)
    # The golden ratio's digits spread neighbouring seeds over all 64-bit words, here as signed ones.
    distances = keys ^ (seed * 0x9E3779B97F4A7C15 % 2**64 - 2**63)
    places = candidates.nonzero().squeeze(1)
    drawn = torch.zeros_like(candidates)
    drawn[places[distances[places].sort(stable=True).indices[:count]]] = True
    return drawn
