"""The LESS authors' greedy matching of a chunk of groups (less.md 1.2, steps 4 to 7), in the given order of responses.

Flow: `Layout` -> matched segments -> merged keys -> multipliers. Finds exactly what comparing all pairs of segments in
order finds, quirks included; groups share one merge, since strings of different groups are never comparable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray
from shaping.kernels.base import Outside
from shaping.kernels.vectorised.layout import IndexArray, Layout, borders, ranges
from shaping.kernels.vectorised.strings import Occurrences, Strings, find_occurrences, intern_segments, read_text

Keys = dict[int, dict[int, int]]
"""String of each key to the one start (index among the N tokens) of every response that has it, in key order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Containment:
    """Distinct pairs of a string and a string that contains it, itself included, ordered by `wholes`.

    Args:
        parts, wholes: [Q] strings.
        offsets: [Q] tokens from the start of the whole to the first occurrence of the part.
    """

    parts: IndexArray
    wholes: IndexArray
    offsets: IndexArray


def write_multipliers(layout: Layout, outside: Outside, multipliers: FloatArray) -> None:
    """Fill `multipliers` [N]."""
    text = read_text(layout, int(layout.lengths.max(initial=0)))
    strings = intern_segments(layout, text)
    containment = _containment(strings, find_occurrences(text, strings))
    containers = _first_containers(layout, strings, containment)
    keys = _merge(layout, strings, containment, containers)
    multipliers[:] = _base(layout, outside)
    _write_keys(layout, strings, keys, multipliers)


def _containment(strings: Strings, occurrences: Occurrences) -> _Containment:
    pairs, firsts = np.unique(occurrences.wholes * len(strings) + occurrences.parts, return_index=True)
    wholes, parts = pairs // len(strings), pairs % len(strings)
    return _Containment(parts=parts, wholes=wholes, offsets=occurrences.positions[firsts] - strings.starts[wholes])


def _list_order(layout: Layout) -> IndexArray:
    """[S] segments in the order of the authors' list: of each group the correct responses first."""
    rows = layout.rows
    return np.argsort(2 * layout.group_of[rows] + ~layout.correct[rows], kind="stable")


def _first_containers(layout: Layout, strings: Strings, containment: _Containment) -> list[tuple[int, int]]:
    """Segments T in list order with U, the first segment in list order of another response that contains T."""
    order = _list_order(layout)
    num_segments = len(order)
    string_at, row_at = strings.of_segment[order], layout.rows[order]
    by_string = np.argsort(string_at, kind="stable")
    num_copies = np.bincount(string_at, minlength=len(strings))
    counts = num_copies[containment.wholes]
    places = by_string[ranges(borders(num_copies)[containment.wholes], counts)]
    parts = np.repeat(containment.parts, counts)
    # Who contains a string first, and who does so first among all other responses: one of the two answers every T.
    first = np.full(len(strings), num_segments)
    np.minimum.at(first, parts, places)
    other = np.full(len(strings), num_segments)
    is_other = row_at[places] != row_at[first[parts]]
    np.minimum.at(other, parts[is_other], places[is_other])
    container = np.where(row_at != row_at[first[string_at]], first[string_at], other[string_at])
    matched = np.flatnonzero(container < num_segments)
    return list(zip(order[matched].tolist(), order[container[matched]].tolist(), strict=True))


def _comparable(containment: _Containment, num_strings: int) -> list[list[int]]:
    """Of each string the strings inside it, itself included, and those around it."""
    is_proper = containment.parts != containment.wholes
    ones = np.concatenate([containment.wholes, containment.parts[is_proper]])
    others = np.concatenate([containment.parts, containment.wholes[is_proper]])
    flat = others[np.argsort(ones, kind="stable")].tolist()
    cuts = borders(np.bincount(ones, minlength=num_strings)).tolist()
    return [flat[start:stop] for start, stop in pairwise(cuts)]


def _merge(layout: Layout, strings: Strings, containment: _Containment, matches: Iterable[tuple[int, int]]) -> Keys:
    """Step 6: each matched segment goes to the first key in order that is comparable with it."""
    num_strings = len(strings)
    comparable = _comparable(containment, num_strings)
    pairs = containment.wholes * num_strings + containment.parts
    offset_of = dict(zip(pairs.tolist(), containment.offsets.tolist(), strict=True))
    string_of, lengths = strings.of_segment.tolist(), strings.lengths.tolist()
    row_of, start_of = layout.rows.tolist(), layout.starts.tolist()
    # A dict keeps the order of its keys but cannot tell which of two comes first.
    absent = len(string_of)
    places = [absent] * num_strings
    keys: Keys = {}
    for num_seen, (segment, container) in enumerate(matches):
        string, whole = string_of[segment], string_of[container]
        key = min(comparable[string], key=places.__getitem__)
        starts: dict[int, int] = {}
        if places[key] == absent:
            key = string
        elif lengths[key] <= lengths[string]:
            starts = keys[key]
        else:
            shift = offset_of[key * num_strings + string]
            starts = {row: start + shift for row, start in keys.pop(key).items()}
            places[key] = absent
            key = string
        starts[row_of[segment]] = start_of[segment] + offset_of[string * num_strings + key]
        starts[row_of[container]] = start_of[container] + offset_of[whole * num_strings + key]
        # Storing over a key drops what it held and keeps its place.
        keys[key] = starts
        if places[key] == absent:
            places[key] = num_seen
    return keys


def _base(layout: Layout, outside: Outside) -> NDArray[np.float64]:
    """Step 2: 1/N where the entropy is at or below the threshold, else 1."""
    is_share: BoolArray = layout.is_low
    if outside == "keep":
        is_share = np.zeros_like(is_share)
        is_share[layout.text_tokens()] = True
    shares = np.repeat(1.0 / layout.class_sizes, np.diff(layout.row_starts))
    return np.where(is_share, shares, 1.0)


def _write_keys(layout: Layout, strings: Strings, keys: Keys, multipliers: FloatArray) -> None:
    """Step 7, in place: in key order, a shared key sets 0, any other raises to its share."""
    num_starts = np.array([len(starts) for starts in keys.values()], np.int64)
    of_key = np.repeat(np.arange(len(keys)), num_starts)
    rows = np.array([row for starts in keys.values() for row in starts], np.int64)
    starts = np.array([start for each in keys.values() for start in each.values()], np.int64)
    lengths = strings.lengths[np.array(list(keys), np.int64)][of_key]
    correct = layout.correct[rows]
    num_correct, num_incorrect = (np.bincount(of_key[flag], minlength=len(keys)) for flag in (correct, ~correct))
    is_shared = ((num_correct > 0) & (num_incorrect > 0))[of_key]
    values = (1.0 / layout.class_sizes[rows] * (num_correct + num_incorrect)[of_key]).astype(np.float32)
    last_zero = np.full(len(multipliers), -1)
    at = ranges(starts[is_shared], lengths[is_shared])
    np.maximum.at(last_zero, at, np.repeat(of_key[is_shared], lengths[is_shared]))
    multipliers[at] = 0.0
    # Later keys raise a zero again; what was raised before the last zero is lost.
    at, lengths = ranges(starts[~is_shared], lengths[~is_shared]), lengths[~is_shared]
    is_later = np.repeat(of_key[~is_shared], lengths) > last_zero[at]
    np.maximum.at(multipliers, at[is_later], np.repeat(values[~is_shared], lengths)[is_later])
