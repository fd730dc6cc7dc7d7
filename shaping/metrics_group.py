"""Numbers of one group for dashboards and the live view; merge them over groups with `merge_metrics`.

Names are `area_thing_unit`. A share is a Mean whose count is its denominator, so that merging weighs it rightly; what
is not defined for a group (an overlap without pairs, a kept share of no mass) is a mean over nothing and has no value.
"""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np

from shaping.groups import (
    DropReason,
    ScoredGroup,
    Segment,
    SegmentClass,
    SegmentedGroup,
    ShapedGroup,
    Verdict,
    VerdictStatus,
)
from shaping.metrics import Max, Mean, Metric, Sum
from shaping.records import StopReason


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
    rollouts = segmented.scored.group.rollouts
    pairs = list(zip(rollouts, segmented.thresholds, strict=True))
    num_tokens = segmented.scored.group.num_response_tokens
    low = sum(int((rollout.entropies <= threshold).sum()) for rollout, threshold in pairs)
    ties = sum(int((rollout.entropies == threshold).sum()) for rollout, threshold in pairs)
    thresholds = [float(threshold) for rollout, threshold in pairs if rollout.num_tokens]
    segments = [segment for row in segmented.segments for segment in row]
    covered = sum(segment.num_tokens for segment in segments)
    metrics: dict[str, Metric] = {
        "segments_low_tokens_share": Mean(low, num_tokens),
        "segments_tie_tokens_share": Mean(ties, num_tokens),
        "segments_covered_tokens_share": Mean(covered, num_tokens),
        "segments_threshold_nats": Mean(sum(thresholds), len(thresholds)),
        "segments_length_tokens": Mean(covered, len(segments)),
    }
    for kind in SegmentClass:
        of_class = [segment.num_tokens for segment in segments if segment.segment_class is kind]
        metrics[f"segments_{kind}_count"] = Sum(len(of_class))
        metrics[f"segments_{kind}_tokens"] = Sum(sum(of_class))
    return metrics | _overlaps(segmented)


def _overlaps(segmented: SegmentedGroup) -> dict[str, Metric]:
    """Mean over ordered pairs (i, j), i != j, of the share of i's segment tokens whose strings j has too.

    Per pair of classes (less.md section 2: O_CC, O_WW, O_CW, O_WC). Rollouts without segments give no pair.
    """
    correct = segmented.scored.correct
    sizes = {True: int(correct.sum()), False: int((~correct).sum())}
    names = {True: "correct", False: "incorrect"}
    counts: dict[bool, Callable[[Segment], int]] = {
        True: lambda segment: segment.num_correct,
        False: lambda segment: segment.num_incorrect,
    }
    metrics: dict[str, Metric] = {}
    for own in (True, False):
        rows = [row for row, flag in zip(segmented.segments, correct, strict=True) if bool(flag) is own and row]
        for other in (True, False):
            others = sizes[other] - (own is other)
            total = 0.0
            for row in rows:
                shared = sum(s.num_tokens * (counts[other](s) - (own is other)) for s in row)
                total += shared / sum(s.num_tokens for s in row)
            metrics[f"segments_overlap_{names[own]}_{names[other]}_share"] = Mean(total, len(rows) * others)
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
