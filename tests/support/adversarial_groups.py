"""Random groups that are hard for a LESS search: few letters, ties, repeats, nested phrases, empty classes and rows.

All of it follows from the seed. Responses hold 0 to 60 tokens and groups 1 to 12 responses, apart from a few groups of
65 to 90 responses of at most 12 tokens (more than the bits of one machine word).
"""

from dataclasses import dataclass

import numpy as np

MAX_ID = 2**31 - 1
QUANTILES = (0.8, 0.8, 0.8, 0.9, 0.9, 0.65, 0.5, 0.97, 0.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdversarialGroup:
    """`kind` says how it was made, for messages. Responses [T] int32, entropies [T] float32, correct [G] bool."""

    kind: str
    responses: list[np.ndarray]
    entropies: list[np.ndarray]
    correct: np.ndarray

    def arguments(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """As the front door takes a group."""
        return self.responses, self.entropies, self.correct


def draw_options(rng: np.random.Generator) -> tuple[int, float]:
    """Shortest segment (1 to 8) and quantile."""
    return int(rng.choice([1, 2, 2, 3, 3, 4, 5, 5, 6, 7, 8])), float(rng.choice(QUANTILES))


def draw_groups(rng: np.random.Generator, num_groups: int, min_length: int) -> list[AdversarialGroup]:
    """Groups whose phrases are about as long as the shortest segment, or up to three times that."""
    return [_draw_group(rng, min_length) for _ in range(num_groups)]


def _draw_group(rng: np.random.Generator, min_length: int) -> AdversarialGroup:
    texts = {"letters": _letters, "phrases": _phrases, "nested": _nested, "twice": _twice, "periodic": _periodic}
    kind = str(rng.choice([*texts, "phrases", "nested", "crowd"]))
    size = int(rng.integers(65, 91)) if kind == "crowd" else int(rng.integers(1, 13))
    make = _letters if kind == "crowd" else texts[kind]
    rows = make(rng, size, min_length)
    if kind == "crowd":
        rows = [row[: rng.integers(0, 13)] for row in rows]
    if rng.random() < 0.15:
        rows[int(rng.integers(size))] = []
    style = str(
        rng.choice(["clean", "clean", "by_token", "by_token", "noisy", "few", "tied", "equal", "negative", "tiny"])
    )
    return AdversarialGroup(
        kind=f"{kind}/{style}",
        responses=_name_tokens(rng, rows),
        entropies=[_draw_entropies(rng, np.array(row, np.int64), style).astype(np.float32) for row in rows],
        correct=_draw_correct(rng, size),
    )


def _letters(rng: np.random.Generator, size: int, _: int) -> list[list[int]]:
    """Independent tokens of an alphabet of 2 to 500, rarely of 1."""
    top = int(rng.choice([1, 2, 2, 3, 4, 8, 30, 500]))
    return [rng.integers(0, top, rng.integers(0, 61)).tolist() for _ in range(size)]


def _pool(rng: np.random.Generator, min_length: int) -> list[list[int]]:
    """Phrases over a small alphabet; token 0 is the fork and in none of them."""
    top = int(rng.choice([3, 4, 10, 500]))
    lengths = rng.integers(max(1, min_length - 1), 3 * min_length + 2, rng.integers(2, 7))
    return [rng.integers(1, top, length).tolist() for length in lengths]


def _phrases(rng: np.random.Generator, size: int, min_length: int) -> list[list[int]]:
    """Phrases of one pool."""
    pool = _pool(rng, min_length)
    return [_join(rng, _choose(rng, pool)) for _ in range(size)]


def _nested(rng: np.random.Generator, size: int, min_length: int) -> list[list[int]]:
    """A pool that also holds parts and extensions of its own phrases."""
    pool = _pool(rng, min_length)
    for _ in range(4):
        phrase = pool[int(rng.integers(len(pool)))]
        cut = int(rng.integers(0, max(1, len(phrase) - min_length + 1)))
        other = pool[int(rng.integers(len(pool)))]
        pool += [phrase[cut : cut + min_length], phrase[cut:], [*phrase, *other][: 4 * min_length]]
    return [_join(rng, _choose(rng, pool)) for _ in range(size)]


def _twice(rng: np.random.Generator, size: int, min_length: int) -> list[list[int]]:
    """Most responses hold one phrase twice: with a fork between, inside one run, or overlapping itself."""
    pool = _pool(rng, min_length)
    rows = []
    for _ in range(size):
        phrase = pool[int(rng.integers(min(2, len(pool))))]
        fork: list[int] = [[0], [], phrase[: len(phrase) // 2]][int(rng.integers(3))]
        rows.append(_join(rng, [*_choose(rng, pool)[:1], [*phrase, *fork, *phrase], *_choose(rng, pool)[:1]]))
    return rows


def _periodic(rng: np.random.Generator, size: int, min_length: int) -> list[list[int]]:
    """Repeats of one period, cut at different lengths and phases; period 1 makes all tokens equal."""
    period = rng.integers(1, 4, rng.integers(1, max(2, min_length))).tolist()
    rows = []
    for _ in range(size):
        parts = []
        for _ in range(int(rng.integers(1, 4))):
            phase = int(rng.integers(len(period)))
            parts.append((period * 30)[phase : phase + int(rng.integers(1, 30))])
        rows.append(_join(rng, parts))
    return rows


def _choose(rng: np.random.Generator, pool: list[list[int]]) -> list[list[int]]:
    """Up to five phrases."""
    return [pool[int(index)] for index in rng.integers(len(pool), size=rng.integers(0, 6))]


def _join(rng: np.random.Generator, parts: list[list[int]]) -> list[int]:
    """Parts with 0 to 4 forks behind each, cut at 60 tokens; a third of the rows has a mutated token."""
    row: list[int] = []
    for part in parts:
        row += [*part, *[0] * int(rng.choice([0, 1, 1, 2, 4]))]
    row = row[:60]
    if row and rng.random() < 0.33:
        row[int(rng.integers(len(row)))] = int(rng.integers(0, 4))
    return row


def _name_tokens(rng: np.random.Generator, rows: list[list[int]]) -> list[np.ndarray]:
    """The rows with ids on both sides of 0, from 0 on, near the largest id, or spread over all ids."""
    style = rng.integers(4)
    if style == 3:
        names = rng.permutation(np.unique(rng.integers(0, MAX_ID, 1100))[:1000])
        names[:4] = [MAX_ID, 0, MAX_ID - 1, 1]
        return [names[np.array(row, np.int64)].astype(np.int32) for row in rows]
    first = (-3, 0, MAX_ID - 600)[style]
    return [(np.array(row, np.int64) + first).astype(np.int32) for row in rows]


def _draw_entropies(rng: np.random.Generator, row: np.ndarray, style: str) -> np.ndarray:
    """Nats: forks (token 0) high in most styles, so that phrases are runs."""
    num_tokens = len(row)
    forks = row == 0
    if style == "by_token":
        return np.where(forks, rng.uniform(1.0, 3.0, num_tokens), rng.choice([0.0, 0.0, 0.2], num_tokens))
    if style == "clean":
        return forks.astype(np.float64)
    if style == "noisy":
        flipped = forks ^ (rng.random(num_tokens) < 0.08)
        return np.where(flipped, rng.exponential(2.0, num_tokens), rng.exponential(0.05, num_tokens))
    if style == "few":
        return rng.choice([0.0, 0.5, 1.0], num_tokens, p=[0.6, 0.25, 0.15])
    if style == "tied":
        return np.where(rng.random(num_tokens) < 0.88, 0.0, rng.choice([-0.1, 0.3, 2.0], num_tokens))
    if style == "equal":
        return np.full(num_tokens, rng.choice([0.0, -0.0, 1.5]))
    if style == "negative":
        return np.where(forks, 0.0, rng.choice([-1e-7, -1e-3, -0.0, 0.0], num_tokens))
    # Neighbours in float32 and numbers below its normal range.
    return np.where(forks, np.nextafter(np.float32(1), np.float32(2)), rng.choice([1.0, 1e-40, 0.0], num_tokens))


def _draw_correct(rng: np.random.Generator, size: int) -> np.ndarray:
    """Mixed mostly; all right, all wrong, or one right alone now and then."""
    share = float(rng.choice([0.5, 0.5, 0.5, 0.25, 0.75, 0.0, 1.0]))
    correct = rng.random(size) < share
    if rng.random() < 0.1:
        correct[:] = False
        correct[int(rng.integers(size))] = True
    return correct
