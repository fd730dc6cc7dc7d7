"""rloo: reward minus the mean reward of the other rollouts of the group (leave one out).

Formula: A_i = r_i - (sum(r) - r_i) / (G - 1), the same on every token of response i; equal to the mean-centred reward
times G / (G - 1).
Source: Kool et al. 2019; Ahmadian et al. 2024 (RLOO, arXiv:2402.14740). A group of one has no others: baseline 0, as
in verl.
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


def leave_one_out_advantages(rewards: FloatArray) -> FloatArray:
    """[G] float32 rewards to [G] float32 advantages; exactly 0 where all rewards are equal."""
    if len(rewards) == 1:
        return rewards.copy()
    values = rewards.astype(np.float64)
    others = (values.sum() - values) / (len(values) - 1)
    return np.asarray(values - others, np.float32)


@dataclass(frozen=True, slots=True)
class Rloo:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        return per_token(leave_one_out_advantages(scored.rewards), scored.group)


def build(config: Config) -> Rloo:
    return Rloo(config)
