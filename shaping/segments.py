"""Low-entropy segments of a scored group, and who has them (LESS hop 5).

Flow: scored group -> entropy threshold per response -> maximal low-entropy runs -> support and class of each run.
Knows no advantages; what a multiplier does with a class is in `shaping/less.py`.
"""

import numpy as np

from shaping.checks import FloatArray
from shaping.config import SegmentConfig
from shaping.containment import Run, RunSupport, class_sizes, find_support
from shaping.groups import ScoredGroup, Segment, SegmentClass, SegmentedGroup


def entropy_threshold(entropies: FloatArray, quantile: float) -> float:
    """The entropy at or below which a token of this response is low-entropy.

    Args:
        entropies: [T] float32 nats.
        quantile: in (0, 1).
    Returns:
        The k-th smallest entropy (0-based), k = min(round(quantile * T), T - 1), nats; 0 for an empty response. For
        quantile 0.8 and T <= 7 it is the maximum.
    Source: the LESS authors' code (less.md 1.2): an order statistic of the response, never interpolated.
    """
    num_tokens = len(entropies)
    if num_tokens == 0:
        return 0.0
    k = min(round(quantile * num_tokens), num_tokens - 1)
    return float(np.partition(entropies, k)[k])


def low_entropy_runs(entropies: FloatArray, threshold: float, *, min_length: int, membership: str) -> tuple[Run, ...]:
    """Maximal runs of low-entropy tokens, half-open, in order.

    Args:
        entropies: [T] float32 nats.
        threshold: nats.
        min_length: shorter runs are left out.
        membership: "lt": a token equal to the threshold breaks a run; "le": it belongs to the run.
    Raises:
        ValueError: membership is neither.
    """
    if membership not in ("lt", "le"):
        raise ValueError(f'membership must be "lt" or "le", got {membership!r}')
    limit = np.float32(threshold)
    low = entropies < limit if membership == "lt" else entropies <= limit
    edges = np.diff(low.astype(np.int8), prepend=0, append=0)
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    keep = stops - starts >= min_length
    return tuple(zip(starts[keep].tolist(), stops[keep].tolist(), strict=True))


def segment_group(scored: ScoredGroup, config: SegmentConfig) -> SegmentedGroup:
    """Thresholds, segments and their classes. Rows follow the rollouts; their order never changes a number."""
    rollouts = scored.group.rollouts
    thresholds = [entropy_threshold(rollout.entropies, config.quantile) for rollout in rollouts]
    runs = [
        low_entropy_runs(rollout.entropies, threshold, min_length=config.min_length, membership=config.membership)
        for rollout, threshold in zip(rollouts, thresholds, strict=True)
    ]
    correct = scored.correct
    support = find_support(
        [rollout.response_ids for rollout in rollouts], runs, correct.tolist(), min_length=config.min_length
    )
    segments = tuple(
        tuple(_segment(run, counts, int(size)) for run, counts in zip(row, row_support, strict=True))
        for row, row_support, size in zip(runs, support.run_support, class_sizes(correct), strict=True)
    )
    return SegmentedGroup(
        scored=scored,
        thresholds=np.array(thresholds, np.float32),
        segments=segments,
        token_support=support.token_support,
    )


def segment_class(support: RunSupport) -> SegmentClass:
    """The class of a run: shared, held by two or more rollouts of one class, or by one rollout alone."""
    if support.is_shared:
        return SegmentClass.SHARED
    if support.num_correct + support.num_incorrect == 1:
        return SegmentClass.UNIQUE
    return SegmentClass.CORRECT_ONLY if support.num_correct else SegmentClass.INCORRECT_ONLY


def _segment(run: Run, support: RunSupport, class_size: int) -> Segment:
    return Segment(
        start=run[0],
        stop=run[1],
        segment_class=segment_class(support),
        num_correct=support.num_correct,
        num_incorrect=support.num_incorrect,
        multiplier=support.multiplier(class_size),
    )
