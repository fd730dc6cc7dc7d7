"""KL-Cov: the tokens whose advantage and log-prob covary most are held near the old policy; nothing is clipped.

With cov = (A - mean A)(log pi - mean log pi) over the N tokens of the scope, the k = max(1, floor(top_share N)) tokens
of highest cov have the loss -A rho + beta |log pi - old log-prob|, all others -A rho. No ratio is clipped,
whatever the loss's ranges are: this plan takes the place of clipping.
It works from the second update of a step on: at the first one, with `run.max_staleness` 0, the drift is 0, or the noise
between sampler and learner (none with `learner.old_logprobs` recompute). So set `learner.mini_batch_groups` below
`rollout.groups_per_step`.
beta = 0 reproduces the loss with its clipping off exactly (and the loss as it is where no ratio leaves its range).
There is no identity: at least one token is held, and clipping is off.
Source: Cui et al. 2025 (arXiv:2505.22617), released code and verl. Needs policy and old log-probs. Variants:
"recommended" takes the whole update, a share of 2e-4 (verl's default, the authors' for 32B) read as a decimal fraction,
and draws by their keys among tokens that tie at the k-th place; "parity" is the authors' code for 7B: each micro-batch,
a share of 2e-3 whose product with N is cut off as it is, and of tokens that tie those that stand first.
"""

from dataclasses import dataclass

import torch

from learner.token_plans.base import (
    Scope,
    TokenSignals,
    TokenWeights,
    Variant,
    count_of,
    covariances,
    draw,
    first_of,
    scope_of,
)
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    top_share: of the tokens, by covariance, which is held; None is 2e-4 under "recommended" and 2e-3 under "parity".
    beta: weight of their drift.
    scope: None is the whole update under "recommended" and each micro-batch under "parity".
    variant: see above.
    """

    top_share: float | None = None
    beta: float = 1.0
    scope: Scope | None = None
    variant: Variant = "recommended"

    def __post_init__(self) -> None:
        if self.top_share is not None and not 0 < self.top_share <= 1:
            raise ValueError(f"top_share must be in (0, 1], got {self.top_share}")
        if self.beta < 0:
            raise ValueError(f"beta must be >= 0, got {self.beta}")


NEEDS = frozenset({Signal.POLICY_LOGPROBS, Signal.BEHAVIOR_LOGPROBS})
CONFLICTS = {
    "clip_cov": "Clip-Cov works beside ratio clipping, which KL-Cov turns off; each stands in the other's place",
}


class KLCov:
    """A penalty on the tokens of highest covariance, and clipping off for all."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def scope(self) -> Scope:
        return scope_of(self._config.scope, self._config.variant)

    def plan(self, signals: TokenSignals) -> TokenWeights:
        weights = torch.ones_like(signals.advantages)
        unclipped = torch.ones_like(weights, dtype=torch.bool)
        penalties = self._config.beta * self._selected(signals).to(weights.dtype)
        return TokenWeights(weights=weights, unclipped=unclipped, penalties=penalties)

    def _selected(self, signals: TokenSignals) -> torch.Tensor:
        found = covariances(signals)
        if len(found) == 0:
            return torch.zeros_like(found, dtype=torch.bool)
        is_parity, share = self._config.variant == "parity", self._config.top_share
        if is_parity:
            return first_of(found, max(1, int((2e-3 if share is None else share) * len(found))))
        count = count_of(2e-4 if share is None else share, len(found))
        last = found.topk(count).values[-1]
        above = found > last
        return above | draw(found == last, count - int(above.sum()), signals.keys)


def build(config: Config) -> KLCov:
    return KLCov(config)
