"""What the top-k log-probs of a distribution say of its entropy: the least and the most that the rest can add.

With p the listed probabilities, p_k the smallest of them and q = 1 - sum p the tail's mass, the listed part is
-sum p ln p, and each of the other V - k tokens has at most p_k. Entropy is concave, so the tail adds
least where its mass sits on as few tokens as p_k allows: n = floor(q / p_k) of them at p_k and one with what is left,
    -n p_k ln p_k - r ln r, r = q - n p_k;
most where it is spread evenly over all of them: -q ln(q / (V - k)). Knows no tokens and no responses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shaping.checks import FloatArray

MASS_SLACK = 1e-3
"""Listed probabilities may add up to this much above 1: log-probs that were rounded to bfloat16 do."""

ENGINES = "list the k largest alone (some engines add the sampled token)"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntropyBounds:
    """Least and greatest entropy of each token's distribution, [T] float32 nats; no upper one without a vocabulary."""

    lower: FloatArray
    upper: FloatArray | None


def bound_entropies(top_logprobs: Sequence[Sequence[float]], *, vocab_size: int | None) -> EntropyBounds:
    """Bounds of the entropies of one response.

    Args:
        top_logprobs: [T], each the natural logs of the k largest probabilities in falling order; k is the same for all
            tokens, except that a list which holds the whole distribution may be shorter.
        vocab_size: V, tokens of the distribution; None: unknown, and the entropy has no upper bound.
    Raises:
        ValueError: an empty list, log-probs above 0, not finite or not falling, a sum above 1, fewer log-probs than
            other tokens have without being the whole distribution, or more mass than V tokens can hold.
    """
    if not top_logprobs:
        none = np.zeros(0, np.float32)
        return EntropyBounds(lower=none, upper=none if vocab_size is not None else None)
    sizes = np.array([len(row) for row in top_logprobs])
    _refuse(sizes == 0, "must hold at least one log-prob, found none")
    logprobs = np.full((len(sizes), sizes.max()), -np.inf)
    listed = np.arange(sizes.max()) < sizes[:, None]
    logprobs[listed] = np.concatenate([np.asarray(row, np.float64) for row in top_logprobs])
    probabilities, tail = _masses(logprobs, listed, sizes)
    inside = -_times_log(probabilities).sum(axis=1)
    smallest = probabilities[np.arange(len(sizes)), sizes - 1]
    lower = inside + _least_tail(tail, smallest)
    if vocab_size is None:
        return EntropyBounds(lower=lower.astype(np.float32), upper=None)
    num_others = vocab_size - sizes
    _refuse(num_others < 0, f"must hold at most vocab_size = {vocab_size} log-probs, found more")
    _refuse(
        tail > num_others * smallest + MASS_SLACK,
        f"must leave no more mass than the other tokens of vocab_size = {vocab_size} can hold at the smallest listed "
        "probability each",
    )
    upper = inside - _times_log(tail) + tail * np.log(np.maximum(num_others, 1))
    # With a tail of rounding errors alone the even spread can come out a hair below the least one.
    return EntropyBounds(lower=lower.astype(np.float32), upper=np.maximum(lower, upper).astype(np.float32))


def _masses(logprobs: Floats, listed: NDArray[np.bool_], sizes: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Listed probabilities [T, k], 0 where none is listed, and the tail's mass [T]."""
    finite = np.isfinite(logprobs) | ~listed
    _refuse((~finite).any(axis=1), "must be finite, found NaN or infinity; leave out tokens of probability 0")
    _refuse((logprobs > MASS_SLACK).any(axis=1), "must be <= 0, found more")
    rises = (logprobs[:, 1:] > logprobs[:, :-1]).any(axis=1)
    _refuse(
        rises,
        f"must fall from the largest, found one that rises; {ENGINES}",
    )
    probabilities = np.exp(logprobs)
    total = probabilities.sum(axis=1)
    _refuse(total > 1 + MASS_SLACK, "must add up to at most 1 as probabilities, found more")
    _refuse(
        (sizes < sizes.max()) & (total < 1 - MASS_SLACK),
        f"must be {sizes.max()} for every token of the response unless they are the whole distribution, found fewer; "
        f"{ENGINES}",
    )
    return probabilities, np.maximum(0.0, 1.0 - total)


def _least_tail(tail: Floats, smallest: Floats) -> Floats:
    """[T] nats: the tail's mass on as few tokens as the smallest listed probability allows."""
    # A probability may underflow to 0; then nothing but rounding is left for the tail.
    count = np.floor(np.divide(tail, smallest, out=np.zeros_like(tail), where=smallest > 0))
    rest = np.maximum(0.0, tail - count * smallest)
    return np.asarray(-count * _times_log(smallest) - _times_log(rest))


def _times_log(values: Floats) -> Floats:
    """x ln x, 0 at 0."""
    return np.asarray(values * np.log(np.where(values > 0, values, 1.0)))


def _refuse(wrong: Any, rule: str) -> None:
    """Refuse the first token that `wrong` [T] bool names."""
    if wrong.any():
        raise ValueError(f"top_logprobs {rule} (token {int(np.flatnonzero(wrong)[0])})")
