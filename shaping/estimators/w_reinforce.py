"""w_reinforce: a fixed advantage for correct and another for wrong rollouts, without a group baseline.

Formula: A_i = `correct_weight` if rollout i is correct, else `wrong_weight`, the same on every token of response i. The
defaults are W-REINFORCE. PSR is {correct_weight: 1} behind the transform `keep_class: {keep: correct}`, NSR the default
behind {keep: wrong}: what is left out is then not in the learner's token mean either.
Signals: the verdicts; rewards that only pay (format, length) change nothing here.
Source: Zhu et al. 2025 (The Surprising Effectiveness of Negative Reinforcement, arXiv:2506.01347), lambda = 0.1.
Deviations: none known.
"""

import math
from dataclasses import dataclass

import numpy as np

from shaping.checks import BoolArray, FloatArray
from shaping.estimators.base import per_token
from shaping.groups import ScoredGroup
from shaping.signals import Signal

NEEDS = frozenset({Signal.VERDICTS})

CONFLICTS = {
    "drop_uniform": "groups that are all wrong or all correct teach here, and it drops them",
}

SIGNAL_IN_EQUAL_GROUPS = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    correct_weight: advantage of a correct rollout, >= 0.
    wrong_weight: advantage of any other, <= 0.
    """

    correct_weight: float = 0.1
    wrong_weight: float = -1.0

    def __post_init__(self) -> None:
        if not 0 <= self.correct_weight < math.inf:
            raise ValueError(f"correct_weight must be >= 0 and finite, got {self.correct_weight}")
        if not -math.inf < self.wrong_weight <= 0:
            raise ValueError(f"wrong_weight must be <= 0 and finite, got {self.wrong_weight}")


@dataclass(frozen=True, slots=True)
class WReinforce:
    config: Config

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]:
        return per_token(weighted(scored.correct, self.config), scored.group)


def weighted(correct: BoolArray, config: Config) -> FloatArray:
    """[G] bool to [G] float32 advantages."""
    return np.where(correct, np.float32(config.correct_weight), np.float32(config.wrong_weight))


def build(config: Config) -> WReinforce:
    return WReinforce(config)
