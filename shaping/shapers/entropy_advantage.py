"""entropy_advantage: adds to each token's advantage a share of its entropy, as a multiplier of that advantage.

Formula: A_t + min(alpha H_t, |A_t| / kappa), that is A_t times 1 + sign(A_t) min(alpha H_t / |A_t|, 1 / kappa); H_t is
the entropy of the policy's next-token distribution before token t. Tokens of advantage 0 keep it. A positive advantage
grows by at most 1 / kappa of itself where the policy was unsure, a negative one shrinks by as much; none turns round.
Signals: raw entropies, measured by the sampler. Another shaper before it changes A_t, and so how much is added.
Source: Cheng et al. 2025 (Reasoning with Exploration, arXiv:2506.14758): alpha 0.4, kappa 2.
Deviations: the entropy is the behaviour policy's, not the learner's: the same in the first update of a synchronous run.
The SIREN repository runs this as a baseline with kappa 1.
"""

import math
from dataclasses import dataclass

import numpy as np

from shaping.checks import FloatArray
from shaping.groups import SegmentedGroup
from shaping.shapers.base import ShaperResult
from shaping.signals import Signal

NEEDS = frozenset({Signal.RAW_ENTROPIES})

IDENTITY = {"kind": "", "options": {"alpha": 0.0}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    alpha: advantage per nat of entropy; 0 adds nothing.
    kappa: at most 1 / kappa of an advantage is added; >= 1, so that none changes its sign.
    """

    alpha: float = 0.4
    kappa: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be >= 0 and finite, got {self.alpha}")
        if not 1 <= self.kappa < math.inf:
            raise ValueError(f"kappa must be >= 1 and finite, got {self.kappa}")


@dataclass(frozen=True, slots=True)
class EntropyAdvantage:
    config: Config

    def multipliers(self, segmented: SegmentedGroup, advantages: tuple[FloatArray, ...]) -> ShaperResult:
        rollouts = segmented.scored.group.rollouts
        rows = zip(rollouts, advantages, strict=True)
        return ShaperResult(multipliers=tuple(factors(rollout.entropies, row, self.config) for rollout, row in rows))


def factors(entropies: FloatArray, advantages: FloatArray, config: Config) -> FloatArray:
    """[T] float32 entropies in nats and advantages to [T] float32 multipliers; 1 where the advantage is 0."""
    size = np.abs(advantages.astype(np.float64))
    # Entropies may be a hair below 0.
    added = np.minimum(config.alpha * np.maximum(entropies.astype(np.float64), 0.0), size / config.kappa)
    share = np.divide(added, size, out=np.zeros_like(size), where=size > 0)
    return np.asarray(1.0 + np.sign(advantages) * share, np.float32)


def build(config: Config) -> EntropyAdvantage:
    return EntropyAdvantage(config)
