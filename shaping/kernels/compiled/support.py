"""Compiled: support of every string of one group by containment, painted on its tokens.

Who holds a string is a bit mask of responses, as many words as the group needs.
"""

import numpy as np

from shaping.kernels.compiled.jit import Array, Word, compiled
from shaping.kernels.compiled.strings import LENGTH, NONE, START, find_matches, hash_runs, intern_runs, order_by_length
from shaping.support import SHARED


@compiled
def _num_bits(word: Word) -> int:
    """Bits set in a uint64 (Warren, Hacker's Delight)."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled
def class_masks(correct: Array) -> Array:
    """[words] uint64: bit i is set where response i is correct."""
    words = np.zeros((len(correct) + 63) // 64, np.uint64)
    for i in range(len(correct)):
        if correct[i]:
            words[i // 64] |= np.uint64(1) << np.uint64(i % 64)
    return words


@compiled
def own_masks(rows: Array, run_string: Array, num_runs: int, count: int, size: int) -> Array:
    """[C, words] uint64: the responses in which a string is a run."""
    masks = np.zeros((count, (size + 63) // 64), np.uint64)
    for r in range(num_runs):
        masks[run_string[r], rows[r] // 64] |= np.uint64(1) << np.uint64(rows[r] % 64)
    return masks


@compiled
def count_holders(masks: Array, correct_words: Array, holders: Array) -> None:
    """Fill [2, C] int32: correct and incorrect responses in each mask."""
    for c in range(masks.shape[0]):
        num_correct, total = 0, 0
        for w in range(masks.shape[1]):
            total += _num_bits(masks[c, w])
            num_correct += _num_bits(masks[c, w] & correct_words[w])
        holders[0, c], holders[1, c] = num_correct, total - num_correct


@compiled
def value_of(num_correct: int, num_incorrect: int, top: int) -> int:
    """What a string is worth where several cover a token: `top` if shared, above any count; else its support."""
    return top if num_correct > 0 and num_incorrect > 0 else num_correct + num_incorrect


@compiled
def find_support(
    tokens: Array,
    runs: Array,
    num_runs: int,
    correct: Array,
    min_length: int,
    prefix: Array,
    codes: Array,
    holders: Array,
) -> None:
    """Support of the runs, and of the tokens they cover.

    Args:
        prefix: scratch, [N + G] int64.
        codes: [N] int32, filled where runs are; see `GroupSupport.token_support`.
        holders: [2, R] int32, filled with the correct and incorrect responses that hold each run's string.
    """
    size = len(correct)
    hash_runs(tokens, runs, num_runs, prefix)
    run_string = np.empty(num_runs, np.int32)
    strings, table, shift = intern_runs(tokens, runs, num_runs, prefix, run_string)
    count, order = len(strings), order_by_length(strings)
    links, matches, first_match = find_matches(tokens, prefix, strings, table, shift, order, min_length)
    masks = own_masks(runs[0], run_string, num_runs, count, size)
    _spread(masks, links, matches, first_match, order)
    string_holders = np.empty((2, count), np.int32)
    count_holders(masks, class_masks(correct), string_holders)
    values = np.empty(count, np.int32)
    for c in range(count):
        values[c] = value_of(string_holders[0, c], string_holders[1, c], size + 1)
    _paint_strings(strings, values, links, matches, first_match, order, size, codes)
    for r in range(num_runs):
        c = run_string[r]
        holders[0, r], holders[1, r] = string_holders[0, c], string_holders[1, c]
        shift_to = runs[1, r] - strings[c, START]
        if shift_to != 0:
            for t in range(strings[c, START], strings[c, START] + strings[c, LENGTH]):
                codes[t + shift_to] = codes[t]


@compiled
def _spread(masks: Array, links: Array, matches: Array, first_match: Array, order: Array) -> None:
    """Who holds a string as a run holds all strings inside it: matches first, then prefixes, longest first."""
    own = masks.copy()
    for c in range(masks.shape[0]):
        for m in range(first_match[c], first_match[c + 1]):
            for w in range(masks.shape[1]):
                masks[matches[1, m], w] |= own[c, w]
    for i in range(len(order) - 1, -1, -1):
        c = order[i]
        if links[c] != NONE:
            for w in range(masks.shape[1]):
                masks[links[c], w] |= masks[c, w]


@compiled
def _paint_strings(
    strings: Array,
    values: Array,
    links: Array,
    matches: Array,
    first_match: Array,
    order: Array,
    size: int,
    codes: Array,
) -> None:
    """Paint the first run of every string with the best value of all strings that cover a token there.

    Strings found inside a string are held by at least its holders, so its own value is the least that a token gets.
    """
    count, top = len(values), size + 1
    # The nearest prefix that is worth more; prefixes in between add nothing.
    better = np.full(count, NONE, np.int32)
    for c in order:
        link = links[c]
        if link != NONE:
            better[c] = link if values[link] > values[c] else better[link]
    reach = np.zeros(top + 1, np.int32)
    for c in range(count):
        start, stop = strings[c, START], strings[c, START] + strings[c, LENGTH]
        base = values[c]
        code = SHARED if base == top else base
        for t in range(np.uint64(start), np.uint64(stop)):
            codes[t] = code
        if base < top and (better[c] != NONE or first_match[c] < first_match[c + 1]):
            reach[:] = 0
            _sweep(c, strings, values, better, matches, first_match, reach, codes)


@compiled
def _sweep(
    c: int,
    strings: Array,
    values: Array,
    better: Array,
    matches: Array,
    first_match: Array,
    reach: Array,
    codes: Array,
) -> None:
    """Repaint one string where strings inside it are worth more; reach[v] is how far those worth v have covered."""
    start, stop = np.int64(strings[c, START]), np.int64(strings[c, START] + strings[c, LENGTH])
    m, last = first_match[c], first_match[c + 1]
    top, base = len(reach) - 1, values[c]
    node, t, level = better[c], start, np.int64(base)
    while True:
        while node != NONE:
            value = np.int64(values[node])
            reach[value] = max(reach[value], t + strings[node, LENGTH])
            level = max(level, value)
            node = better[node]
        # Paint up to the next string found, or as far as those found so far reach.
        until = np.int64(matches[0, m]) if m < last else stop
        while t < until and level > base:
            if reach[level] <= t:
                level -= 1
                continue
            codes[t] = SHARED if level == top else level
            t += 1
        if m == last:
            return
        t, node = until, matches[1, m]
        if values[node] == base:
            node = better[node]
        m += 1
