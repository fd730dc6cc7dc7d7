"""The compiled loop of `softmax_rows`: float32 logits in main memory in, normalisers and entropies out; one thread."""

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

FLOOR = -87.0
"""Nats below the row's largest logit at which a token counts nothing: e^-87 is the least normal float32. Also what
stands in for -inf, whose product with a probability of 0 would be nan."""

BLOCK = 4096
"""Numbers added up in float32, before float64 takes over."""


@numba.njit(nogil=True)
def fill_rows(
    flat: NDArray[np.float32],
    stride: int,
    width: int,
    peaks: NDArray[np.float32],
    normalisers: NDArray[np.float64],
    entropies: NDArray[np.float32],
) -> None:
    """Fill [n] normalisers and entropies, nan where the largest logit is not finite.

    Args:
        flat: every row and what lies between them; row i is `flat[i * stride : i * stride + width]`.
        peaks: [n], the largest logit of each row, nan where the row holds nan.
    """
    for i in range(len(peaks)):
        if not math.isfinite(peaks[i]):
            normalisers[i] = np.nan
            entropies[i] = np.nan
            continue
        total, weighted = 0.0, 0.0
        for start in range(i * stride, i * stride + width, BLOCK):
            stop = min(start + BLOCK, i * stride + width)
            block_total, block_weighted = add_block(flat[start:stop], peaks[i])
            total += block_total
            weighted += block_weighted
        log_total = math.log(total)
        normalisers[i] = peaks[i] + log_total
        entropies[i] = log_total - weighted / total


@numba.njit(nogil=True, fastmath={"reassoc", "contract", "nsz", "nnan"})
def add_block(logits: NDArray[np.float32], peak: np.float32) -> tuple[Any, Any]:
    """Sums of e^d and of d e^d over d = logit - peak <= 0, in float32.

    e^d = 2^k e^r with k whole and |r| <= ln(2)/2: Cephes' expf (Moshier), within 2 units in the last place. ln 2 is
    taken off in two parts, the first of few bits, so that r keeps all of its own.
    """
    total, weighted = np.float32(0.0), np.float32(0.0)
    for j in range(len(logits)):
        d = logits[j] - peak
        d = d if d > np.float32(FLOOR) else np.float32(FLOOR)
        k = np.rint(d * np.float32(1.44269504088896341))
        r = d - k * np.float32(0.693359375) - k * np.float32(-2.12194440e-4)
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        p = p * r * r + r + np.float32(1.0)
        power = np.int32((np.int32(k) + np.int32(127)) << np.int32(23)).view(np.float32)
        weight = p * power
        total += weight
        weighted += weight * d
    return total, weighted
