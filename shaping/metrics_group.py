"""Numbers of one group for dashboards and the live view; merge them over groups with `merge_metrics`.

Names are `area_thing_unit`. A share is a Mean whose count is its denominator, so that merging weighs it rightly; what
is not defined for a group (an overlap without pairs, a kept share of no mass) is a mean over nothing and has no value.
"""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from shaping.groups import DropReason, ScoredGroup, SegmentedGroup, ShapedGroup, Verdict, VerdictStatus
from shaping.metrics import Max, Mean, Metric, Sum
from shaping.records import StopReason
from shaping.segment_counts import count_segments
from shaping.support import SegmentClass


def verdict_metrics(verdicts: Iterable[Verdict]) -> dict[str, Metric]:
    """Rollouts per verdict status, those without a verdict included."""
    counts = Counter(verdict.status for verdict in verdicts)
    return {f"verdict_{status}_rollouts": Sum(counts[status]) for status in VerdictStatus}


def score_metrics(scored: ScoredGroup) -> dict[str, Metric]:
    """Rewards, accuracy, lengths and token entropy of the rollouts that were scored."""
    size = scored.group.group_size
    num_correct = int(scored.correct.sum())
    lengths = [rollout.num_tokens for rollout in scored.group.rollouts]
    truncated = sum(rollout.stop_reason is StopReason.LENGTH for rollout in scored.group.rollouts)
    entropy = sum(float(rollout.entropies.sum(dtype=np.float64)) for rollout in scored.group.rollouts)
    metrics: dict[str, Metric] = {
        "reward_total_value": Mean(float(scored.rewards.sum(dtype=np.float64)), size),
        "reward_correct_share": Mean(num_correct, size),
        "groups_all_correct_count": Sum(float(num_correct == size)),
        "groups_all_incorrect_count": Sum(float(num_correct == 0)),
        "groups_mixed_count": Sum(float(0 < num_correct < size)),
        "rollout_response_tokens": Mean(sum(lengths), size),
        "rollout_response_max_tokens": Max(max(lengths)),
        "rollout_truncated_share": Mean(truncated, size),
        "rollout_entropy_nats": Mean(entropy, sum(lengths)),
    }
    for name, part in scored.reward_parts.items():
        metrics[f"reward_{name}_value"] = Mean(float(part.sum(dtype=np.float64)), size)
    return metrics


def segment_metrics(segmented: SegmentedGroup) -> dict[str, Metric]:
    """Low-entropy share, ties at the threshold, segments and their tokens per class, overlap between classes."""
    counts = count_segments(segmented.arrays, segmented.support)
    thresholds = segmented.thresholds[np.diff(segmented.arrays.offsets) > 0]
    covered = sum(counts.num_segment_tokens.values())
    metrics: dict[str, Metric] = {
        "segments_low_tokens_share": Mean(counts.num_low, counts.num_tokens),
        "segments_tie_tokens_share": Mean(counts.num_ties, counts.num_tokens),
        "segments_covered_tokens_share": Mean(covered, counts.num_tokens),
        "segments_threshold_nats": Mean(float(thresholds.sum(dtype=np.float64)), len(thresholds)),
        "segments_length_tokens": Mean(covered, sum(counts.num_segments.values())),
    }
    for kind in SegmentClass:
        metrics[f"segments_{kind}_count"] = Sum(counts.num_segments[kind])
        metrics[f"segments_{kind}_tokens"] = Sum(counts.num_segment_tokens[kind])
    overlaps = {
        "correct_correct": counts.overlap_cc,
        "correct_incorrect": counts.overlap_cw,
        "incorrect_correct": counts.overlap_wc,
        "incorrect_incorrect": counts.overlap_ww,
    }
    for name, overlap in overlaps.items():
        metrics[f"segments_overlap_{name}_share"] = Mean(overlap.total, overlap.num_pairs)
    return metrics


def advantage_metrics(shaped: ShapedGroup) -> dict[str, Metric]:
    """Advantage mass before and after shaping."""
    base = np.concatenate(shaped.base_advantages).astype(np.float64)
    after = np.concatenate(shaped.advantages).astype(np.float64)
    mass = float(np.abs(base).sum())
    return {
        "advantage_base_abs_value": Mean(mass, len(base)),
        "advantage_shaped_abs_value": Mean(float(np.abs(after).sum()), len(after)),
        "advantage_kept_mass_share": Mean(float(np.abs(after).sum()), mass),
        "advantage_net_mass_share": Mean(float(after.sum()), mass),
        "groups_without_signal_count": Sum(float(not after.any())),
    }


def outcome_metrics(reason: DropReason | None) -> dict[str, Metric]:
    """What became of a group: trained, or dropped for a reason; every counter is there, so that a zero is a zero."""
    metrics: dict[str, Metric] = {"groups_trained_count": Sum(float(reason is None))}
    return metrics | {f"groups_dropped_{each}_count": Sum(float(each is reason)) for each in DropReason}
