"""grpo: group-relative advantages, reward minus group mean over the group's standard deviation.

Formula: A_i = (r_i - mean(r)) / (std(r) + epsilon), std unbiased (n - 1), the same on every token of response i.
Source: Shao et al. 2024 (DeepSeekMath, arXiv:2402.03300), as verl computes it: a group of one has mean 0 and std 1.
Equal rewards give exactly 0: sums of float32 values are exact in float64.
"""

from dataclasses import dataclass

import numpy as np

from shaping.checks import FloatArray
from shaping.estimators.base import per_token
from shaping.groups import ScoredGroup
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    epsilon: added to the standard deviation, > 0.
    """

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be > 0, got {self.epsilon}")


def grpo_advantages(rewards: FloatArray, *, epsilon: float = 1e-6) -> FloatArray:
    """Standardised rewards of one group.

    Args:
        rewards: [G] float32, G >= 1.
    Returns:
        [G] float32.
    """
    values = rewards.astype(np.float64)
    if len(values) == 1:
        return (values / (1.0 + epsilon)).astype(np.float32)
    return np.asarray((values - values.mean()) / (values.std(ddof=1) + epsilon), np.float32)


@dataclass(frozen=True, slots=True)
class Grpo:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        return per_token(grpo_advantages(scored.rewards, epsilon=self.config.epsilon), scored.group)


def build(config: Config) -> Grpo:
    return Grpo(config)
