"""Synthetic groups that look like reasoning text to LESS: phrases of low entropy between forks of high entropy.

Phrases come from a pool that the responses of a group have in common, with a few tokens of each occurrence changed;
some phrases belong to one class of responses, and some are new. Statistics of `typical` (less.md section 3): 80 % of
the tokens lie below the threshold and 65 % in runs of 5 or more, which are 10.5 tokens long on average; the 99th
percentile of all runs is 27. No real rollouts were measured: how much responses have in common is a guess.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, FloatArray, IntArray

Group = tuple[list[IntArray], list[FloatArray], BoolArray]
"""Responses [T] int32, their entropies [T] float32 nats, and which responses are correct [G] bool."""

VOCAB_SIZE = 3000
MIN_PHRASE_TOKENS = 3
LOOP_PERIOD = 7
SIDED_SHARE = 0.3
"""Share of the pool that belongs to correct responses; as much belongs to incorrect ones."""
FOREIGN_WEIGHT = 0.05
"""Weight of a phrase in the other class, beside 1 in its own."""
ZIPF_EXPONENT = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """How the responses of a group are written.

    Args:
        num_phrases: size of the group's pool.
        new_share: share of phrases that are in no pool.
        changed_share: share of phrase tokens replaced by another one.
        mean_phrase_tokens, max_phrase_tokens: geometric length, cut at both ends.
        mean_fork_tokens: geometric number of high-entropy tokens between phrases, at least 1.
        surprise_share: share of phrase tokens that are of high entropy.
        loops: the first response repeats its opening tokens through its second half.
    """

    num_phrases: int = 150
    new_share: float = 0.35
    changed_share: float = 0.02
    mean_phrase_tokens: float = 10.0
    max_phrase_tokens: int = 60
    mean_fork_tokens: float = 1.6
    surprise_share: float = 0.04
    loops: bool = False


REGIMES = {
    "typical": Regime(),
    "low_share": Regime(num_phrases=400, new_share=0.9),
    "high_share": Regime(num_phrases=60, new_share=0.05, changed_share=0.005),
    "long_runs": Regime(mean_phrase_tokens=25.0, max_phrase_tokens=150, mean_fork_tokens=5.0, surprise_share=0.01),
    "loop": Regime(loops=True),
}


@dataclass(frozen=True, slots=True)
class _Pool:
    """Phrases one after another; per class (incorrect, correct) the cumulative probability of each."""

    tokens: IntArray
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    cumulative: NDArray[np.float64]


def make_group(regime: Regime, num_tokens: int, *, seed: int, group_size: int = 8) -> Group:
    """One group, every response `num_tokens` long; at least one response of each class where there are two."""
    rng = np.random.default_rng(seed)
    pool = _make_pool(regime, rng)
    correct = np.zeros(group_size, np.bool_)
    correct[rng.permutation(group_size)[: rng.integers(1, max(group_size, 2))]] = True
    responses, entropies = [], []
    for is_correct in correct.tolist():
        tokens, nats = _write(regime, pool, num_tokens, rng, pool.cumulative[int(is_correct)])
        responses.append(tokens)
        entropies.append(nats)
    if regime.loops:
        half = num_tokens // 2
        responses[0][half:] = np.resize(responses[0][:LOOP_PERIOD], num_tokens - half)
        entropies[0][half:] = rng.lognormal(-6.0, 1.0, num_tokens - half)
    return responses, entropies, correct


def make_batch(num_groups: int, regime: Regime, num_tokens: int, *, seed: int = 0) -> list[Group]:
    """Groups that differ from one another, in memory of their own."""
    return [make_group(regime, num_tokens, seed=seed + index) for index in range(num_groups)]


def num_tokens_of(groups: list[Group]) -> int:
    return sum(len(row) for responses, _, _ in groups for row in responses)


def _make_pool(regime: Regime, rng: np.random.Generator) -> _Pool:
    lengths = _phrase_lengths(regime, regime.num_phrases, rng)
    weights = np.arange(1, regime.num_phrases + 1) ** -ZIPF_EXPONENT
    side = rng.random(regime.num_phrases)
    foreign = np.stack([side < SIDED_SHARE, side > 1 - SIDED_SHARE])
    cumulative = np.cumsum(weights * np.where(foreign, FOREIGN_WEIGHT, 1.0), axis=1)
    return _Pool(
        tokens=_draw_tokens(int(lengths.sum()), rng),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        cumulative=cumulative / cumulative[:, -1:],
    )


def _write(
    regime: Regime, pool: _Pool, num_tokens: int, rng: np.random.Generator, cumulative: NDArray[np.float64]
) -> tuple[IntArray, FloatArray]:
    """One response: pieces of a phrase and its fork, cut at `num_tokens`."""
    # A piece has at least MIN_PHRASE_TOKENS + 1 tokens: these are always enough.
    num_pieces = num_tokens // (MIN_PHRASE_TOKENS + 1) + 1
    phrase = np.searchsorted(cumulative, rng.random(num_pieces))
    is_new = rng.random(num_pieces) < regime.new_share
    phrase_tokens = np.where(is_new, _phrase_lengths(regime, num_pieces, rng), pool.lengths[phrase])
    piece_tokens = phrase_tokens + rng.geometric(1 / regime.mean_fork_tokens, num_pieces)
    begins = np.cumsum(piece_tokens) - piece_tokens
    piece = np.repeat(np.arange(num_pieces), piece_tokens)[:num_tokens]
    place = np.arange(num_tokens) - begins[piece]

    in_phrase = place < phrase_tokens[piece]
    is_changed = rng.random(num_tokens) < regime.changed_share
    is_surprise = is_changed | (rng.random(num_tokens) < regime.surprise_share)
    tokens = _draw_tokens(num_tokens, rng)
    is_pooled = in_phrase & ~is_changed & ~is_new[piece]
    tokens[is_pooled] = pool.tokens[(pool.starts[phrase[piece]] + place)[is_pooled]]
    nats = np.select(
        [~in_phrase, place == 0, is_surprise],
        [
            0.2 + rng.gamma(2.0, 0.5, num_tokens),
            rng.gamma(1.5, 0.5, num_tokens),
            0.3 + rng.gamma(2.0, 0.5, num_tokens),
        ],
        rng.lognormal(-4.0, 1.5, num_tokens),
    )
    return tokens, nats.astype(np.float32)


def _phrase_lengths(regime: Regime, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.clip(rng.geometric(1 / regime.mean_phrase_tokens, count), MIN_PHRASE_TOKENS, regime.max_phrase_tokens)


def _draw_tokens(count: int, rng: np.random.Generator) -> IntArray:
    """Log-uniform ids: a small one is as frequent as a common word."""
    return (VOCAB_SIZE ** rng.random(count) - 1).astype(np.int32)
