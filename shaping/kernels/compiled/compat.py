"""Compiled: the authors' greedy matching of one group, step for step, on the index of `compiled.strings`.

Runs are listed correct responses first, then by position. Each run is matched with the first run of another response
that contains it; an insertion-ordered dictionary of strings collects who has which; what it ends with is written on one
stretch per response. Its quirks are copied on purpose: only the first comparable key is met, a shorter string replaces
a longer key and moves to the end, an existing key keeps its place and loses its members. Source: less.md 1.2.
"""

import numpy as np

from shaping.kernels.compiled.jit import Array, compiled
from shaping.kernels.compiled.strings import LENGTH, NONE, START, find_matches, hash_runs, intern_runs, order_by_length

_NO_RUN = np.int32(0x7FFFFFFF)
# Columns of `firsts`: the first run of the list that contains a string, its row, and the first one of any other row.
_FIRST, _FIRST_ROW, _SECOND = range(3)


@compiled
def match_greedily(
    tokens: Array, runs: Array, num_runs: int, correct: Array, min_length: int, prefix: Array, multipliers: Array
) -> None:
    """Write the matches of one group over the base multipliers [N] float32.

    Args:
        prefix: scratch, [N + G] int64.
    """
    hash_runs(tokens, runs, num_runs, prefix)
    run_string = np.empty(num_runs, np.int32)
    strings, table, shift = intern_runs(tokens, runs, num_runs, prefix, run_string)
    order = order_by_length(strings)
    links, matches, first_match = find_matches(tokens, prefix, strings, table, shift, order, min_length)
    inside, first_inside = _list_inside(strings, links, matches, first_match)
    around, first_around = _list_around(inside, first_inside)
    listed = _list_runs(runs, num_runs, correct)
    firsts = _first_containers(runs, listed, run_string, inside, first_inside)
    starts, orders = _merge(runs, listed, run_string, firsts, inside, first_inside, around, first_around, len(correct))
    _write(strings, starts, orders, correct, multipliers)


@compiled
def _list_inside(strings: Array, links: Array, matches: Array, first_match: Array) -> tuple[Array, Array]:
    """The strings inside each string, itself first, each once.

    Returns:
        inside [P, 2] int32: a string and the offset of its first occurrence; first_inside [C + 1] int64.
    """
    seen_in = np.full(len(links), NONE, np.int32)
    first_inside = np.zeros(len(links) + 1, np.int64)
    for c in range(len(links)):
        total = first_inside[c] + _count_chain(c, c, links, seen_in)
        for m in range(first_match[c], first_match[c + 1]):
            total += _count_chain(matches[1, m], c, links, seen_in)
        first_inside[c + 1] = total
    seen_in[:] = NONE
    inside = np.empty((first_inside[len(links)], 2), np.int32)
    for c in range(len(links)):
        total = _list_chain(c, c, 0, links, seen_in, inside, first_inside[c])
        for m in range(first_match[c], first_match[c + 1]):
            offset = matches[0, m] - strings[c, START]
            total = _list_chain(matches[1, m], c, offset, links, seen_in, inside, total)
    return inside, first_inside


@compiled
def _count_chain(node: int, c: int, links: Array, seen_in: Array) -> int:
    """How many of a string and its prefixes were not seen in string c before.

    Once a string was met at some position its prefixes were too: the chain ends at the first one seen.
    """
    count = 0
    while node != NONE and seen_in[node] != c:
        seen_in[node] = c
        node = links[node]
        count += 1
    return count


@compiled
def _list_chain(node: int, c: int, offset: int, links: Array, seen_in: Array, inside: Array, total: int) -> int:
    """List those that `_count_chain` counts; the number of entries then."""
    while node != NONE and seen_in[node] != c:
        seen_in[node] = c
        inside[total, 0], inside[total, 1] = node, offset
        node = links[node]
        total += 1
    return total


@compiled
def _list_around(inside: Array, first_inside: Array) -> tuple[Array, Array]:
    """The strings that contain each string, itself left out: entries of `inside`, turned round."""
    count = len(first_inside) - 1
    first_around = np.zeros(count + 2, np.int64)
    for entry in range(len(inside)):
        first_around[inside[entry, 0] + 2] += 1
    for c in range(count):
        # Its own entry, the first of each string, is not listed.
        first_around[c + 2] += first_around[c + 1] - 1
    around = np.empty((len(inside) - count, 2), np.int32)
    for c in range(count):
        for entry in range(first_inside[c] + 1, first_inside[c + 1]):
            node = inside[entry, 0]
            place = first_around[node + 1]
            around[place, 0], around[place, 1] = c, inside[entry, 1]
            first_around[node + 1] += 1
    return around, first_around[: count + 1]


@compiled
def _list_runs(runs: Array, num_runs: int, correct: Array) -> Array:
    """[R] int32: runs of correct responses in order, then the others."""
    listed = np.empty(num_runs, np.int32)
    place = 0
    for wanted in (True, False):
        for r in range(num_runs):
            if correct[runs[0, r]] == wanted:
                listed[place] = r
                place += 1
    return listed


@compiled
def _note(firsts: Array, c: int, place: int, row: int) -> None:
    """Let a run at a place of the list count among those that contain string c."""
    if place < firsts[c, _FIRST]:
        if row != firsts[c, _FIRST_ROW]:
            firsts[c, _SECOND] = firsts[c, _FIRST]
        firsts[c, _FIRST], firsts[c, _FIRST_ROW] = place, row
    elif row != firsts[c, _FIRST_ROW] and place < firsts[c, _SECOND]:
        firsts[c, _SECOND] = place


@compiled
def _first_containers(runs: Array, listed: Array, run_string: Array, inside: Array, first_inside: Array) -> Array:
    """[C, 3] int32, see the columns above: two runs per string answer "first of another response" for any response."""
    count = len(first_inside) - 1
    own = np.full((count, 3), _NO_RUN, np.int32)
    own[:, _FIRST_ROW] = NONE
    for place in range(len(listed)):
        _note(own, run_string[listed[place]], place, runs[0, listed[place]])
    firsts = own.copy()
    for c in range(count):
        for entry in range(first_inside[c], first_inside[c + 1]):
            node = inside[entry, 0]
            _note(firsts, node, own[c, _FIRST], own[c, _FIRST_ROW])
            if own[c, _SECOND] != _NO_RUN:
                _note(firsts, node, own[c, _SECOND], runs[0, listed[own[c, _SECOND]]])
    return firsts


@compiled
def _offset_inside(inside: Array, entry: int, string: int) -> int:
    """Where a string, which is known to be listed from an entry on, first occurs."""
    while inside[entry, 0] != string:
        entry += 1
    return inside[entry, 1]


@compiled
def _oldest_key(listed: Array, start: int, stop: int, orders: Array) -> int:
    """The entry whose string is the oldest key, or NONE where none is a key."""
    best, oldest = NONE, np.int64(_NO_RUN)
    for entry in range(start, stop):
        order = orders[listed[entry, 0]]
        if order != NONE and order < oldest:
            best, oldest = entry, np.int64(order)
    return best


@compiled
def _merge(
    runs: Array,
    listed: Array,
    run_string: Array,
    firsts: Array,
    inside: Array,
    first_inside: Array,
    around: Array,
    first_around: Array,
    size: int,
) -> tuple[Array, Array]:
    """The dictionary after all matches.

    Returns:
        starts [C, G] int32: flat position recorded for each member of a key, NONE where it is no member;
        orders [C] int32: age of the keys, NONE for strings that are none.
    """
    count = len(firsts)
    starts = np.full((count, size), NONE, np.int32)
    orders = np.full(count, NONE, np.int32)
    # Of each string the entry of `inside` that was its oldest comparable key, and that key's age.
    last = np.full((count, 2), NONE, np.int32)
    age = 0
    for r in listed:
        c, row = np.int64(run_string[r]), np.int64(runs[0, r])
        place = firsts[c, _SECOND] if firsts[c, _FIRST_ROW] == row else firsts[c, _FIRST]
        if place == _NO_RUN:
            continue
        other = listed[place]
        key, here = c, 0
        if last[c, 0] != NONE and orders[inside[last[c, 0], 0]] == last[c, 1]:
            # New keys are younger: the oldest stays the oldest until it is deleted.
            inner, outer = np.int64(last[c, 0]), NONE
        else:
            inner = _oldest_key(inside, first_inside[c], first_inside[c + 1], orders)
            outer = _oldest_key(around, first_around[c], first_around[c + 1], orders)
        is_inner = inner != NONE and (outer == NONE or orders[inside[inner, 0]] < orders[around[outer, 0]])
        if is_inner:
            key, here = np.int64(inside[inner, 0]), np.int64(inside[inner, 1])
        elif outer != NONE:
            # The shorter string takes the members over; where it was a key itself, its members are lost.
            longer, offset = np.int64(around[outer, 0]), around[outer, 1]
            for j in range(size):
                starts[c, j] = NONE if starts[longer, j] == NONE else starts[longer, j] + offset
            orders[longer] = NONE
        else:
            starts[c, :] = NONE
        if orders[key] == NONE:
            orders[key] = age
            age += 1
        if is_inner or outer == NONE:
            last[c, 0], last[c, 1] = inner if is_inner else first_inside[c], orders[key]
        starts[key, row] = runs[1, r] + here
        there = _offset_inside(inside, first_inside[run_string[other]], key)
        starts[key, runs[0, other]] = runs[1, other] + there
    return starts, orders


@compiled
def _write(strings: Array, starts: Array, orders: Array, correct: Array, multipliers: Array) -> None:
    """Write the keys, oldest first: 0 where both classes are members, else the larger of what stands and the share."""
    num_correct = 0
    for flag in correct:
        num_correct += flag
    num_incorrect = len(correct) - num_correct
    by_age = np.full(orders.max() + 1, NONE, np.int32)
    for c in range(len(orders)):
        if orders[c] != NONE:
            by_age[orders[c]] = c
    for c in by_age:
        if c == NONE:
            continue
        correct_members, members = 0, 0
        for j in range(len(correct)):
            if starts[c, j] != NONE:
                members += 1
                correct_members += correct[j]
        is_shared = 0 < correct_members < members
        for j in range(len(correct)):
            start = starts[c, j]
            if start == NONE:
                continue
            share = 1.0 / (num_correct if correct[j] else num_incorrect)
            value = np.float32(share * members)
            for t in range(start, start + strings[c, LENGTH]):
                multipliers[t] = np.float32(0.0) if is_shared else max(multipliers[t], value)
