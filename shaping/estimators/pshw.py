"""pshw: policy-specific hardness weighting, centred rewards times a weight that is larger the harder the prompt is.

Formula: R_i = +1 if rollout i is correct, else -1; mu = mean(R); A_i = (R_i - mu) (alpha mu + scale), the same on every
token of response i. No standard deviation, no division by length.
Signals: the verdicts; rewards that only pay (format, length) change nothing here.
Source: Confucius3-Math (arXiv:2506.18330): alpha = -0.256, scale 1.256, so that the weight is 1 where every rollout is
correct and 1.512 where none is. Groups with one outcome have advantage 0 and are left out there (`drop_uniform`).
Deviations: none known. A group of one has advantage 0. With alpha 0 and scale 0.5 these are Dr. GRPO's advantages for
rewards 1 and 0, up to rounding; GRPO's they are under no setting, since no standard deviation divides.
"""

import math
from dataclasses import dataclass

import numpy as np

from shaping.checks import BoolArray, FloatArray
from shaping.estimators.base import per_token
from shaping.groups import ScoredGroup
from shaping.signals import Signal

NEEDS = frozenset({Signal.VERDICTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    alpha: slope of the weight over the mean reward; below 0 hard prompts weigh more.
    scale: the weight at mean reward 0; above |alpha|, so that no weight is negative.
    """

    alpha: float = -0.256
    scale: float = 1.256

    def __post_init__(self) -> None:
        if not abs(self.alpha) < self.scale < math.inf:
            raise ValueError(f"scale must be finite and > |alpha|, got {self.scale} and {self.alpha}")


@dataclass(frozen=True, slots=True)
class Pshw:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        return per_token(pshw_advantages(scored.correct, self.config), scored.group)


def pshw_advantages(correct: BoolArray, config: Config) -> FloatArray:
    """[G] bool to [G] float32 advantages; exactly 0 where all are equal."""
    rewards = np.where(correct, 1.0, -1.0)
    mean = rewards.mean()
    return np.asarray((rewards - mean) * (config.alpha * mean + config.scale), np.float32)


def build(config: Config) -> Pshw:
    return Pshw(config)
