"""Low-entropy segments of a scored group, and who has them (LESS hop 5).

Flow: scored group -> flat arrays -> kernels -> segmented group. Knows no advantages; what a multiplier does with a
class is in `shaping/less.py`.
"""

import numpy as np

from shaping.groups import ScoredGroup, SegmentedGroup
from shaping.kernels.base import GroupArrays, SegmentRule
from shaping.kernels.choice import load_kernels


def flat_arrays(scored: ScoredGroup) -> GroupArrays:
    """Token ids, entropies and verdicts of a group as its kernels read them, in the order of its rollouts."""
    rollouts = scored.group.rollouts
    offsets = np.zeros(len(rollouts) + 1, np.int64)
    np.cumsum([rollout.num_tokens for rollout in rollouts], out=offsets[1:])
    return GroupArrays(
        tokens=np.concatenate([rollout.response_ids for rollout in rollouts]),
        entropies=np.concatenate([rollout.entropies for rollout in rollouts]),
        offsets=offsets,
        correct=scored.correct,
    )


def segment_group(scored: ScoredGroup, rule: SegmentRule) -> SegmentedGroup:
    """Thresholds, segments and their classes. Rows follow the rollouts; their order never changes a number."""
    arrays = flat_arrays(scored)
    token_support = np.empty(len(arrays.tokens), np.int32)
    ((_, support),) = load_kernels().find_support([arrays], rule, token_support)
    return SegmentedGroup(scored=scored, arrays=arrays, rule=rule, support=support)
