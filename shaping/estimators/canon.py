"""canon: each rollout against the other half of its group, the group being halved by entropy or by length.

Formula: the rollouts, sorted by `metric`, are a low half (the first floor(G / 2)) and a high half, with mean rewards
m_low and m_high, 0 of an empty half. With mu = `inter_weight` and a = `asymmetry`, the same on every token of i:

    metric "entropy"   high: A = mu (r - a m_low) + (1 - mu) (r - m_high)
                       low:  A = mu (a r - m_high) + (1 - mu) (r - m_low)
    metric "length"    high: A = mu (a r - m_low) + (1 - mu) (r - m_high)
                       low:  A = mu (r - a m_high) + (1 - mu) (r - m_low)

a < 1 favours the high half by entropy, and short responses by length. mu = 1/2 and a = 1 in a group of even size are
the mean baseline of `dr_grpo`, up to rounding.
Signals: the rewards; token entropies under the sampler (mean over a response, 0 of an empty one), or lengths.
Source: CANON (arXiv:2509.23962) and its released code: mu 1, a 1.
Deviations: ties of the metric are broken by length, then by reward, then by the order of the rollouts (the release says
nothing of ties). Moving mu over training is not in this file; no division by a maximal length is, since the learner
averages over tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shaping.checks import FloatArray
from shaping.estimators.base import per_token
from shaping.groups import ScoredGroup
from shaping.kernels.base import check_choice
from shaping.signals import Signal

NEEDS = frozenset({Signal.RAW_ENTROPIES})

Metric = Literal["entropy", "length"]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    metric: what the group is halved by.
    inter_weight: mu, in [0, 1]: of the comparison with the other half; the rest compares within the own half.
    asymmetry: a, >= 0; 1 favours neither half.
    """

    metric: Metric = "entropy"
    inter_weight: float = 1.0
    asymmetry: float = 1.0

    def __post_init__(self) -> None:
        check_choice("metric", self.metric, Metric)
        if not 0 <= self.inter_weight <= 1:
            raise ValueError(f"inter_weight must be in [0, 1], got {self.inter_weight}")
        if not 0 <= self.asymmetry < math.inf:
            raise ValueError(f"asymmetry must be >= 0 and finite, got {self.asymmetry}")


@dataclass(frozen=True, slots=True)
class Canon:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        rewards, lengths = scored.rewards.astype(np.float64), np.array([r.num_tokens for r in scored.group.rollouts])
        metric = lengths if self.config.metric == "length" else mean_entropies(scored)
        order = np.lexsort((rewards, lengths, metric))
        is_high = np.ones(len(rewards), np.bool_)
        is_high[order[: len(order) // 2]] = False
        return per_token(canon_advantages(rewards, is_high, self.config).astype(np.float32), scored.group)


def mean_entropies(scored: ScoredGroup) -> Values:
    """[G] nats per token."""
    rows = [rollout.entropies for rollout in scored.group.rollouts]
    return np.array([float(np.mean(row, dtype=np.float64)) if len(row) else 0.0 for row in rows])


def canon_advantages(rewards: Values, is_high: NDArray[np.bool_], config: Config) -> Values:
    """[G] rewards to [G] advantages.

    Args:
        is_high: [G], the rollouts of the high half.
    """
    low, high = (float(half.mean()) if len(half) else 0.0 for half in (rewards[~is_high], rewards[is_high]))
    own, other = np.where(is_high, high, low), np.where(is_high, low, high)
    scales_own_reward = is_high if config.metric == "length" else ~is_high
    inter = np.where(scales_own_reward, config.asymmetry * rewards - other, rewards - config.asymmetry * other)
    return np.asarray(config.inter_weight * inter + (1 - config.inter_weight) * (rewards - own))


def build(config: Config) -> Canon:
    return Canon(config)
