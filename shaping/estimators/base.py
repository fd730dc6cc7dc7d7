"""What an advantage estimator is."""

from typing import Protocol

from shaping.checks import FloatArray
from shaping.groups import ScoredGroup


class AdvantageEstimator(Protocol):
    """A scored group to base advantages, per rollout [T] float32 (constant over a response unless its file says so)."""

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]: ...
