"""Numbers of one group for dashboards and the live view; merge them over groups with `merge_metrics`.

Names are `area_thing_unit`. A share is a Mean whose count is its denominator, so that merging weighs it rightly; what
is not defined for a group (an overlap without pairs, a kept share of no mass) is a mean over nothing and has no value.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shaping import histograms
from shaping.checks import FloatArray, IntArray
from shaping.groups import DropReason, ScoredGroup, SegmentedGroup, ShapedGroup, Verdict, VerdictStatus
from shaping.histograms import Histogram
from shaping.metrics import Max, Mean, Metric, Spread, Sum
from shaping.records import StopReason
from shaping.segment_counts import count_segments
from shaping.support import SEGMENT_CLASSES

OUTSIDE = "outside"
"""Class of a token in no low-entropy segment, beside the classes of segments."""


def verdict_metrics(verdicts: Iterable[Verdict]) -> dict[str, Metric]:
    """Rollouts per verdict status, those without a verdict included."""
    counts = Counter(verdict.status for verdict in verdicts)
    return {f"verdict_{status}_rollouts": Sum(counts[status]) for status in VerdictStatus}


def score_metrics(scored: ScoredGroup) -> dict[str, Metric]:
    """Rewards, accuracy, lengths, ends and token entropy of the rollouts that were scored."""
    size, correct = scored.group.group_size, scored.correct
    num_correct = int(correct.sum())
    lengths = [rollout.num_tokens for rollout in scored.group.rollouts]
    stops = Counter(rollout.stop_reason for rollout in scored.group.rollouts)
    entropy = sum(float(rollout.entropies.sum(dtype=np.float64)) for rollout in scored.group.rollouts)
    metrics: dict[str, Metric] = {
        "reward_total_value": Mean(float(scored.rewards.sum(dtype=np.float64)), size),
        "reward_correct_share": Mean(num_correct, size),
        "groups_all_correct_count": Sum(float(num_correct == size)),
        "groups_all_incorrect_count": Sum(float(num_correct == 0)),
        "groups_mixed_count": Sum(float(0 < num_correct < size)),
        "rollout_response_tokens": Mean(sum(lengths), size),
        "rollout_response_max_tokens": Max(max(lengths)),
        "rollout_truncated_share": Mean(stops[StopReason.LENGTH], size),
        "rollout_entropy_nats": Mean(entropy, sum(lengths)),
        "rollout_prompt_tokens": Sum(len(scored.group.prompt_ids) * size),
        "reward_value": Histogram.of(scored.rewards, histograms.REWARDS),
    }
    for outcome, chosen in (("correct", correct), ("incorrect", ~correct)):
        of_outcome = np.array(lengths)[chosen]
        metrics[f"rollout_{outcome}_response_tokens"] = Histogram.of(of_outcome, histograms.RESPONSE_TOKENS)
    metrics |= {f"rollout_{reason}_rollouts": Sum(stops[reason]) for reason in StopReason}
    for name, part in scored.reward_parts.items():
        metrics[f"reward_{name}_value"] = Mean(float(part.sum(dtype=np.float64)), size)
    return metrics


def added_reward_metrics(scored: ScoredGroup, kept: ScoredGroup) -> dict[str, Metric]:
    """Means of the reward parts that transforms added, over the rollouts that they left."""
    return {
        f"reward_{name}_value": Mean(float(part.sum(dtype=np.float64)), len(part))
        for name, part in kept.reward_parts.items()
        if name not in scored.reward_parts
    }


def segment_metrics(segmented: SegmentedGroup) -> dict[str, Metric]:
    """Entropies, low-entropy share, ties at the threshold, segments per class, overlap between classes."""
    counts = count_segments(segmented.arrays, segmented.support)
    thresholds = segmented.thresholds[np.diff(segmented.arrays.offsets) > 0]
    covered = sum(counts.num_segment_tokens.values())
    metrics: dict[str, Metric] = {
        "segments_low_tokens_share": Mean(counts.num_low, counts.num_tokens),
        "segments_tie_tokens_share": Mean(counts.num_ties, counts.num_tokens),
        "segments_covered_tokens_share": Mean(covered, counts.num_tokens),
        "segments_threshold_nats": Mean(float(thresholds.sum(dtype=np.float64)), len(thresholds)),
        "segments_length_tokens": Mean(covered, sum(counts.num_segments.values())),
        "shaping_token_entropy_nats": Histogram.of(segmented.arrays.entropies, histograms.ENTROPY_NATS),
        "shaping_low_tokens": Sum(counts.num_low),
        "shaping_high_tokens": Sum(counts.num_tokens - counts.num_low),
    }
    segments, bounds = segmented.segments, histograms.SEGMENT_TOKENS
    lengths = _histograms_by_class(segments.num_tokens, segments.class_codes, len(SEGMENT_CLASSES), bounds)
    for kind, of_class in zip(SEGMENT_CLASSES, lengths, strict=True):
        metrics[f"segments_{kind}_count"] = Sum(counts.num_segments[kind])
        metrics[f"segments_{kind}_tokens"] = Sum(counts.num_segment_tokens[kind])
        metrics[f"segments_{kind}_length_tokens"] = of_class
    overlaps = {
        "correct_correct": counts.overlap_cc,
        "correct_incorrect": counts.overlap_cw,
        "incorrect_correct": counts.overlap_wc,
        "incorrect_incorrect": counts.overlap_ww,
    }
    for name, overlap in overlaps.items():
        metrics[f"segments_overlap_{name}_share"] = Mean(overlap.total, overlap.num_pairs)
        found = [] if overlap.share is None else [overlap.share]
        metrics[f"segments_{name}_overlap_share"] = Histogram.of(found, histograms.SHARES)
    return metrics


def advantage_metrics(shaped: ShapedGroup) -> dict[str, Metric]:
    """Advantages and their mass before and after shaping."""
    after_as_stored = np.concatenate(shaped.advantages)
    after = after_as_stored.astype(np.float64)
    base = np.concatenate(shaped.base_advantages).astype(np.float64)
    mass = float(np.abs(base).sum())
    metrics: dict[str, Metric] = {
        "advantage_base_abs_value": Mean(mass, len(base)),
        "advantage_shaped_abs_value": Mean(float(np.abs(after).sum()), len(after)),
        "advantage_kept_mass_share": Mean(float(np.abs(after).sum()), mass),
        "advantage_net_mass_share": Mean(float(after.sum()), mass),
        "groups_without_signal_count": Sum(float(not after.any())),
        "advantage_value": Histogram.of(after_as_stored, histograms.ADVANTAGES),
    }
    for stage, values in (("base", base), ("shaped", after)):
        total = float(values.sum())
        metrics[f"advantage_{stage}_mean_value"] = Mean(total, len(values))
        metrics[f"advantage_{stage}_std_value"] = Spread(total, float(values @ values), len(values))
    return metrics


def multiplier_metrics(shaped: ShapedGroup) -> dict[str, Metric]:
    """What all shapers together did to tokens, by the class of the segment that a token lies in."""
    multipliers = np.concatenate(shaped.multipliers)
    num_up, num_down = int(np.count_nonzero(multipliers > 1)), int(np.count_nonzero(multipliers < 1))
    metrics: dict[str, Metric] = {
        "shaping_up_tokens": Sum(num_up),
        "shaping_down_tokens": Sum(num_down),
        "shaping_unchanged_tokens": Sum(len(multipliers) - num_up - num_down),
    }
    classes = (*SEGMENT_CLASSES, OUTSIDE)
    found = _histograms_by_class(multipliers, _token_classes(shaped.segmented), len(classes), histograms.MULTIPLIERS)
    metrics |= {f"shaping_{kind}_multiplier": each for kind, each in zip(classes, found, strict=True)}
    return metrics


def _token_classes(segmented: SegmentedGroup) -> NDArray[np.uint8]:
    """[N] per token of the group the index of its segment's class, and one more than the last in no segment."""
    segments, offsets = segmented.segments, segmented.arrays.offsets
    # Segments are in order and do not overlap: between two of them lies a gap, perhaps of no token.
    borders = np.empty(2 * len(segments) + 2, np.int64)
    borders[0], borders[-1] = 0, offsets[-1]
    borders[1:-1:2] = offsets[segments.rows] + segments.starts
    borders[2:-1:2] = offsets[segments.rows] + segments.stops
    classes = np.full(2 * len(segments) + 1, len(SEGMENT_CLASSES), np.uint8)
    classes[1::2] = segments.class_codes
    return np.repeat(classes, np.diff(borders))


def _histograms_by_class(
    values: FloatArray | IntArray, classes: NDArray[np.integer[Any]], num_classes: int, bounds: tuple[float, ...]
) -> list[Histogram]:
    """One histogram per class of [N] values, as `Histogram.of` gives, in one pass over them."""
    num_ranges = len(bounds) + 1
    # Few classes and ranges: their products fit a byte, and bytes are much faster to count up.
    cells = classes.astype(np.uint8) * np.uint8(num_ranges)
    for bound in bounds:
        cells += values > bound
    counts = np.bincount(cells, minlength=num_classes * num_ranges).reshape(num_classes, num_ranges).tolist()
    totals = np.bincount(classes, weights=values, minlength=num_classes).tolist()
    return [Histogram(bounds, tuple(row), total) for row, total in zip(counts, totals, strict=True)]


def outcome_metrics(reason: DropReason | None, *, num_response_tokens: int = 0) -> dict[str, Metric]:
    """What became of a group: trained, or dropped for a reason; every counter is there, so that a zero is a zero.

    Args:
        num_response_tokens: of the whole group, for nothing where it is dropped.
    """
    metrics: dict[str, Metric] = {"groups_trained_count": Sum(float(reason is None))}
    for each in DropReason:
        metrics[f"groups_dropped_{each}_count"] = Sum(float(each is reason))
        metrics[f"rollout_discarded_{each}_tokens"] = Sum(num_response_tokens * (each is reason))
    return metrics
