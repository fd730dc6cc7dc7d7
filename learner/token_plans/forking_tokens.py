"""Train only the forking tokens: the share of tokens with the highest current entropy ("80/20").

k = max(1, ceil(top_share N)); tokens whose entropy is at least the k-th highest are selected. With `mean_over`
"selected" they weigh N / selected, so that the loss is the mean over selected tokens; with "all" they weigh 1.
The mean over selected tokens is that of losses which average over tokens; one that averages over responses first keeps
the average weight at 1 all the same. top_share = 1 is the loss itself.
Source: Wang et al. 2025 (arXiv:2506.01939) and its released code. Needs current token entropies. Variants:
"recommended" takes the whole update and selects all tokens that tie with the k-th; "parity" is the release: each
micro-batch, with k = max(1, floor(top_share N + 0.9999)), and of tokens that tie those that stand first. Deviation of
both: micro-batches count by their tokens (the release averages over them).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from learner.token_plans.base import Scope, TokenSignals, TokenWeights, Variant, first_of, scope_of
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    top_share: of the tokens, by entropy, which is trained.
    scope: None is the whole update under "recommended" and each micro-batch under "parity".
    mean_over: what the loss is a mean over: the selected tokens, or all.
    variant: see above.
    """

    top_share: float = 0.2
    scope: Scope | None = None
    mean_over: Literal["selected", "all"] = "selected"
    variant: Variant = "recommended"

    def __post_init__(self) -> None:
        if not 0 < self.top_share <= 1:
            raise ValueError(f"top_share must be in (0, 1], got {self.top_share}")


NEEDS = frozenset({Signal.POLICY_ENTROPIES})
IDENTITY = {"kind": "", "options": {"top_share": 1.0}}
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
        return scope_of(self._config.scope, self._config.variant)

    def plan(self, signals: TokenSignals) -> TokenWeights:
        entropies = signals.policy_entropies
        num_tokens = len(entropies)
        if num_tokens == 0:
            return TokenWeights(weights=torch.zeros_like(entropies))
        selected = self._selected(entropies).to(entropies.dtype)
        scale = num_tokens / selected.sum() if self._config.mean_over == "selected" else 1.0
        return TokenWeights(weights=selected * scale)

    def _selected(self, entropies: torch.Tensor) -> torch.Tensor:
        num_tokens = len(entropies)
        if self._config.variant == "parity":
            return first_of(entropies, max(1, int(self._config.top_share * num_tokens + 0.9999)))
        # The share is a decimal fraction: 0.2 * 15 must count as 3, not as 3.0000000000000004 rounded up.
        num_wanted = max(1, math.ceil(round(self._config.top_share * num_tokens, 6)))
        return entropies >= entropies.topk(num_wanted).values[-1]


def build(config: Config) -> ForkingTokens:
    return ForkingTokens(config)
