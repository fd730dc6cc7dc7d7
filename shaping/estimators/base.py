"""What an advantage estimator is."""

from typing import Protocol

import numpy as np

from shaping.checks import FloatArray
from shaping.groups import ScoredGroup
from shaping.records import RolloutGroup


class AdvantageEstimator(Protocol):
    """A scored group to base advantages, per rollout [T] float32 (constant over a response unless its file says so)."""

    def advantages(self, scored: ScoredGroup) -> tuple[FloatArray, ...]: ...


def per_token(values: FloatArray, group: RolloutGroup) -> tuple[FloatArray, ...]:
    """Per-rollout numbers [G] repeated over the response tokens of each rollout."""
    return tuple(
        np.full(rollout.num_tokens, value, np.float32) for rollout, value in zip(group.rollouts, values, strict=True)
    )
