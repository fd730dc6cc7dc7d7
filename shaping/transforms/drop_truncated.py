"""drop_truncated: drop a group in which too many responses hit the length limit (reason filtered).

Formula: dropped when truncated / G > max_share. With 0 any truncated response drops its group.
"""

from dataclasses import dataclass

from shaping.groups import Drop, DropReason, ScoredGroup
from shaping.records import StopReason
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    max_share: largest share of truncated responses that a kept group may have, in [0, 1].
    """

    max_share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1:
            raise ValueError(f"max_share must be in [0, 1], got {self.max_share}")


@dataclass(frozen=True, slots=True)
class DropTruncated:
    config: Config

    def transform(self, scored: ScoredGroup) -> ScoredGroup | Drop:
        size = scored.group.group_size
        truncated = sum(rollout.stop_reason is StopReason.LENGTH for rollout in scored.group.rollouts)
        if truncated <= self.config.max_share * size:
            return scored
        return Drop(
            reason=DropReason.FILTERED,
            detail=f"drop_truncated: {truncated} of {size} responses hit the length limit, max_share is "
            f"{self.config.max_share:g}",
        )


def build(config: Config) -> DropTruncated:
    return DropTruncated(config)
