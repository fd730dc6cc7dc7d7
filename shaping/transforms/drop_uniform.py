"""drop_uniform: drop a group whose rewards are all equal (reason no_signal).

Under group-relative advantages such a group has no gradient; dropping it before shaping saves the work. A group of one
is kept: its advantage is its reward.
Source: dynamic sampling of DAPO (arXiv:2503.14476), without the re-sampling, which is the rollout plan's business.
"""

from dataclasses import dataclass

from shaping.groups import Drop, DropReason, ScoredGroup
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    tolerance: rewards that differ by at most this much are equal.
    """

    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be >= 0 and finite, got {self.tolerance}")


@dataclass(frozen=True, slots=True)
class DropUniform:
    config: Config

    def transform(self, scored: ScoredGroup) -> ScoredGroup | Drop:
        rewards = scored.rewards
        if len(rewards) == 1 or float(rewards.max() - rewards.min()) > self.config.tolerance:
            return scored
        return Drop(reason=DropReason.NO_SIGNAL, detail=f"all {len(rewards)} rewards are {float(rewards[0]):g}")


def build(config: Config) -> DropUniform:
    return DropUniform(config)
