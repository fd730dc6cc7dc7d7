"""The containment rule of LESS (less.md 1.3 and 2), by comparing everything with everything.

Slow; shares no code with shaping. Token ids are renamed to characters, so that Python's own substring search does the
comparing. With match "kgram" the strings are all min_length-grams inside segments; a segment's counts are then the
largest of its own grams, per class.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

SHARED, STRAY = -1, -2


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleSegment:
    """Segment [start, stop) of response `row`.

    Args:
        holders: per string of the segment, the responses that hold it; one string unless the match is "kgram".
        num_correct, num_wrong: holders per class, the largest over the strings.
    """

    row: int
    start: int
    stop: int
    holders: tuple[frozenset[int], ...]
    num_correct: int
    num_wrong: int

    @property
    def kind(self) -> str:
        if self.num_correct and self.num_wrong:
            return "shared"
        if self.num_correct + self.num_wrong == 1:
            return "unique"
        return "correct_only" if self.num_correct else "incorrect_only"


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleGroup:
    """What the rule says of one group.

    Args:
        thresholds: nats per response, 0 for an empty one.
        token_support: [T] per response: 0 above the threshold, SHARED, STRAY, or the best count of the own class.
        num_low, num_ties: tokens at or below, and at, their threshold.
    """

    correct: list[bool]
    thresholds: list[float]
    segments: list[OracleSegment]
    token_support: list[list[int]]
    num_low: int
    num_ties: int

    def multipliers(self, outside: str = "share") -> list[np.ndarray]:
        """[T] float32 per response."""
        rows, sizes = [], Counter(self.correct)
        for own, support in zip(self.correct, self.token_support, strict=True):
            share = 1.0 / sizes[own]
            values = {0: 1.0, SHARED: 0.0, STRAY: share if outside == "share" else 1.0}
            rows.append(np.array([values.get(count, share * count) for count in support], np.float32))
        return rows

    def segment_multiplier(self, segment: OracleSegment) -> np.float32:
        """What the segment's own strings give."""
        if segment.kind == "shared":
            return np.float32(0)
        size = Counter(self.correct)[self.correct[segment.row]]
        return np.float32((1.0 / size) * (segment.num_correct + segment.num_wrong))

    def overlap(self, own: bool, other: bool) -> tuple[float, int]:
        """Sum of O(i -> j) over ordered pairs i != j of these classes where i has segments, and the number of pairs.

        Of whole segments ("segment" match): a segment has one string.
        """
        total, num_pairs = 0.0, 0
        for i in {segment.row for segment in self.segments if self.correct[segment.row] == own}:
            mine = [(s.stop - s.start, s.holders[0]) for s in self.segments if s.row == i]
            num_tokens = sum(length for length, _ in mine)
            for j in range(len(self.correct)):
                if i != j and self.correct[j] == other:
                    total += sum(length for length, holders in mine if j in holders) / num_tokens
                    num_pairs += 1
        return total, num_pairs


def oracle_group(
    responses: list[list[int]],
    entropies: list[list[float]],
    correct: list[bool],
    *,
    min_length: int = 5,
    quantile: float = 0.8,
    membership: str = "lt",
    scope: str = "response",
    match: str = "segment",
) -> OracleGroup:
    """Segments, support and totals of one group. Rows may be lists or arrays."""
    flags = [bool(flag) for flag in correct]
    nats = [np.asarray(row, np.float32).tolist() for row in entropies]
    pooled = [value for row in nats for value in row]
    limits = [_threshold(pooled if scope == "group" else row, quantile) if row else 0.0 for row in nats]
    names: dict[int, str] = {}
    texts = ["".join(names.setdefault(int(token), chr(len(names))) for token in row) for row in responses]
    runs = [
        _low_runs(row, limit, min_length=min_length, membership=membership)
        for row, limit in zip(nats, limits, strict=True)
    ]
    run_texts = [[text[a:b] for a, b in row] for text, row in zip(texts, runs, strict=True)]
    strings = {part for row in run_texts for text in row for part in _strings(text, min_length, match)}
    holders = {s: frozenset(j for j, row in enumerate(run_texts) if any(s in text for text in row)) for s in strings}
    support = [[0 if h > limit else STRAY for h in row] for row, limit in zip(nats, limits, strict=True)]
    segments = []
    for i, row in enumerate(runs):
        for (start, stop), text in zip(row, run_texts[i], strict=True):
            support[i][start:stop] = _best_counts(text, flags, holders)
            own = tuple(holders[part] for part in _strings(text, min_length, match))
            num_correct, num_wrong = (max(_count(held, flags, kind) for held in own) for kind in (True, False))
            segments.append(
                OracleSegment(row=i, start=start, stop=stop, holders=own, num_correct=num_correct, num_wrong=num_wrong)
            )
    return OracleGroup(
        correct=flags,
        thresholds=limits,
        segments=segments,
        token_support=support,
        num_low=sum(h <= limit for row, limit in zip(nats, limits, strict=True) for h in row),
        num_ties=sum(h == limit for row, limit in zip(nats, limits, strict=True) for h in row),
    )


def oracle_runs(entropies: list[float], *, quantile: float, min_length: int, membership: str) -> list[tuple[int, int]]:
    """Maximal low-entropy runs of one response, the threshold from a full sort of it."""
    nats = np.asarray(entropies, np.float32).tolist()
    limit = _threshold(nats, quantile) if nats else 0.0
    return _low_runs(nats, limit, min_length=min_length, membership=membership)


def _threshold(nats: list[float], quantile: float) -> float:
    return sorted(nats)[min(round(quantile * len(nats)), len(nats) - 1)]


def _low_runs(nats: list[float], limit: float, *, min_length: int, membership: str) -> list[tuple[int, int]]:
    """Token by token."""
    is_low = [h < limit or (membership == "le" and h == limit) for h in nats]
    runs, start = [], None
    for position, low in enumerate([*is_low, False]):
        if low and start is None:
            start = position
        if not low and start is not None:
            if position - start >= min_length:
                runs.append((start, position))
            start = None
    return runs


def _strings(text: str, min_length: int, match: str) -> list[str]:
    """What a run is compared by: itself, or its grams."""
    if match == "segment":
        return [text]
    return [text[p : p + min_length] for p in range(len(text) - min_length + 1)]


def _count(held: frozenset[int], correct: list[bool], kind: bool) -> int:
    return sum(1 for j in held if correct[j] is kind)


def _best_counts(text: str, correct: list[bool], holders: dict[str, frozenset[int]]) -> list[int]:
    """Per token of a run: SHARED, or the most holders of any string that covers it at any of its occurrences.

    A string of one class only that occurs in this run is held by the run's own class.
    """
    best = [0] * len(text)
    for string, held in holders.items():
        shared = len({correct[j] for j in held}) == 2
        position = text.find(string)
        while position >= 0:
            for t in range(position, position + len(string)):
                if shared:
                    best[t] = SHARED
                elif best[t] != SHARED:
                    best[t] = max(best[t], len(held))
            position = text.find(string, position + 1)
    return best
