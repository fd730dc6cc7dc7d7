"""Clip-Cov: a few tokens whose advantage and log-prob covary strongly are left out of the loss, so that entropy lasts.

With cov = (A - mean A)(log pi - mean log pi) over the N tokens of the scope, the candidates are tokens with
lower < cov < upper whose ratio the loss has not clipped already. k = min(max(1, floor(share N)), candidates) of them
are drawn uniformly without replacement; their loss is multiplied by 0. The loss stays a mean over all trained tokens.
lower = upper leaves no candidates and reproduces the loss exactly; no share does.
Source: Cui et al. 2025 (arXiv:2505.22617), released code and verl; defaults as in verl (the authors' scripts also open
the loss's clip range to 1/1). Needs policy and old log-probs. Variants: "recommended" takes the whole update and reads
the share as a decimal fraction; "parity" is the release: each micro-batch, the share's product with N cut off as it is.
Deviations of both: the draw follows from `seed` and the tokens' keys instead of a generator's state, so it is the same
after a resume and in any order; a dual clip of the loss stays on (the release has none: dual_clip 0).
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
    scope_of,
)
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    share: of all tokens, which is drawn from the candidates.
    lower, upper: covariances between which a token is a candidate.
    scope: None is the whole update under "recommended" and each micro-batch under "parity".
    seed: another one draws others.
    variant: see above.
    """

    share: float = 2e-4
    lower: float = 1.0
    upper: float = 5.0
    scope: Scope | None = None
    seed: int = 0
    variant: Variant = "recommended"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        if self.lower > self.upper:
            raise ValueError(f"lower must be <= upper, got {self.lower} and {self.upper}")
        if self.seed < 0:
            raise ValueError(f"seed must be >= 0, got {self.seed}")


NEEDS = frozenset({Signal.POLICY_LOGPROBS, Signal.BEHAVIOR_LOGPROBS})
IDENTITY = {"kind": "", "options": {"lower": 1.0, "upper": 1.0}}


class ClipCov:
    """Weight 0 for the tokens that were drawn, 1 for the rest."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def scope(self) -> Scope:
        return scope_of(self._config.scope, self._config.variant)

    def plan(self, signals: TokenSignals) -> TokenWeights:
        found = covariances(signals)
        candidates = (found > self._config.lower) & (found < self._config.upper) & ~_is_clipped(signals)
        share, is_parity = self._config.share, self._config.variant == "parity"
        count = max(1, int(share * len(found))) if is_parity else count_of(share, len(found))
        dropped = draw(candidates, count, signals.keys, seed=self._config.seed)
        return TokenWeights(weights=(~dropped).to(signals.advantages.dtype))


def _is_clipped(signals: TokenSignals) -> torch.Tensor:
    ratios = (signals.policy_logprobs - signals.old_logprobs).exp()
    rises = (signals.advantages > 0) & (ratios > 1 + signals.clip_high)
    falls = (signals.advantages < 0) & (ratios < 1 - signals.clip_low)
    return rises | falls


def build(config: Config) -> ClipCov:
    return ClipCov(config)
