"""Many groups as one set of flat arrays: thresholds, low-entropy tokens, segments and the text of the segments.

Flow: `GroupArrays` and `SegmentRule` -> `Layout`. Knows no strings and no support.
Groups are laid out together so that numpy works on long arrays; nothing computed from them mixes two groups.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray, IntArray
from shaping.kernels.base import GroupArrays, SegmentRule

IndexArray = NDArray[np.int64]

MAX_CHUNK_TOKENS = 1 << 18
"""Tokens laid out at once, unless one group alone has more: bounds memory; larger chunks are not faster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Groups one after another: R responses, N tokens, S segments with M tokens in all (the text).

    Args:
        tokens: [N] int32.
        group_of: [R], group of each response; ascending.
        correct: [R].
        class_sizes: [R], responses of the same group with the same verdict.
        thresholds: [R] float32 nats, 0 for an empty response.
        is_low: [N], entropy at or below the threshold of the response.
        num_low, num_ties: [R] int32, tokens at or below, and equal to, the threshold.
        row_starts: [R + 1], first token of each response, then N.
        rows, starts, stops: [S] response of each segment and its half-open range among the N tokens; ascending.
        text_starts: [S + 1], first text position of each segment, then M.
    """

    tokens: IntArray
    group_of: IndexArray
    correct: BoolArray
    class_sizes: IndexArray
    thresholds: FloatArray
    is_low: BoolArray
    num_low: IntArray
    num_ties: IntArray
    row_starts: IndexArray
    rows: IndexArray
    starts: IndexArray
    stops: IndexArray
    text_starts: IndexArray

    @property
    def lengths(self) -> IndexArray:
        """[S] tokens of each segment."""
        return self.stops - self.starts

    @property
    def text_size(self) -> int:
        return int(self.text_starts[-1])

    def text_tokens(self) -> IndexArray:
        """[M] index of each text position among the N tokens."""
        return ranges(self.starts, self.lengths)

    def segment_of_text(self) -> IndexArray:
        """[M] segment of each text position."""
        return np.repeat(np.arange(len(self.rows)), self.lengths)


def chunks(groups: Iterable[GroupArrays]) -> Iterator[list[GroupArrays]]:
    """Neighbouring groups, as many as have MAX_CHUNK_TOKENS tokens together, at least one."""
    chunk: list[GroupArrays] = []
    num_tokens = 0
    for group in groups:
        if chunk and num_tokens + len(group.tokens) > MAX_CHUNK_TOKENS:
            yield chunk
            chunk, num_tokens = [], 0
        chunk.append(group)
        num_tokens += len(group.tokens)
    if chunk:
        yield chunk


def lay_out(groups: Sequence[GroupArrays], rule: SegmentRule) -> Layout:
    """The groups of one chunk, at least one, with their thresholds and segments."""
    row_lengths = np.concatenate([np.diff(group.offsets) for group in groups])
    row_starts = borders(row_lengths)
    entropies = np.concatenate([group.entropies for group in groups])
    thresholds = np.concatenate([_thresholds(group, rule) for group in groups])
    group_of = np.repeat(np.arange(len(groups)), [len(group.correct) for group in groups])
    correct = np.concatenate([group.correct for group in groups])
    limits = np.repeat(thresholds, row_lengths)
    is_low, is_below = entropies <= limits, entropies < limits
    starts, stops = _runs(is_low if rule.membership == "le" else is_below, row_starts)
    num_low, num_below = _count_by_row(is_low, row_starts), _count_by_row(is_below, row_starts)
    is_long = stops - starts >= rule.min_length
    starts, stops = starts[is_long], stops[is_long]
    verdict_of = 2 * group_of + correct
    return Layout(
        tokens=np.concatenate([group.tokens for group in groups]),
        group_of=group_of,
        correct=correct,
        class_sizes=np.bincount(verdict_of)[verdict_of],
        thresholds=thresholds,
        is_low=is_low,
        num_low=num_low,
        num_ties=num_low - num_below,
        row_starts=row_starts,
        rows=np.searchsorted(row_starts, starts, side="right") - 1,
        starts=starts,
        stops=stops,
        text_starts=borders(stops - starts),
    )


def borders(lengths: IndexArray | IntArray | BoolArray) -> IndexArray:
    """[n + 1] where each of n neighbouring pieces starts, then the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def ranges(starts: IndexArray, lengths: IndexArray) -> IndexArray:
    """The numbers starts[i] .. starts[i] + lengths[i] - 1 of all i, one after another."""
    offsets = borders(lengths)
    return np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)


def _thresholds(group: GroupArrays, rule: SegmentRule) -> FloatArray:
    row_lengths = np.diff(group.offsets)
    if rule.scope == "group":
        return np.where(row_lengths > 0, _threshold(group.entropies, rule.quantile), np.float32(0))
    rows = (group.entropies[start:stop] for start, stop in pairwise(group.offsets.tolist()))
    return np.array([_threshold(row, rule.quantile) for row in rows], np.float32)


def _threshold(entropies: FloatArray, quantile: float) -> np.float32:
    num_tokens = len(entropies)
    if num_tokens == 0:
        return np.float32(0)
    k = min(round(quantile * num_tokens), num_tokens - 1)
    # Zero has two signs in bits; adding zero leaves one.
    threshold: np.float32 = np.partition(entropies, k)[k] + np.float32(0)
    return threshold


def _count_by_row(flags: BoolArray, row_starts: IndexArray) -> IntArray:
    return np.diff(borders(flags)[row_starts]).astype(np.int32)


def _runs(inside: BoolArray, row_starts: IndexArray) -> tuple[IndexArray, IndexArray]:
    """Maximal half-open runs of True that cross no border between responses."""
    # False on both sides: a run may open at the first token and close behind the last.
    padded = np.zeros(len(inside) + 2, np.bool_)
    padded[1:-1] = inside
    is_border = np.zeros(len(inside) + 1, np.bool_)
    is_border[row_starts] = True
    before, after = padded[:-1], padded[1:]
    starts = np.flatnonzero(after & (is_border | ~before))
    stops = np.flatnonzero(before & (is_border | ~after))
    return starts, stops
