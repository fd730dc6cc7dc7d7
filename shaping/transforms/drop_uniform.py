"""drop_uniform: drop a group whose rewards, or outcomes, are all equal (reason no_signal).

Under group-relative advantages a group of equal rewards has no gradient; dropping it before shaping saves the work.
With `of: verdicts` a group is dropped where all its rollouts are correct or none is, whatever else its rewards hold
(`overlong` takes from some of them). A group of one is kept: its advantage is its reward.
Signals: the verdicts, with `of: verdicts`.
Source: dynamic sampling of DAPO (arXiv:2503.14476), which goes by the outcomes, without the re-sampling, which is
the business of `run.admission`.
"""

from dataclasses import dataclass
from typing import Literal

from shaping.groups import Drop, DropReason, ScoredGroup
from shaping.kernels.base import check_choice
from shaping.signals import Signal

NEEDS = frozenset({Signal.VERDICTS})

Of = Literal["rewards", "verdicts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    tolerance: rewards that differ by at most this much are equal.
    of: what must differ in a group that is kept.
    """

    tolerance: float = 0.0
    of: Of = "rewards"

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be >= 0 and finite, got {self.tolerance}")
        check_choice("of", self.of, Of)


@dataclass(frozen=True, slots=True)
class DropUniform:
    config: Config

    def transform(self, scored: ScoredGroup) -> ScoredGroup | Drop:
        found = _one_outcome(scored) if self.config.of == "verdicts" else _one_reward(scored, self.config.tolerance)
        if len(scored.rewards) == 1 or not found:
            return scored
        return Drop(reason=DropReason.NO_SIGNAL, detail=found)


def _one_outcome(scored: ScoredGroup) -> str:
    """What all rollouts are, as a line for a person; "" where they differ."""
    correct = scored.correct
    if correct.any() and not correct.all():
        return ""
    return f"all {len(correct)} rollouts are {'correct' if correct.all() else 'wrong'}"


def _one_reward(scored: ScoredGroup, tolerance: float) -> str:
    rewards = scored.rewards
    if float(rewards.max() - rewards.min()) > tolerance:
        return ""
    return f"all {len(rewards)} rewards are {float(rewards[0]):g}"


def build(config: Config) -> DropUniform:
    return DropUniform(config)
