"""PPO with separate clip bounds and an optional dual clip.

With rho = exp(policy - old log-prob), per token:

    loss = max(-A rho, -A clip(rho, 1 - clip_low, 1 + clip_high)),  and for A < 0:  min(loss, -A dual_clip)

Where the old log-prob is the sampler's own, rho also holds the train/rollout mismatch.
Source: Schulman et al. 2017 (arXiv:1707.06347); clip-higher: Yu et al. 2025 (DAPO, arXiv:2503.14476); dual clip: Ye et
al. 2020 (arXiv:1912.09729). Deviation: log rho is held in [-20, 20], so that no product of 0 and infinity can arise,
also for tokens that a token plan leaves unclipped.
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
    clip_low, clip_high: ratios outside [1 - clip_low, 1 + clip_high] are clipped.
    dual_clip: above 1; 0 turns it off.
    """

    clip_low: float = 0.2
    clip_high: float = 0.28
    dual_clip: float = 10.0

    def __post_init__(self) -> None:
        check_clip_range(self.clip_low, self.clip_high)
        if self.dual_clip != 0 and self.dual_clip <= 1:
            raise ValueError(f"dual_clip must be 0 (off) or > 1, got {self.dual_clip}")


NEEDS = frozenset({Signal.BEHAVIOR_LOGPROBS, Signal.POLICY_LOGPROBS})


class PPOClip:
    """The clipped surrogate."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def clip_range(self) -> tuple[float, float]:
        return self._config.clip_low, self._config.clip_high

    def loss(self, inputs: LossInputs) -> LossOutput:
        mask, advantages = inputs.loss_mask, inputs.advantages
        ratios = log_ratios(inputs).exp()
        clipped = clipped_ratios(inputs, ratios, self.clip_range)
        plain_losses, clipped_losses = -advantages * ratios, -advantages * clipped
        losses = torch.maximum(plain_losses, clipped_losses)
        is_clipped = clipped_losses > plain_losses
        is_dual = torch.zeros_like(mask)
        if self._config.dual_clip:
            bound = -advantages * self._config.dual_clip
            is_dual = (advantages < 0) & (losses > bound) & ~inputs.unclipped
            losses = torch.where(is_dual, bound, losses)
        metrics = ratio_metrics(
            ratios,
            mask,
            {
                "learner_clip_low_share": is_clipped & (advantages < 0),
                "learner_clip_high_share": is_clipped & (advantages > 0),
                "learner_clip_dual_share": is_dual,
            },
        )
        return LossOutput(loss=token_mean(losses * inputs.weights, mask, inputs.num_valid_tokens), metrics=metrics)


def build(config: Config) -> PPOClip:
    return PPOClip(config)
