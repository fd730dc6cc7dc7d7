"""Compiled: the distinct token strings among the runs of one group, and which of them lie inside which.

Equal runs become one string, number 0, 1, ... in order of first appearance. Every string is entered under the hash of
its first `min_length` tokens (its head); sliding over all positions of all strings finds the longest string that starts
at each. Other strings that start there are prefixes of it, reached through prefix links. Hashes only propose: tokens
decide. At one position at most as many lengths are tried as strings with that head have: at most N sqrt(2 N) probes for
N tokens, and a handful in text. Looping text costs no more: a string that overlaps itself is compared only once.
"""

import numpy as np

from shaping.kernels.compiled.jit import Array, compiled

NONE = -1

# Columns of a string: where its first run starts, its tokens, where that run's prefix hashes start, its hash.
START, LENGTH, AT, HASH = range(4)

# Columns of a node: a head and a length that strings with this head have, the node of the next shorter length, and the
# string that has both, or NONE where several have; that string's start and hash.
_HEAD, _SIZE, _NEXT, _STRING, _STRING_START, _STRING_HASH = range(6)

# Base of the polynomial hash modulo 2**64, its inverse, and the multiplier that spreads a hash over a table (2**64 over
# the golden ratio); as signed integers, whose products wrap alike.
_BASE = np.int64(0xD6E8FEB86659FD93 - (1 << 64))
_INVERSE = np.uint64(pow(0xD6E8FEB86659FD93, -1, 1 << 64)).astype(np.int64)
_SPREAD = np.int64(0x9E3779B97F4A7C15 - (1 << 64))

# From this length on it pays to remember where a string was found last.
_LONG_TOKENS = 64


@compiled
def _top_bits(value: int, shift: int) -> int:
    """The bits of a spread hash above `shift`."""
    return np.int64(np.uint64(value * _SPREAD) >> np.uint64(shift))


@compiled
def table_bits(num_entries: int) -> int:
    """Bits of the smallest power of two that is at least twice the entries."""
    bits = 4
    while (1 << bits) < 2 * num_entries:
        bits += 1
    return bits


@compiled
def _powers(base: int, count: int) -> Array:
    """[count] int64: base ** i modulo 2**64."""
    out = np.empty(count, np.int64)
    value = np.int64(1)
    for i in range(count):
        out[i] = value
        value *= base
    return out


@compiled
def inverse_powers(count: int) -> Array:
    """[count] int64: _INVERSE ** i, for the hash of a window i tokens behind its run's start."""
    return _powers(_INVERSE, count)


@compiled
def longest_run(runs: Array, num_runs: int) -> int:
    longest = 0
    for r in range(num_runs):
        longest = max(longest, runs[2, r] - runs[1, r])
    return longest


@compiled
def same_tokens(tokens: Array, a: int, b: int, length: int) -> bool:
    """Whether two stretches of tokens are equal. The last block overlaps the one before it instead of a short rest."""
    difference = 0
    if length < 4:
        for i in range(length):
            difference |= tokens[a + i] ^ tokens[b + i]
        return difference == 0
    i = 0
    while difference == 0 and i < length - 4:
        difference = four_differ(tokens, a + i, b + i)
        i += 4
    return difference == 0 and four_differ(tokens, a + length - 4, b + length - 4) == 0


@compiled
def four_differ(tokens: Array, a: int, b: int) -> int:
    """Not 0 where four tokens differ; without branches, since they nearly always are equal."""
    return (
        (tokens[a] ^ tokens[b])
        | (tokens[a + 1] ^ tokens[b + 1])
        | (tokens[a + 2] ^ tokens[b + 2])
        | (tokens[a + 3] ^ tokens[b + 3])
    )


@compiled
def occurs(tokens: Array, start: int, length: int, t: int, string: int, seen: Array) -> bool:
    """Whether the string at `start` stands at t too; asked at rising t, linear in the text, however it loops.

    Args:
        seen: [C, 2] of each string, where it was found last and a shift by which it overlaps itself; NONE at first.
            A string found again before it ended overlaps itself by that shift, and only its end is new.
    """
    if length < _LONG_TOKENS:
        return same_tokens(tokens, start, t, length)
    shift = t - seen[string, 0]
    if seen[string, 0] == NONE or not 0 < shift < length:
        is_found = same_tokens(tokens, start, t, length)
    elif shift == seen[string, 1] or same_tokens(tokens, start, start + shift, length - shift):
        seen[string, 1] = shift
        is_found = same_tokens(tokens, start + length - shift, t + length - shift, shift)
    else:
        is_found = False
    if is_found:
        seen[string, 0] = t
    return is_found


@compiled
def hash_runs(tokens: Array, runs: Array, num_runs: int, prefix: Array) -> None:
    """Fill prefix hashes [N + G] of every run: entry t + row sums token * _BASE ** i over the run's tokens before t.

    The tokens [t, t + n) of a run that starts at s have the hash (entry of t + n - entry of t) * _INVERSE ** (t - s).
    The row in the index keeps apart runs that touch where one response ends and the next begins.
    """
    weights = _powers(_BASE, longest_run(runs, num_runs))
    for r in range(num_runs):
        start, length = np.uint64(runs[1, r]), np.uint64(runs[2, r] - runs[1, r])
        at = start + np.uint64(runs[0, r])
        value = np.int64(0)
        for i in range(length):
            prefix[at + i] = value
            value += (np.int64(tokens[start + i]) + 1) * weights[i]
        prefix[at + length] = value


@compiled
def find_string(tokens: Array, value: int, start: int, length: int, strings: Array, table: Array, shift: int) -> int:
    """The slot of `table` that holds the string equal to tokens [start, start + length), or the free slot for it."""
    mask = len(table) - 1
    slot = _top_bits(value, shift)
    string = np.int64(table[slot])
    while string != NONE and not (
        strings[string, HASH] == value
        and strings[string, LENGTH] == length
        and same_tokens(tokens, strings[string, START], start, length)
    ):
        slot = (slot + 1) & mask
        string = np.int64(table[slot])
    return slot


@compiled
def intern_runs(
    tokens: Array, runs: Array, num_runs: int, prefix: Array, run_string: Array
) -> tuple[Array, Array, int]:
    """Number the distinct strings.

    Args:
        run_string: [R] int32, filled with the string of each run.
    Returns:
        The strings [C, 4] int64, see the columns above; their hash table, and its shift.
    """
    bits = table_bits(num_runs)
    shift = 64 - bits
    table = np.full(1 << bits, NONE, np.int32)
    strings = np.empty((num_runs, 4), np.int64)
    count = 0
    for r in range(num_runs):
        start, length = np.int64(runs[1, r]), np.int64(runs[2, r] - runs[1, r])
        at = start + runs[0, r]
        value = prefix[at + length]
        slot = find_string(tokens, value, start, length, strings, table, shift)
        if table[slot] == NONE:
            table[slot] = count
            strings[count, START], strings[count, LENGTH] = start, length
            strings[count, AT], strings[count, HASH] = at, value
            count += 1
        run_string[r] = table[slot]
    return strings[:count], table, shift


@compiled
def order_by_length(strings: Array) -> Array:
    """[C] int32: strings in ascending order of length, equal lengths in order of number."""
    longest = 0
    for c in range(len(strings)):
        longest = max(longest, strings[c, LENGTH])
    places = np.zeros(longest + 2, np.int32)
    for c in range(len(strings)):
        places[strings[c, LENGTH] + 1] += 1
    for n in range(longest + 1):
        places[n + 1] += places[n]
    order = np.empty(len(strings), np.int32)
    for c in range(len(strings)):
        n = strings[c, LENGTH]
        order[places[n]] = c
        places[n] += 1
    return order


@compiled
def _index_heads(strings: Array, prefix: Array, order: Array, min_length: int) -> tuple[Array, Array, Array, int]:
    """Lengths of strings by the hash of their first `min_length` tokens.

    Returns:
        first [slots] int32: open hash table from head to its longest node, or NONE; nodes [C, 6] int64, see the columns
        above; shorter [C] int32: for each string the node of the next shorter length with its head; the table's shift.
    """
    bits = table_bits(len(order))
    shift, mask = 64 - bits, (1 << bits) - 1
    first = np.full(1 << bits, NONE, np.int32)
    nodes = np.empty((len(order), 6), np.int64)
    shorter = np.empty(len(order), np.int32)
    count = 0
    for c in order:
        head = prefix[strings[c, AT] + min_length]
        slot = _top_bits(head, shift)
        while first[slot] != NONE and nodes[first[slot], _HEAD] != head:
            slot = (slot + 1) & mask
        top = first[slot]
        if top == NONE or nodes[top, _SIZE] != strings[c, LENGTH]:
            nodes[count, _HEAD], nodes[count, _SIZE], nodes[count, _NEXT] = head, strings[c, LENGTH], top
            nodes[count, _STRING] = c
            nodes[count, _STRING_START], nodes[count, _STRING_HASH] = strings[c, START], strings[c, HASH]
            first[slot] = top = count
            count += 1
        else:
            nodes[top, _STRING] = NONE
        shorter[c] = nodes[top, _NEXT]
    return first, nodes, shorter, shift


@compiled
def find_matches(
    tokens: Array, prefix: Array, strings: Array, table: Array, shift: int, order: Array, min_length: int
) -> tuple[Array, Array, Array]:
    """Which string is the longest at each position of each string.

    Returns:
        links [C] int32: the longest proper prefix of a string that is a string too, or NONE; matches [2, M] int32:
        position in the flat arrays and string found there, for positions behind the first, by string and position;
        first_match [C + 1] int64: where a string's matches begin.
    """
    count = len(order)
    first, nodes, shorter, head_shift = _index_heads(strings, prefix, order, min_length)
    inverses = inverse_powers(strings[order[count - 1], LENGTH])
    links = np.full(count, NONE, np.int32)
    for c in range(count):
        if shorter[c] != NONE:
            start, at, room = strings[c, START], strings[c, AT], strings[c, LENGTH] - 1
            links[c] = _longest_at(tokens, prefix, start, at, room, 1, shorter[c], nodes, strings, table, shift)
    matches = _candidates(prefix, strings, min_length, inverses)
    first_match = np.zeros(count + 1, np.int64)
    num_matches, mask = 0, len(first) - 1
    seen = np.full((count, 2), NONE, np.int64)
    for i in range(matches.shape[1]):
        t, c = np.int64(matches[0, i]), np.int64(matches[1, i])
        offset = t - strings[c, START]
        at, room = strings[c, AT] + offset, strings[c, LENGTH] - offset
        before, inverse = prefix[at], inverses[offset]
        head = (prefix[at + min_length] - before) * inverse
        slot = _top_bits(head, head_shift)
        while first[slot] != NONE and nodes[first[slot], _HEAD] != head:
            slot = (slot + 1) & mask
        # The loop of _longest_at, which would cost a call with many arrays here.
        node, found = np.int64(first[slot]), NONE
        while node != NONE and found == NONE:
            n = nodes[node, _SIZE]
            if n <= room:
                value = (prefix[at + n] - before) * inverse
                if nodes[node, _STRING] == NONE:
                    found = np.int64(table[find_string(tokens, value, t, n, strings, table, shift)])
                elif nodes[node, _STRING_HASH] == value:
                    string = nodes[node, _STRING]
                    if occurs(tokens, nodes[node, _STRING_START], n, t, string, seen):
                        found = string
            node = nodes[node, _NEXT]
        # Written over candidates that were read already.
        matches[0, num_matches], matches[1, num_matches] = t, found
        num_matches += found != NONE
        first_match[c + 1] = num_matches
    for c in range(count):
        first_match[c + 1] = max(first_match[c + 1], first_match[c])
    return links, matches[:, :num_matches], first_match


@compiled
def _longest_at(
    tokens: Array,
    prefix: Array,
    t: int,
    at: int,
    room: int,
    inverse: int,
    first_node: int,
    nodes: Array,
    strings: Array,
    table: Array,
    shift: int,
) -> int:
    """The longest string of at most `room` tokens at position t, among the lengths from a node on; or NONE."""
    found, node = NONE, np.int64(first_node)
    while node != NONE and found == NONE:
        n = nodes[node, _SIZE]
        if n <= room:
            value = (prefix[at + n] - prefix[at]) * inverse
            if nodes[node, _STRING] == NONE:
                found = np.int64(table[find_string(tokens, value, t, n, strings, table, shift)])
            elif nodes[node, _STRING_HASH] == value and same_tokens(tokens, nodes[node, _STRING_START], t, n):
                found = nodes[node, _STRING]
        node = nodes[node, _NEXT]
    return found


@compiled
def _candidates(prefix: Array, strings: Array, min_length: int, inverses: Array) -> Array:
    """[2, K] int32: position and string of places behind a string's start where the head of a string may be.

    Found without branches, which nothing could predict.
    """
    words = _filter_heads(strings, prefix, min_length)
    num_places = 1
    for c in range(len(strings)):
        num_places += strings[c, LENGTH] - min_length
    candidates = np.empty((2, num_places), np.int32)
    count, width = 0, np.uint64(min_length)
    for c in range(len(strings)):
        start, at = np.uint64(strings[c, START]), np.uint64(strings[c, AT])
        for offset in range(np.uint64(1), np.uint64(strings[c, LENGTH] - min_length + 1)):
            before = prefix[at + offset]
            head = _top_bits((prefix[at + offset + width] - before) * inverses[offset], 49)
            candidates[0, count], candidates[1, count] = start + offset, c
            count += (words[head >> 3] >> (head & 7)) & 1
    return candidates[:, :count]


@compiled
def _filter_heads(strings: Array, prefix: Array, min_length: int) -> Array:
    """[4096] uint8 with one bit for each value of a head's top fifteen bits: no bit, no such head."""
    words = np.zeros(1 << 12, np.uint8)
    for c in range(len(strings)):
        head = _top_bits(prefix[strings[c, AT] + min_length], 49)
        words[head >> 3] |= np.uint8(1 << (head & 7))
    return words
