"""ngrpo: GRPO with virtual rewards of the best rollout, so that a group that is all wrong teaches too.

Formula: A_i = (r_i - mean') / (std' + epsilon), the same on every token of response i; mean' and std' (unbiased) are of
the group's rewards and `num_virtual` rewards of `max_reward` beside them, which no rollout has.
Signals: the rewards.
Source: NGRPO (arXiv:2509.18851) and its released code: one virtual reward of 1; all-correct groups have advantage 0 and
are dropped (`shaping.drop_without_signal`), all-wrong ones are kept; clip range 0.16 / 0.24, no KL term.
Deviations: none known. A group of one is no exception, since its virtual reward stands beside it.
"""

import math
from dataclasses import dataclass

import numpy as np

from shaping.checks import FloatArray
from shaping.estimators.base import per_token
from shaping.estimators.grpo import grpo_advantages
from shaping.groups import ScoredGroup
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()

CONFLICTS = {
    "drop_uniform": "groups that are all wrong teach here, and it drops them; shaping.drop_without_signal drops the "
    "all-correct ones alone",
}

IDENTITY = {"kind": "grpo", "options": {"num_virtual": 0}}

SIGNAL_IN_EQUAL_GROUPS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    num_virtual: virtual rewards; 0 is GRPO.
    max_reward: each of them, the most that a rollout can earn.
    epsilon: added to the standard deviation, > 0.
    """

    num_virtual: int = 1
    max_reward: float = 1.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.num_virtual < 0:
            raise ValueError(f"num_virtual must be >= 0, got {self.num_virtual}")
        if not math.isfinite(self.max_reward):
            raise ValueError(f"max_reward must be finite, got {self.max_reward}")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be > 0, got {self.epsilon}")


@dataclass(frozen=True, slots=True)
class Ngrpo:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        return per_token(ngrpo_advantages(scored.rewards, self.config), scored.group)


def ngrpo_advantages(rewards: FloatArray, config: Config) -> FloatArray:
    """[G] float32 rewards to [G] float32 advantages, G >= 1; exactly 0 where all are `max_reward`."""
    virtual = np.full(config.num_virtual, config.max_reward, np.float32)
    return grpo_advantages(np.concatenate([rewards, virtual]), epsilon=config.epsilon)[: len(rewards)]


def build(config: Config) -> Ngrpo:
    return Ngrpo(config)
