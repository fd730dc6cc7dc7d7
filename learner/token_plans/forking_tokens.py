"""Train only the forking tokens: the share of tokens with the highest current entropy ("80/20").

k = max(1, ceil(top_share N)); tokens whose entropy is at least the k-th highest are selected. With `mean_over`
"selected" they weigh N / selected, so that the loss is the mean over selected tokens; with "all" they weigh 1.
Source: Wang et al. 2025 (arXiv:2506.01939) and its released code. Deviations: the default scope is the whole update
(the release takes the top share of each micro-batch); tokens that tie with the k-th are all selected (the release
breaks ties by position).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from learner.token_plans.base import Scope, TokenSignals, TokenWeights
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`top_share` of the tokens is trained."""

    top_share: float = 0.2
    scope: Scope = Scope.UPDATE
    mean_over: Literal["selected", "all"] = "selected"

    def __post_init__(self) -> None:
        if not 0 < self.top_share <= 1:
            raise ValueError(f"top_share must be in (0, 1], got {self.top_share}")


NEEDS = frozenset({Signal.POLICY_ENTROPIES})
CONFLICTS = {
    "less": "80/20 trains only tokens of high entropy and LESS changes only advantages of tokens of low entropy, "
    "so LESS would do next to nothing",
}


class ForkingTokens:
    """Weight above 0 for the tokens of highest entropy, 0 for the rest."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def scope(self) -> Scope:
        return self._config.scope

    def plan(self, signals: TokenSignals) -> TokenWeights:
        entropies = signals.policy_entropies
        num_tokens = len(entropies)
        if num_tokens == 0:
            return TokenWeights(weights=torch.zeros_like(entropies))
        # The share is a decimal fraction: 0.2 * 10 must count as 2, not as 2.0000000000000004 rounded up.
        num_wanted = max(1, math.ceil(round(self._config.top_share * num_tokens, 6)))
        threshold = entropies.topk(num_wanted).values[-1]
        selected = (entropies >= threshold).to(entropies.dtype)
        scale = num_tokens / selected.sum() if self._config.mean_over == "selected" else 1.0
        return TokenWeights(weights=selected * scale)


def build(config: Config) -> ForkingTokens:
    return ForkingTokens(config)
