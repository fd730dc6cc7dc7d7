"""Compiled: support by k-grams: every stretch of `min_length` tokens inside a run is a string of its own."""

import numpy as np

from shaping.kernels.compiled.jit import Array, compiled
from shaping.kernels.compiled.strings import (
    HASH,
    LENGTH,
    NONE,
    START,
    find_string,
    hash_runs,
    inverse_powers,
    longest_run,
    table_bits,
)
from shaping.kernels.compiled.support import class_masks, count_holders, own_masks, value_of
from shaping.support import SHARED


@compiled
def find_gram_support(
    tokens: Array,
    runs: Array,
    num_runs: int,
    correct: Array,
    min_length: int,
    prefix: Array,
    codes: Array,
    holders: Array,
) -> None:
    """Support of the runs, and of the tokens they cover; arguments as of `compiled.support.find_support`.

    A run's holders are, per class, the most that one of its grams has.
    """
    size, total = len(correct), 0
    for r in range(num_runs):
        total += runs[2, r] - runs[1, r] - min_length + 1
    grams, rows = np.empty(total, np.int32), np.empty(total, np.int32)
    count = _number_grams(tokens, runs, num_runs, min_length, prefix, grams, rows)
    gram_holders = np.empty((2, count), np.int32)
    count_holders(own_masks(rows, grams, total, count, size), class_masks(correct), gram_holders)
    top, place = size + 1, 0
    reach = np.empty(top + 1, np.int32)
    for r in range(num_runs):
        reach[:] = 0
        holders[0, r], holders[1, r], level = 0, 0, 0
        for t in range(runs[1, r], runs[2, r]):
            if t + min_length <= runs[2, r]:
                gram = grams[place]
                place += 1
                holders[0, r] = max(holders[0, r], gram_holders[0, gram])
                holders[1, r] = max(holders[1, r], gram_holders[1, gram])
                value = value_of(gram_holders[0, gram], gram_holders[1, gram], top)
                reach[value] = t + min_length
                level = max(level, value)
            while reach[level] <= t:
                level -= 1
            codes[t] = SHARED if level == top else level


@compiled
def _number_grams(
    tokens: Array, runs: Array, num_runs: int, min_length: int, prefix: Array, grams: Array, rows: Array
) -> int:
    """Fill the number of the distinct gram, and the row, of every position; the number of distinct grams."""
    hash_runs(tokens, runs, num_runs, prefix)
    inverses = inverse_powers(longest_run(runs, num_runs))
    bits = table_bits(len(grams))
    table = np.full(1 << bits, NONE, np.int32)
    strings = np.empty((len(grams), 4), np.int64)
    count, place = 0, 0
    for r in range(num_runs):
        row, start = np.int64(runs[0, r]), np.int64(runs[1, r])
        for t in range(start, runs[2, r] - min_length + 1):
            value = (prefix[t + row + min_length] - prefix[t + row]) * inverses[t - start]
            slot = find_string(tokens, value, t, min_length, strings, table, 64 - bits)
            if table[slot] == NONE:
                table[slot] = count
                strings[count, START], strings[count, LENGTH], strings[count, HASH] = t, min_length, value
                count += 1
            grams[place], rows[place] = table[slot], row
            place += 1
    return count
