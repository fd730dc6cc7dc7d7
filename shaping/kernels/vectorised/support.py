"""Support of the segments and tokens of a chunk: who holds which string, and what covers which token.

Flow: `Layout` -> counts per segment and one code per token. Order of responses never matters (less.md 1.3).
"""

from dataclasses import dataclass

import numpy as np

from shaping.checks import IntArray
from shaping.kernels.vectorised.layout import IndexArray, Layout, borders, ranges
from shaping.kernels.vectorised.strings import (
    Occurrences,
    Strings,
    find_occurrences,
    intern_segments,
    levels_of,
    read_text,
)
from shaping.support import SHARED, STRAY

_SHARED_RANK = np.iinfo(np.int32).max
"""Above every count, so that the largest rank that covers a token decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSupport:
    """Result for a chunk.

    Args:
        num_correct, num_incorrect: [S] int32, see `Segment`.
        token_support: [N] int32, see `GroupSupport`.
    """

    num_correct: IntArray
    num_incorrect: IntArray
    token_support: IntArray


def support_by_segments(layout: Layout, codes: IntArray) -> ChunkSupport:
    """A response holds a string when all of it lies inside one of the response's segments.

    Args:
        codes: [N] int32, filled: the token support of the result.
    """
    text = read_text(layout, int(layout.lengths.max(initial=0)))
    strings = intern_segments(layout, text)
    occurrences = find_occurrences(text, strings)
    parts, rows = _holders(layout, strings, occurrences)
    num_correct, num_incorrect = _count(layout, parts, rows, len(strings))
    ranks = _rank(num_correct, num_incorrect)
    best = cover(layout.text_size, occurrences.positions, strings.lengths[occurrences.parts], ranks[occurrences.parts])
    # Only examples are covered so far: every segment reads the example of its string.
    best = best[ranges(strings.starts[strings.of_segment], layout.lengths)]
    return ChunkSupport(
        num_correct=num_correct[strings.of_segment],
        num_incorrect=num_incorrect[strings.of_segment],
        token_support=_write_codes(layout, best, codes),
    )


def support_by_kgrams(layout: Layout, min_length: int, codes: IntArray) -> ChunkSupport:
    """The strings are all `min_length`-grams inside segments; a segment has the largest counts of its own grams.

    Args:
        codes: as in `support_by_segments`.
    """
    text = read_text(layout, min_length)
    positions = np.flatnonzero(text.remaining >= min_length)
    lengths = np.full(len(positions), min_length)
    grams = text.name_strings(positions, lengths)
    segments = layout.segment_of_text()[positions]
    num_correct, num_incorrect = _count(layout, grams, layout.rows[segments], int(grams.max(initial=-1)) + 1)
    best = cover(layout.text_size, positions, lengths, _rank(num_correct, num_incorrect)[grams])
    firsts = borders(layout.lengths - min_length + 1)[:-1]
    return ChunkSupport(
        num_correct=_maxima(num_correct[grams], firsts),
        num_incorrect=_maxima(num_incorrect[grams], firsts),
        token_support=_write_codes(layout, best, codes),
    )


def cover(size: int, positions: IndexArray, lengths: IndexArray, ranks: IntArray) -> IntArray:
    """[size] the largest rank of the intervals [position, position + length) over each place; 0 where there is none.

    A sparse table read backwards: an interval is two windows of 2**k, and a window hands its rank to its two halves.
    """
    levels = levels_of(lengths)
    best = np.zeros(size, np.int32)
    for level in range(int(levels.max(initial=0)), -1, -1):
        at = np.flatnonzero(levels == level)
        np.maximum.at(best, positions[at], ranks[at])
        np.maximum.at(best, positions[at] + lengths[at] - (1 << level), ranks[at])
        if level > 0:
            half = 1 << level - 1
            windows = best.copy()
            np.maximum(best[half:], windows[:-half], out=best[half:])
    return best


def _holders(layout: Layout, strings: Strings, occurrences: Occurrences) -> tuple[IndexArray, IndexArray]:
    """Strings and the responses that hold them; a pair may come more than once."""
    num_rows, num_strings = len(layout.correct), len(strings)
    owned = np.unique(strings.of_segment * num_rows + layout.rows)
    num_owners = np.bincount(owned // num_rows, minlength=num_strings)
    pairs = np.unique(occurrences.wholes * num_strings + occurrences.parts)
    wholes, parts = pairs // num_strings, pairs % num_strings
    rows = owned[ranges(borders(num_owners)[wholes], num_owners[wholes])] % num_rows
    return np.repeat(parts, num_owners[wholes]), rows


def _count(layout: Layout, strings: IndexArray, rows: IndexArray, num_strings: int) -> tuple[IntArray, IntArray]:
    """[num_strings] int32 correct and incorrect responses among the holders, each counted once."""
    num_rows = len(layout.correct)
    distinct = np.unique(strings * num_rows + rows)
    strings, correct = distinct // num_rows, layout.correct[distinct % num_rows]
    counts = (np.bincount(strings[flag], minlength=num_strings) for flag in (correct, ~correct))
    num_correct, num_incorrect = (count.astype(np.int32) for count in counts)
    return num_correct, num_incorrect


def _rank(num_correct: IntArray, num_incorrect: IntArray) -> IntArray:
    is_shared = (num_correct > 0) & (num_incorrect > 0)
    return np.where(is_shared, np.int32(_SHARED_RANK), num_correct + num_incorrect)


def _maxima(values: IntArray, firsts: IndexArray) -> IntArray:
    # reduceat refuses an index into nothing.
    return np.maximum.reduceat(values, firsts) if len(firsts) else values


def _write_codes(layout: Layout, best: IntArray, codes: IntArray) -> IntArray:
    codes[:] = np.where(layout.is_low, STRAY, 0)
    codes[layout.text_tokens()] = np.where(best == _SHARED_RANK, SHARED, best)
    return codes
