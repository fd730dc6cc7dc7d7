"""Low-entropy segments of one group as data: where they are, who has them, what they give, and their totals.

Made by the kernels (`shaping/kernels`), read by shapers, metrics and explanations. Knows no records of a run.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray, IntArray

SHARED = -1
"""Token support of a token that a string of both classes covers."""

STRAY = -2
"""Token support of a low-entropy token that lies in no segment."""


class SegmentClass(StrEnum):
    """Who has a low-entropy segment: only correct rollouts, only incorrect ones, both, or one rollout alone."""

    CORRECT_ONLY = "correct_only"
    INCORRECT_ONLY = "incorrect_only"
    SHARED = "shared"
    UNIQUE = "unique"


SEGMENT_CLASSES = tuple(SegmentClass)
"""Order of the codes in `Segments.class_codes`."""

# By holders of each class, 0, 1 or more: row correct, column incorrect. Nobody holding a segment cannot be.
_CODE_OF_HOLDERS = np.array([-1, 3, 1, 3, 2, 2, 0, 2, 2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A maximal low-entropy run [start, stop) of one response, and who else has it.

    Args:
        num_correct, num_incorrect: rollouts of each class that hold this token string inside a run, this one included;
            under match "kgram" the most that hold one of its grams.
        multiplier: what its own string gives (before other segments that cover the same tokens): 0 if shared, else
            the share of its class that holds it.
    """

    start: int
    stop: int
    segment_class: SegmentClass
    num_correct: int
    num_incorrect: int
    multiplier: float

    @property
    def num_tokens(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Segments:
    """All segments of a group, one entry each, ordered by rollout and then by position.

    Args:
        rows: [S] int32, index of the rollout.
        starts, stops: [S] int32, half-open range of response tokens.
        num_correct, num_incorrect: [S] int32, see `Segment`.
    """

    rows: IntArray
    starts: IntArray
    stops: IntArray
    num_correct: IntArray
    num_incorrect: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def num_tokens(self) -> IntArray:
        """[S] int32, length of each segment."""
        return self.stops - self.starts

    @property
    def class_codes(self) -> NDArray[np.int64]:
        """[S] index into `SEGMENT_CLASSES`."""
        codes: NDArray[np.int64] = _CODE_OF_HOLDERS[
            np.minimum(self.num_correct, 2) * 3 + np.minimum(self.num_incorrect, 2)
        ]
        return codes

    def multipliers(self, correct: BoolArray) -> FloatArray:
        """What each segment's own string gives.

        Args:
            correct: [G], the verdicts the segments were counted with.
        Returns:
            [S] float32.
        """
        shares = 1.0 / class_sizes(correct)
        values = shares[self.rows] * (self.num_correct + self.num_incorrect)
        values[(self.num_correct > 0) & (self.num_incorrect > 0)] = 0.0
        return values.astype(np.float32)

    def by_rollout(self, correct: BoolArray) -> tuple[tuple[Segment, ...], ...]:
        """One tuple of `Segment` per rollout, for a person or an explanation; slow beside the arrays."""
        rows: list[list[Segment]] = [[] for _ in correct]
        columns = (self.rows, self.starts, self.stops, self.class_codes, self.num_correct, self.num_incorrect)
        table = zip(*(column.tolist() for column in columns), self.multipliers(correct).tolist(), strict=True)
        for row, start, stop, code, num_correct, num_incorrect, multiplier in table:
            rows[row].append(
                Segment(
                    start=start,
                    stop=stop,
                    segment_class=SEGMENT_CLASSES[code],
                    num_correct=num_correct,
                    num_incorrect=num_incorrect,
                    multiplier=multiplier,
                )
            )
        return tuple(tuple(row) for row in rows)


SEGMENT_COLUMNS = slice(0, 4)
TOKEN_COLUMNS = slice(4, 8)
HELD_BY_CORRECT, HELD_BY_INCORRECT = 8, 9
"""Columns of `GroupSupport.row_totals`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSupport:
    """What the search finds in one group of G responses with N tokens.

    Args:
        thresholds: [G] float32 nats, the entropy at or below which a token is low-entropy; 0 for an empty response.
        num_low, num_ties: [G] int32, tokens at or below, and equal to, their threshold.
        row_totals: [G, 10] int64, of each rollout the number of its segments per class (in the order of
            `SEGMENT_CLASSES`), their tokens per class, and the tokens of all its segments times the correct, and times
            the incorrect rollouts that hold them.
        segments: all segments.
        token_support: [N] int32, responses one after another: 0 above the threshold; STRAY low-entropy but in no
            segment; SHARED where a string of both classes covers the token; otherwise the largest number of rollouts of
            the response's own class that hold a covering string (which may be shorter than the segment around it).
    """

    thresholds: FloatArray
    num_low: IntArray
    num_ties: IntArray
    row_totals: NDArray[np.int64]
    segments: Segments
    token_support: IntArray


def class_sizes(correct: BoolArray) -> NDArray[np.int64]:
    """[G] number of rollouts with the same verdict, the rollout itself included: N of its row."""
    num_correct = int(correct.sum())
    return np.where(correct, num_correct, len(correct) - num_correct)
