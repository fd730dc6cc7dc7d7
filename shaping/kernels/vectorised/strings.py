"""Which segment strings of a chunk are equal, and which lie inside which: exact, without hashing.

Flow: `Layout` -> `Text` (names of windows) -> `Strings` (distinct segments) -> `Occurrences`. Knows no verdicts.

How: every window of 2**k tokens inside a segment gets a number, its name, equal exactly for equal windows of one group.
It comes from sorting the pairs of names of the two halves (Karp, Miller and Rosenberg 1972). A string of n tokens,
2**k <= n < 2**(k + 1), is then known by n and the names of its first and its last 2**k tokens: any comparison costs two
numbers however long the strings are, and no text, periodic or adversarial, is ever taken for another.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from shaping.checks import IntArray
from shaping.kernels.vectorised.layout import IndexArray, Layout, borders, ranges

MAX_CANDIDATES = 1 << 20
"""Candidates compared at once: bounds the memory of groups in which everything is inside everything."""

_TOKEN_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """The tokens of all segments of a chunk, M in all, with the names of their windows.

    Args:
        remaining: [M], tokens from each position to the end of its segment.
        names: one [M] int32 per level k: name of the window of 2**k tokens that starts at each position; no meaning
            where fewer remain.
    """

    remaining: IndexArray
    names: list[IntArray]

    def pair(self, first: IndexArray, second: IndexArray | IntArray) -> IndexArray:
        """One number for two, each below M or a name."""
        return first * len(self.remaining) + second

    def edges(self, starts: IndexArray, lengths: IndexArray) -> tuple[IndexArray, IndexArray]:
        """Names of the first and the last 2**k tokens of strings, k = level of their length."""
        levels = levels_of(lengths)
        first, last = np.zeros_like(starts), np.zeros_like(starts)
        for level in range(len(self.names)):
            at = np.flatnonzero(levels == level)
            first[at] = self.names[level][starts[at]]
            last[at] = self.names[level][starts[at] + lengths[at] - (1 << level)]
        return first, last

    def name_strings(self, starts: IndexArray, lengths: IndexArray) -> IndexArray:
        """Numbers 0, 1, ... of the strings [starts, starts + lengths), equal exactly for equal strings."""
        pairs = name_keys(self.pair(*self.edges(starts, lengths)))
        return name_keys(self.pair(pairs, lengths - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Strings:
    """The C distinct segment strings of a chunk; strings of different groups are different.

    Args:
        of_segment: [S], string of each segment.
        starts: [C], text position where a copy of the string starts: its example.
        lengths: [C] tokens.
    """

    of_segment: IndexArray
    starts: IndexArray
    lengths: IndexArray

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrences:
    """Every place where a string lies inside the example of a string, itself included; ascending for each pair.

    Args:
        positions: [P] text position.
        parts: [P] the string that starts there.
        wholes: [P] the string in whose example it lies.
    """

    positions: IndexArray
    parts: IndexArray
    wholes: IndexArray


def name_keys(keys: IndexArray) -> IndexArray:
    """[n] numbers 0, 1, ..., equal exactly where the keys are."""
    return np.unique(keys, return_inverse=True)[1]


def levels_of(lengths: IndexArray) -> IndexArray:
    """Largest k with 2**k <= length."""
    return np.frexp(lengths)[1].astype(np.int64) - 1


def read_text(layout: Layout, longest: int) -> Text:
    """Names of all windows up to the power of two at or below `longest` tokens."""
    segment = layout.segment_of_text()
    positions = np.arange(layout.text_size)
    remaining = layout.text_starts[segment + 1] - positions
    tokens = layout.tokens[layout.text_tokens()].view(np.uint32).astype(np.int64)
    group = layout.group_of[layout.rows][segment]
    # The group is part of every name, so that no comparison can cross groups.
    text = Text(remaining=remaining, names=[name_keys(group << _TOKEN_BITS | tokens).astype(np.int32)])
    for level in range(1, longest.bit_length()):
        positions = positions[remaining[positions] >= 1 << level]
        halves = text.names[-1]
        first, last = halves[positions].astype(np.int64), halves[positions + (1 << level - 1)]
        names = np.zeros(len(remaining), np.int32)
        names[positions] = name_keys(text.pair(first, last))
        text.names.append(names)
    return text


def intern_segments(layout: Layout, text: Text) -> Strings:
    of_segment = text.name_strings(layout.text_starts[:-1], layout.lengths)
    _, examples = np.unique(of_segment, return_index=True)
    return Strings(of_segment=of_segment, starts=layout.text_starts[:-1][examples], lengths=layout.lengths[examples])


def find_occurrences(text: Text, strings: Strings) -> Occurrences:
    """All of them: at most M * sqrt(2 * M), since strings that start at one position differ in length."""
    positions = ranges(strings.starts, strings.lengths)
    wholes = np.repeat(np.arange(len(strings)), strings.lengths)
    levels = levels_of(strings.lengths)
    first, last = text.edges(strings.starts, strings.lengths)
    found = [np.zeros((3, 0), np.int64)]
    for level in range(len(text.names)):
        fits = text.remaining[positions] >= 1 << level
        positions, wholes = positions[fits], wholes[fits]
        members = np.flatnonzero(levels == level)
        members = members[np.lexsort((last[members], strings.lengths[members], first[members]))]
        if len(members) > 0:
            index = _LevelIndex(text, strings, level, members, first[members], last[members])
            found += index.search(positions, wholes)
    at, parts, inside = np.concatenate(found, axis=1)
    return Occurrences(positions=at, parts=parts, wholes=inside)


class _LevelIndex:
    """Strings of one level, sorted by their first window, length and last window.

    An entry is a first window with a length; strings of one entry differ in the last window only.
    """

    def __init__(
        self, text: Text, strings: Strings, level: int, members: IndexArray, first: IndexArray, last: IndexArray
    ) -> None:
        lengths = strings.lengths[members]
        is_new = np.ones(len(members), np.bool_)
        is_new[1:] = (np.diff(first) != 0) | (np.diff(lengths) != 0)
        self._text = text
        self._names = text.names[level]
        self._window = 1 << level
        self._members = members
        self._keys = text.pair(np.cumsum(is_new) - 1, last)
        self._entry_lengths = lengths[is_new]
        self._num_entries = np.bincount(first[is_new], minlength=len(text.remaining))
        self._first_entry = borders(self._num_entries)

    def search(self, positions: IndexArray, wholes: IndexArray) -> Iterator[IndexArray]:
        """[3, n] positions, parts and wholes of the occurrences that start here, in pieces."""
        num_entries = self._num_entries[self._names[positions]]
        hit = num_entries > 0
        positions, wholes, num_entries = positions[hit], wholes[hit], num_entries[hit]
        ends = np.cumsum(num_entries)
        cuts = np.searchsorted(ends, np.arange(MAX_CANDIDATES, num_entries.sum(), MAX_CANDIDATES)).tolist()
        for start, stop in pairwise([0, *cuts, len(ends)]):
            piece = slice(start, stop)
            yield self._compare(positions[piece], wholes[piece], num_entries[piece])

    def _compare(self, positions: IndexArray, wholes: IndexArray, num_entries: IndexArray) -> IndexArray:
        entries = ranges(self._first_entry[self._names[positions]], num_entries)
        positions, wholes = np.repeat(positions, num_entries), np.repeat(wholes, num_entries)
        lengths = self._entry_lengths[entries]
        fits = lengths <= self._text.remaining[positions]
        positions, wholes, entries, lengths = positions[fits], wholes[fits], entries[fits], lengths[fits]
        keys = self._text.pair(entries, self._names[positions + lengths - self._window])
        slots = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        equal = self._keys[slots] == keys
        return np.stack([positions[equal], self._members[slots[equal]], wholes[equal]])
