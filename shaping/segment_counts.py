"""Totals of one group's segments, cheap enough to be always on: low and tied tokens, classes, overlaps.

Integers and exact pair sums; shares are formed by whoever merges them (`shaping/metrics_group.py`).
"""

from dataclasses import dataclass
from itertools import product

from shaping.kernels.base import GroupArrays
from shaping.support import (
    HELD_COLUMNS,
    SEGMENT_CLASSES,
    SEGMENT_COLUMNS,
    TOKEN_COLUMNS,
    GroupSupport,
    SegmentClass,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Sum over ordered pairs of rollouts of the share of the first one's segment tokens whose strings the second has.

    `num_pairs` is 0 where a class is too small, or no rollout of it has a segment: the overlap is then not defined.
    """

    total: float
    num_pairs: int

    @property
    def share(self) -> float | None:
        return self.total / self.num_pairs if self.num_pairs else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentCounts:
    """Totals of one group.

    Args:
        num_tokens: response tokens.
        num_low: tokens at or below their threshold.
        num_ties: tokens equal to their threshold.
        num_stray: low tokens in no segment.
        num_segments, num_segment_tokens: per class.
        overlap_cc, overlap_cw, overlap_wc, overlap_ww: O of less.md section 2, from the first class to the second
            (c correct, w incorrect), over pairs i != j where i has segments.
    """

    num_tokens: int
    num_low: int
    num_ties: int
    num_stray: int
    num_segments: dict[SegmentClass, int]
    num_segment_tokens: dict[SegmentClass, int]
    overlap_cc: Overlap
    overlap_cw: Overlap
    overlap_wc: Overlap
    overlap_ww: Overlap


def count_segments(group: GroupArrays, support: GroupSupport) -> SegmentCounts:
    """Totals of a group out of the segments found in it."""
    totals = support.row_totals.sum(0).tolist()
    num_low, num_covered = int(support.num_low.sum()), sum(totals[TOKEN_COLUMNS])
    overlaps = _overlaps(support.row_totals.tolist(), group.correct.tolist())
    return SegmentCounts(
        num_tokens=len(group.tokens),
        num_low=num_low,
        num_ties=int(support.num_ties.sum()),
        num_stray=num_low - num_covered,
        num_segments=dict(zip(SEGMENT_CLASSES, totals[SEGMENT_COLUMNS], strict=True)),
        num_segment_tokens=dict(zip(SEGMENT_CLASSES, totals[TOKEN_COLUMNS], strict=True)),
        overlap_cc=overlaps[True, True],
        overlap_cw=overlaps[True, False],
        overlap_wc=overlaps[False, True],
        overlap_ww=overlaps[False, False],
    )


def _overlaps(row_totals: list[list[int]], correct: list[bool]) -> dict[tuple[bool, bool], Overlap]:
    """Overlaps from the rollouts of one class to those of another, by (is correct, are correct)."""
    keys = list(product((True, False), (True, False)))
    shares, pairs = dict.fromkeys(keys, 0.0), dict.fromkeys(keys, 0)
    for row, own in zip(row_totals, correct, strict=True):
        covered = sum(row[TOKEN_COLUMNS])
        if covered == 0:
            continue
        for other, held in zip((True, False), row[HELD_COLUMNS], strict=True):
            # A rollout holds its own strings, but is no pair with itself.
            is_own = own is other
            shares[own, other] += (held - covered * is_own) / covered
            pairs[own, other] += correct.count(other) - is_own
    return {key: Overlap(total=shares[key], num_pairs=pairs[key]) for key in keys}
