"""dr_grpo: reward minus the group's mean, without dividing by the standard deviation.

Formula: A_i = r_i - mean(r), the same on every token of response i.
Source: Liu et al. 2025 (Dr. GRPO, arXiv:2503.20783). Its other half, no division by response length, is the learner's
token mean. A group of one has mean 0, as in verl, so that its reward is kept.
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
    """No options."""


def centred_rewards(rewards: FloatArray) -> FloatArray:
    """[G] float32 rewards to [G] float32 deviations from their mean; exactly 0 where all are equal."""
    if len(rewards) == 1:
        return rewards.copy()
    values = rewards.astype(np.float64)
    return np.asarray(values - values.mean(), np.float32)


@dataclass(frozen=True, slots=True)
class DrGrpo:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        return per_token(centred_rewards(scored.rewards), scored.group)


def build(config: Config) -> DrGrpo:
    return DrGrpo(config)
