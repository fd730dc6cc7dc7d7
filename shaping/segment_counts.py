"""Totals of one group's segments, cheap enough to be always on: low and tied tokens, classes, overlaps.

Integers and exact pair sums; shares are formed by whoever merges them (`shaping/metrics_group.py`).
"""

from dataclasses import dataclass

from shaping.kernels.base import GroupArrays
from shaping.support import (
    HELD_BY_CORRECT,
    HELD_BY_INCORRECT,
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
            (c correct, w incorrect), over pairs i != j where i has segments. Under match "kgram" the holders of a
            segment are those of its most held gram: there it is an upper bound.
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
    rows, correct = support.row_totals.tolist(), group.correct.tolist()
    num_correct = sum(correct)
    num_incorrect = len(correct) - num_correct
    from_correct = [row for row, flag in zip(rows, correct, strict=True) if flag]
    from_incorrect = [row for row, flag in zip(rows, correct, strict=True) if not flag]
    return SegmentCounts(
        num_tokens=len(group.tokens),
        num_low=num_low,
        num_ties=int(support.num_ties.sum()),
        num_stray=num_low - num_covered,
        num_segments=dict(zip(SEGMENT_CLASSES, totals[SEGMENT_COLUMNS], strict=True)),
        num_segment_tokens=dict(zip(SEGMENT_CLASSES, totals[TOKEN_COLUMNS], strict=True)),
        overlap_cc=_overlap(from_correct, HELD_BY_CORRECT, num_correct, is_own=True),
        overlap_cw=_overlap(from_correct, HELD_BY_INCORRECT, num_incorrect, is_own=False),
        overlap_wc=_overlap(from_incorrect, HELD_BY_CORRECT, num_correct, is_own=False),
        overlap_ww=_overlap(from_incorrect, HELD_BY_INCORRECT, num_incorrect, is_own=True),
    )


def _overlap(row_totals: list[list[int]], column: int, num_others: int, *, is_own: bool) -> Overlap:
    """Overlap from rollouts of one class to `num_others` rollouts, of the same class if `is_own`."""
    total, num_rows = 0.0, 0
    for row in row_totals:
        covered = sum(row[TOKEN_COLUMNS])
        if covered:
            # A rollout holds its own strings, but is no pair with itself.
            total += (row[column] - covered * is_own) / covered
            num_rows += 1
    return Overlap(total=total, num_pairs=num_rows * (num_others - is_own))
