"""Groups contrived against the LESS search: few distinct heads, giant runs, and strings nested in one another.

Every response is written as low-entropy strings with a fork between them, and ends in forks: the threshold leaves about
80 % of the tokens low whatever is written, so one giant run is 80 % of its response. Half of the responses are correct.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count, cycle

import numpy as np
from numpy.typing import NDArray

from shaping.checks import FloatArray, IntArray
from tests.benchmarks.less_groups import LOOP_PERIOD, REGIMES, Group, make_group

Tokens = NDArray[np.int64]
Strings = Iterator[Tokens]
Writer = Callable[[int, int, np.random.Generator], Strings]
"""(index of the response, its tokens, generator) to its low-entropy strings, as many as it takes."""

GROUP_SIZE = 8
MIN_RUN_TOKENS = 5
LOW_SHARE = 0.8
MAX_WINDOW_TOKENS = 40
COMMON_SEED = 7
"""What all responses of a group have in common is drawn with this seed by each."""


def write_group(writer: Writer, num_tokens: int) -> Group:
    """A group of these strings; forks are tokens found nowhere else."""
    rows = [_write(writer, index, num_tokens) for index in range(GROUP_SIZE)]
    return [tokens for tokens, _ in rows], [nats for _, nats in rows], np.arange(GROUP_SIZE) % 2 == 0


def _write(writer: Writer, index: int, num_tokens: int) -> tuple[IntArray, FloatArray]:
    rng = np.random.default_rng(index)
    tokens = 1_000_000 * (index + 1) + np.arange(num_tokens)
    is_low = np.zeros(num_tokens, np.bool_)
    position, num_low = 0, 0
    for string in writer(index, num_tokens, rng):
        room = min(len(string), num_tokens - position, int(LOW_SHARE * num_tokens) - num_low)
        if room < MIN_RUN_TOKENS:
            break
        tokens[position : position + room] = string[:room]
        is_low[position : position + room] = True
        num_low += room
        position += room + 1
    nats = np.where(is_low, rng.random(num_tokens) * 0.1, 1.0 + rng.random(num_tokens))
    return tokens.astype(np.int32), nats.astype(np.float32)


def _one_loop(num_tokens: int) -> Group:
    """A typical group in which one response repeats seven tokens in one giant run."""
    responses, entropies, correct = make_group(REGIMES["typical"], num_tokens, seed=0)
    responses[0], entropies[0] = _write(_equal_loops, 0, num_tokens)
    return responses, entropies, correct


def _one_token(num_tokens: int) -> Group:
    """All tokens equal; entropies as in a typical group, so that runs have many lengths."""
    responses, entropies, correct = make_group(REGIMES["typical"], num_tokens, seed=0)
    return [np.ones_like(row) for row in responses], entropies, correct


def _two_tokens(num_tokens: int) -> Group:
    """Random strings over two tokens: every head is everywhere."""
    responses, entropies, correct = make_group(REGIMES["typical"], num_tokens, seed=0)
    return [row % 2 for row in responses], entropies, correct


def _equal_runs(_: int, num_tokens: int, __: np.random.Generator) -> Strings:
    yield np.random.default_rng(COMMON_SEED).integers(0, 3000, num_tokens)


def _equal_loops(_: int, num_tokens: int, __: np.random.Generator) -> Strings:
    yield np.resize(np.arange(LOOP_PERIOD), num_tokens)


def _shifted_loops(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """One loop, begun at another phase by every response and cut at another length."""
    yield np.resize(np.roll(np.arange(LOOP_PERIOD), -index), int(LOW_SHARE * num_tokens) - index)


def _unequal_loops(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """a^n in all, n from 30 to 100 % of what a response can hold: the short ones lie everywhere in the long ones."""
    yield np.zeros(int(LOW_SHARE * num_tokens * (1 - 0.1 * index)), np.int64)


def _one_token_runs(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """a^n in all: giant runs of lengths that differ by one."""
    yield np.zeros(int(LOW_SHARE * num_tokens) - index, np.int64)


def _nested_prefixes(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """a^i and a^i b for all i in six responses; two hold a^n."""
    if index >= GROUP_SIZE - 2:
        yield np.zeros(num_tokens, np.int64)
    for i in count(MIN_RUN_TOKENS):
        string = np.zeros(i + index % 2, np.int64)
        string[i:] = 1
        yield string


def _unmatched_prefixes(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """a^i b for as many i as fit in half of the responses; the others hold a^n, where each is tried and none occurs."""
    half = GROUP_SIZE // 2
    if index >= half:
        return iter([np.zeros(int(LOW_SHARE * num_tokens) - index, np.int64)])
    return (np.append(np.zeros(i, np.int64), 1) for i in count(MIN_RUN_TOKENS + index, half))


def _ladders(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """a^i b a^j over many (i, j); two responses hold a^n b a^n."""
    if index >= GROUP_SIZE - 2:
        giant = np.zeros(int(LOW_SHARE * num_tokens), np.int64)
        giant[len(giant) // 2] = 1
        yield giant
    for i in count(MIN_RUN_TOKENS):
        string = np.zeros(2 * i + index, np.int64)
        string[i] = 1
        yield string


def _nested_suffixes(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """All suffixes of one string."""
    whole = np.random.default_rng(COMMON_SEED).integers(0, 3000, num_tokens)
    return (whole[num_tokens - i - index :] for i in count(MIN_RUN_TOKENS))


def _windows(_: int, num_tokens: int, rng: np.random.Generator) -> Strings:
    """Random windows of one string: containments of all kinds, many keys of the compat merge at once."""
    whole = np.random.default_rng(COMMON_SEED).integers(0, 3000, num_tokens // 8 + MAX_WINDOW_TOKENS)
    while True:
        start = int(rng.integers(0, num_tokens // 8))
        yield whole[start : start + int(rng.integers(MIN_RUN_TOKENS, MAX_WINDOW_TOKENS))]


def _windows_of_giant(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """One response is a giant run; the others hold its windows of six tokens, no two of them equal."""
    giant = np.random.default_rng(COMMON_SEED).integers(0, 3000, num_tokens)
    if index == 0:
        return iter([giant])
    return (giant[start : start + 6] for start in range(index, num_tokens - 6, GROUP_SIZE - 1))


def _common_head(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """Strings of six tokens that begin with the same five, no two of them equal."""
    return (np.array([0, 1, 2, 3, 4, 10 + index * num_tokens + i]) for i in count())


def _head_and_tails(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """Again and again one string of five tokens, and between them strings that begin with it, no two of them equal."""
    head = np.arange(5)
    return (np.append(head, 10 + index * num_tokens + i)[: 5 + i % 2] for i in count())


def _common_long_head(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """Long strings that differ in their last token alone."""
    head = np.arange(np.sqrt(num_tokens).astype(np.int64))
    return (np.append(head, 10_000 + index * num_tokens + i) for i in count())


def _head_in_giants(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """Many strings a^5 x in half of the responses, a^n in the others: every position has every string as candidate."""
    if index % 2:
        return iter([np.zeros(num_tokens, np.int64)])
    return (np.array([0, 0, 0, 0, 0, 10 + index * num_tokens + i]) for i in count())


def _one_phrase(index: int, num_tokens: int, _: np.random.Generator) -> Strings:
    """One phrase again and again: as a run of its own in six responses, without a break in two."""
    phrase = np.arange(MIN_RUN_TOKENS)
    return cycle([phrase]) if index < GROUP_SIZE - 2 else iter([np.resize(phrase, num_tokens)])


def _short_phrases(_: int, num_tokens: int, rng: np.random.Generator) -> Strings:
    """Runs of exactly five tokens out of a pool of twenty, after a giant run made of the same pool."""
    pool = np.random.default_rng(COMMON_SEED).integers(0, 50, (20, MIN_RUN_TOKENS))
    giant = pool[rng.integers(0, len(pool), num_tokens // 10)].ravel()
    return chain([giant[: num_tokens // 3]], (pool[int(rng.integers(len(pool)))] for _ in count()))


WORST_GROUPS: dict[str, Callable[[int], Group]] = {
    "one_loop": _one_loop,
    "one_token": _one_token,
    "two_tokens": _two_tokens,
} | {
    writer.__name__.removeprefix("_"): partial(write_group, writer)
    for writer in (
        _equal_runs,
        _equal_loops,
        _shifted_loops,
        _one_token_runs,
        _unequal_loops,
        _nested_prefixes,
        _unmatched_prefixes,
        _ladders,
        _nested_suffixes,
        _windows,
        _windows_of_giant,
        _common_head,
        _head_and_tails,
        _common_long_head,
        _head_in_giants,
        _one_phrase,
        _short_phrases,
    )
}
"""Name to a group whose responses have this many tokens."""
