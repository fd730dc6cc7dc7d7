"""Imitate the hint: loss term gamma x negative log-likelihood of hint tokens, once per distinct hint of a group.

Hint tokens are a reference solution's, not the policy's own, so no policy gradient applies to them. Samples of a group
that share a hint carry it once together: each of k weighs 1 / k, in whatever micro-batches they lie. `reduction`
"mean" divides the sum by the hint tokens of the update, each hint counted once, "sum" by its trained tokens, as the
policy loss does. An update without hints adds nothing. gamma = 0 is the loss without this term.
Source: SEELE (Li et al. 2025, arXiv:2509.06923), supervised term of the objective, where gamma is 0.001; it prints
gamma x pi(hint | prompt), describes a supervised loss, and does not say which mean: both are options. Needs prompts
with solution steps and the policy log-probs. Deviations: log-likelihood as described, not the printed probability; two
groups of one prompt in an update count their hints apart; hints of which one is the beginning of another are two.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from learner.losses.base import LossOutput, token_mean
from learner.regularisers.base import RegulariserInputs
from shaping.metrics import Mean
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    gamma: weight of the term.
    reduction: what the sum is divided by, see above.
    """

    gamma: float = 0.001
    reduction: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"gamma must be >= 0, got {self.gamma}")


NEEDS = frozenset({Signal.POLICY_LOGPROBS, Signal.SOLUTION_STEPS})
IDENTITY = {"kind": "", "options": {"gamma": 0.0}}


class HintNLL:
    """Negative log-likelihood of hint tokens."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def term(self, inputs: RegulariserInputs) -> LossOutput:
        mask, is_mean = inputs.hint_mask, self._config.reduction == "mean"
        nll = torch.where(mask, -inputs.policy_logprobs, 0.0) * inputs.hint_weights
        divisor = inputs.num_hint_tokens if is_mean else inputs.num_valid_tokens
        total, number = torch.stack((nll.detach(), inputs.hint_weights)).double().sum(1).tolist()
        return LossOutput(
            loss=self._config.gamma * token_mean(nll, mask, divisor),
            metrics={"learner_hint_nll_nats": Mean(total, number)},
        )


def build(config: Config) -> HintNLL:
    return HintNLL(config)
