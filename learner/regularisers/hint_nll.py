"""Imitate the hint: loss term gamma x mean negative log-likelihood of hint tokens.

Hint tokens are a reference solution's, not the policy's own, so no policy gradient applies to them. An update without
hints adds nothing.
Source: SEELE (Li et al. 2025), supervised term of the objective. Deviation: the mean is over all hint tokens of the
update, so a hint that several rollouts share counts once per rollout.
"""

from dataclasses import dataclass

from learner.losses.base import LossOutput, mean_metrics, token_mean
from learner.regularisers.base import RegulariserInputs
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`gamma` scales the term."""

    gamma: float = 0.1

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"gamma must be >= 0, got {self.gamma}")


NEEDS = frozenset({Signal.POLICY_LOGPROBS, Signal.SOLUTION_STEPS})


class HintNLL:
    """Negative log-likelihood of hint tokens."""

    def __init__(self, config: Config) -> None:
        self._gamma = config.gamma

    def term(self, inputs: RegulariserInputs) -> LossOutput:
        nll = -inputs.policy_logprobs
        return LossOutput(
            loss=self._gamma * token_mean(nll, inputs.hint_mask, inputs.num_hint_tokens),
            metrics=mean_metrics({"learner_hint_nll_nats": nll}, inputs.hint_mask),
        )


def build(config: Config) -> HintNLL:
    return HintNLL(config)
