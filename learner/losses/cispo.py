"""CISPO: REINFORCE with bounded importance weights, so that no token loses its gradient to clipping.

With rho = exp(policy - old log-prob), per token, and the mean over all trained tokens:

    loss = -sg(clip(rho, 1 - clip_low, 1 + clip_high)) A log pi

clip_low 1 bounds nothing below. The value is no surrogate of the gain; only its gradient means something. Where rho = 1
that is the gradient of ppo_clip.
Source: MiniMax 2025 (MiniMax-M1, arXiv:2506.13585), which sets no lower bound and does not print its upper one; an
upper bound of 5 is that of Khatri et al. 2025 (ScaleRL, arXiv:2510.13786). Needs the old and the policy log-probs.
Deviations: log rho is held in [-20, 20], for tokens that a token plan leaves unclipped; the paper's second form, which
also masks tokens, is left out.
"""

from dataclasses import dataclass

import torch

from learner.losses.base import (
    LossInputs,
    LossOutput,
    check_clip_range,
    clipped_ratios,
    log_ratios,
    ratio_metrics,
    token_mean,
)
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    clip_low, clip_high: weights stay within [1 - clip_low, 1 + clip_high].
    """

    clip_low: float = 1.0
    clip_high: float = 4.0

    def __post_init__(self) -> None:
        check_clip_range(self.clip_low, self.clip_high)


NEEDS = frozenset({Signal.BEHAVIOR_LOGPROBS, Signal.POLICY_LOGPROBS})
CONFLICTS = {
    "clip_cov": "Clip-Cov takes away gradients beside those that clipping takes away; CISPO keeps that of every token",
    "kl_cov": "KL-Cov takes the place of clipping the ratio in the surrogate -A rho, which CISPO does not have",
}


class CISPO:
    """Log-probs weighted by advantage and bounded ratio."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def clip_range(self) -> tuple[float, float]:
        return self._config.clip_low, self._config.clip_high

    def loss(self, inputs: LossInputs) -> LossOutput:
        mask = inputs.loss_mask
        ratios = log_ratios(inputs).exp().detach()
        bounded = clipped_ratios(inputs, ratios, self.clip_range)
        losses = -bounded * inputs.advantages * torch.where(mask, inputs.policy_logprobs, 0.0) * inputs.weights
        metrics = ratio_metrics(
            ratios,
            mask,
            {"learner_clip_low_share": bounded > ratios, "learner_clip_high_share": bounded < ratios},
        )
        return LossOutput(loss=token_mean(losses, mask, inputs.num_valid_tokens), metrics=metrics)


def build(config: Config) -> CISPO:
    return CISPO(config)
