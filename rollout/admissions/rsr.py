"""rsr: recent sample recovery: more groups start than a step needs, and those kept beyond it open the next step.

For runs that drop groups (drop_uniform): a step need not wait for one replacement after another, and nothing that was
sampled for it is thrown away. It pays where over_sampling is about 1 / the share that is kept (groups_keep_share); far
below, a step waits for the slowest group of several rounds, and `exact` is faster.

Formula: with m groups missing, ceil(over_sampling * m) start. Those kept beyond the B of the step come first in the
next one, in order of admission, without importance correction for being a version older.

Age: the groups of a step take B slots, and at most ceil((over_sampling - 1) * B) <= max_age * B are left over, so that
a group is at most max_age versions older than with `exact`: none is ever dropped for its age. The bound is proved in
rollout/buffer.py.

Source: Confucius3-Math, arXiv:2506.18330, RSR. The paper over-samples in rounds and recomputes nothing but what its
PPO step does anyway; for the same loss set learner.old_logprobs to recompute, so that the ratio of every group, carried
over or not, begins at 1 and holds no correction. With "behavior" the ratio of a carried group is taken against the
version that sampled it, as PPO has it.
Deviations: the paper gives no factor and keeps whatever a whole round overshoots; here a round is over_sampling times
what is missing. With run.max_staleness above 0 there are no rounds: a dropped group is replaced at once.
"""

import math
from dataclasses import dataclass

from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()
IDENTITY = {"kind": "exact", "options": {"over_sampling": 1.0}}

# 10 * (1.1 - 1) is a little more than 1 in binary.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    over_sampling: groups that start for each that is missing, rounded up to whole groups.
    max_age: versions that a group may be older than under `exact`; over_sampling is at most 1 + max_age.
    max_buffered_groups: shaped groups that may wait for the learner; 0 means what max_staleness and over_sampling
        allow.
    """

    over_sampling: float = 1.5
    max_age: int = 1
    max_buffered_groups: int = 0

    def __post_init__(self) -> None:
        for name in ("max_age", "max_buffered_groups"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}")
        if not 1 <= self.over_sampling <= 1 + self.max_age:
            raise ValueError(
                f"over_sampling must be in [1, 1 + max_age], got {self.over_sampling:g} and max_age {self.max_age}: "
                "what is left over must fit into the steps that it may wait for; raise max_age"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentSampleRecovery:
    """An Admission that over-samples by a factor."""

    over_sampling: float
    max_buffered_groups: int = 0

    def surplus(self, missing: int) -> int:
        return math.ceil(missing * (self.over_sampling - 1) - _ROUNDING)


def build(config: Config) -> RecentSampleRecovery:
    return RecentSampleRecovery(over_sampling=config.over_sampling, max_buffered_groups=config.max_buffered_groups)
