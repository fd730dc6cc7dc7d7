"""The proof at start: what log-prob and entropy must be, computed from full distributions by other means.

Pure numpy in float64; shares no code with any sampler.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shaping.checks import FloatArray, IntArray
from shaping.errors import EngineRefused
from shaping.records import EntropySource, Sampling

NUCLEUS_EDGE = 1e-5
"""A sampler sums probabilities in float32; a token this close to the edge of the nucleus may be in or out."""

MIN_PROOF_TOKENS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofResult:
    """Largest differences in nats over the tokens compared."""

    max_logprob_error: float
    max_entropy_error: float
    num_tokens: int


def prove(
    *,
    raw_logprobs: NDArray[np.float64],
    expected_ids: IntArray,
    response_ids: IntArray,
    behavior_logprobs: FloatArray,
    entropies: FloatArray,
    sampling: Sampling,
    max_error: float,
) -> ProofResult:
    """Compare an engine's numbers with those that follow from the model's full distribution.

    Args:
        raw_logprobs: [T, V], log softmax of the model's logits at temperature 1, from the independent computation.
        expected_ids: [T] int32, tokens that the independent computation sampled with the same seed.
        response_ids, behavior_logprobs, entropies: [T], what the engine reports.
        max_error: largest difference accepted, nats.
    Raises:
        EngineRefused: fewer than two common tokens, or a larger difference.
    """
    same = np.flatnonzero(expected_ids != response_ids[: len(expected_ids)])
    num_tokens = int(same[0]) if len(same) else len(expected_ids)
    if num_tokens < MIN_PROOF_TOKENS:
        raise EngineRefused(
            f"one seed must give the same tokens twice, found {response_ids.tolist()} and {expected_ids.tolist()} "
            "(proof at start): sampling is not reproducible on this device"
        )
    candidates = np.stack(
        [
            _expected(raw_logprobs[:num_tokens], response_ids[:num_tokens], sampling, top_p)
            for top_p in _nucleus_edges(sampling.top_p)
        ]
    )
    found = np.stack([behavior_logprobs[:num_tokens], entropies[:num_tokens]], axis=1).astype(np.float64)
    errors = np.abs(candidates - found)
    best = errors[errors.max(axis=2).argmin(axis=0), np.arange(num_tokens)]
    result = ProofResult(
        max_logprob_error=float(best[:, 0].max()), max_entropy_error=float(best[:, 1].max()), num_tokens=num_tokens
    )
    if not (result.max_logprob_error <= max_error and result.max_entropy_error <= max_error):
        raise EngineRefused(
            f"log-probs and entropies must be right within {max_error:g} nats, found errors of "
            f"{result.max_logprob_error:.3g} and {result.max_entropy_error:.3g} over {num_tokens} tokens (proof at "
            "start): this engine's sampler does not report what it samples from"
        )
    return result


def processed_logprobs(
    raw_logprobs: NDArray[np.float64], *, temperature: float, top_k: int, top_p: float
) -> NDArray[np.float64]:
    """Log-probs [T, V] of the distribution sampled from: temperature, top-k (ties kept), then top-p.

    Top-p keeps the smallest set of most likely tokens whose probability reaches it, at least one token.
    """
    scaled = np.asarray(raw_logprobs, dtype=np.float64) / temperature
    if 0 < top_k < scaled.shape[1]:
        kth = np.sort(scaled, axis=1)[:, -top_k, None]
        scaled = np.where(scaled < kth, -np.inf, scaled)
    scaled = _normalised(scaled)
    if top_p < 1:
        order = np.argsort(-scaled, axis=1, kind="stable")
        ordered = np.exp(np.take_along_axis(scaled, order, axis=1))
        before = np.cumsum(ordered, axis=1) - ordered
        kept = np.zeros_like(scaled, dtype=np.bool_)
        np.put_along_axis(kept, order, before < top_p, axis=1)
        scaled = _normalised(np.where(kept, scaled, -np.inf))
    return scaled


def entropy(logprobs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy in nats of each row [T, V] of log-probs; -inf entries count 0."""
    probabilities = np.exp(logprobs)
    result: NDArray[np.float64] = -(probabilities * np.where(probabilities > 0, logprobs, 0.0)).sum(axis=1)
    return result


def _expected(
    raw_logprobs: NDArray[np.float64], ids: IntArray, sampling: Sampling, top_p: float
) -> NDArray[np.float64]:
    """[T, 2]: log-prob and entropy of each token."""
    processed = processed_logprobs(raw_logprobs, temperature=sampling.temperature, top_k=sampling.top_k, top_p=top_p)
    source = processed
    if sampling.entropy_source is EntropySource.RAW:
        source = _normalised(np.asarray(raw_logprobs, dtype=np.float64))
    return np.stack([processed[np.arange(len(ids)), ids], entropy(source)], axis=1)


def _nucleus_edges(top_p: float) -> tuple[float, ...]:
    return (top_p,) if top_p == 1 else (top_p, top_p - NUCLEUS_EDGE, min(top_p + NUCLEUS_EDGE, 1 - 1e-12))


def _normalised(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
