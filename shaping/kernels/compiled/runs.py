"""Compiled: thresholds and maximal low-entropy runs of one group.

The order statistic comes from a radix selection on the bits of the entropies: linear time, whatever the values.
Unsigned positions spare the check for negative ones, which keeps loops from running on vectors.
"""

import numpy as np

from shaping.kernels.compiled.jit import Array, compiled
from shaping.support import STRAY

# Bits 31..20 of a float32 are sign, exponent and three bits of the mantissa: eight bins per octave.
_TOP_SHIFT = 20
_TOP_BINS = 1 << 12
_LOW_BINS = 1 << 10
_BLOCK_BINS = 32


@compiled
def kth_smallest(values: Array, k: int, candidates: Array, bins: Array) -> np.float32:
    """The k-th smallest (0-based) of float32 values that are not NaN.

    Args:
        candidates: scratch, int32, at least as long as `values`.
        bins: scratch, [4096] int32.
    """
    bits = values.view(np.int32)
    sign = np.int32(0x7FFFFFFF)
    bins[:] = 0
    for i in range(len(bits)):
        # Signed integers in the order of the floats: the lower 31 bits of a negative number run backwards.
        key = bits[i] ^ ((bits[i] >> 31) & sign)
        bins[np.uint64((key >> _TOP_SHIFT) + (_TOP_BINS >> 1))] += 1
    top, rank = _find_bin(bins, k)
    wanted = np.int32(top - (_TOP_BINS >> 1))
    count = 0
    for i in range(len(bits)):
        key = bits[i] ^ ((bits[i] >> 31) & sign)
        candidates[count] = key
        count += (key >> _TOP_SHIFT) == wanted
    key = _kth_of_bin(candidates, count, rank, bins)
    candidates[0] = key ^ ((key >> 31) & sign)
    # Zero has two signs in bits; adding zero leaves one.
    return candidates[:1].view(np.float32)[0] + np.float32(0.0)


@compiled
def _find_bin(bins: Array, rank: int) -> tuple[int, int]:
    """The bin that holds the rank-th entry, and the entry's rank inside it; whole blocks are passed at once."""
    block = 0
    while True:
        total = 0
        for i in range(_BLOCK_BINS):
            total += bins[block + i]
        if rank < total:
            break
        rank -= total
        block += _BLOCK_BINS
    while rank >= bins[block]:
        rank -= bins[block]
        block += 1
    return block, rank


@compiled
def _kth_of_bin(keys: Array, count: int, rank: int, bins: Array) -> int:
    """The k-th smallest of keys with equal top bits, by their middle and then their last ten bits."""
    for shift in (10, 0):
        bins[:_LOW_BINS] = 0
        for i in range(count):
            bins[(keys[i] >> shift) & (_LOW_BINS - 1)] += 1
        digit, rank = _find_bin(bins, rank)
        kept = 0
        for i in range(count):
            key = keys[i]
            keys[kept] = key
            kept += ((key >> shift) & (_LOW_BINS - 1)) == digit
        count = kept
    return keys[0]


@compiled
def find_thresholds(entropies: Array, offsets: Array, quantile: float, whole_group: bool, thresholds: Array) -> None:
    """Fill [G] thresholds: of each response, or one of the whole group; 0 for an empty response."""
    num_tokens = len(entropies)
    size = len(offsets) - 1
    longest = num_tokens if whole_group else 0
    for i in range(size):
        longest = max(longest, offsets[i + 1] - offsets[i])
    candidates = np.empty(longest + 1, np.int32)
    bins = np.empty(_TOP_BINS, np.int32)
    if whole_group and num_tokens > 0:
        threshold = kth_smallest(entropies, rank_of(quantile, num_tokens), candidates, bins)
    for i in range(size):
        n = offsets[i + 1] - offsets[i]
        thresholds[i] = 0.0
        if n > 0 and whole_group:
            thresholds[i] = threshold
        elif n > 0:
            thresholds[i] = kth_smallest(entropies[offsets[i] : offsets[i + 1]], rank_of(quantile, n), candidates, bins)


@compiled
def rank_of(quantile: float, num_tokens: int) -> int:
    """round(quantile * n), at most n - 1; halves go to the even neighbour, as in Python."""
    return min(int(np.rint(quantile * num_tokens)), num_tokens - 1)


@compiled
def find_runs(
    entropies: Array,
    offsets: Array,
    thresholds: Array,
    min_length: int,
    inclusive: bool,
    codes: Array,
    low_ties: Array,
    runs: Array,
) -> int:
    """Mark low tokens as STRAY in `codes` [N] and write the runs.

    Args:
        low_ties: [2, G] int32, filled with the tokens at or below, and equal to, their threshold.
        inclusive: whether a token equal to the threshold belongs to a run.
        runs: [3, R] int32 with one spare column, filled with row, first and end position in the flat arrays.
    Returns:
        The number of runs.
    """
    edges = np.empty(len(codes) + 1, np.int32)
    count = 0
    for i in range(len(offsets) - 1):
        start, stop, limit = offsets[i], offsets[i + 1], thresholds[i]
        num_low, num_ties = 0, 0
        for t in range(np.uint64(start), np.uint64(stop)):
            codes[t] = STRAY if entropies[t] <= limit else 0
            num_low += entropies[t] <= limit
            num_ties += entropies[t] == limit
        low_ties[0, i], low_ties[1, i] = num_low, num_ties
        # At most the limit is below the next float32.
        below = np.nextafter(limit, np.float32(np.inf)) if inclusive else limit
        num_edges = _find_edges(entropies, start, stop, below, edges)
        for j in range(0, num_edges, 2):
            runs[0, count], runs[1, count], runs[2, count] = i, edges[j], edges[j + 1]
            count += edges[j + 1] - edges[j] >= min_length
    return count


@compiled
def _find_edges(entropies: Array, start: int, stop: int, limit: float, edges: Array) -> int:
    """Positions where tokens below and not below the limit meet, a closing one included.

    Without branches: nothing could predict them.
    """
    count, before = 0, 0
    for t in range(np.uint64(start), np.uint64(stop)):
        is_low = int(entropies[t] < limit)
        edges[count] = t
        count += is_low ^ before
        before = is_low
    edges[count] = stop
    return count + before
