"""Which rollouts have which low-entropy token string: the one search behind segments, classes and LESS multipliers.

Flow: response ids, their maximal low-entropy runs and the verdicts of one group -> support counts per run and one small
integer per token. Order of rollouts never matters. Knows no entropies, thresholds or advantages.

How: equal runs are interned once, with a bit mask of the rollouts that have them. Every distinct run is entered under
its first `min_length` tokens; sliding over all distinct runs finds the longest one that occurs at each position. All
other runs at that position are prefixes of it, so they are reached through prefix links instead of being searched.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shaping.checks import BoolArray, IntArray

SHARED = -1
"""Token support of a token that a string of both classes covers."""

_WIDTH = np.dtype(np.int32).itemsize

Run = tuple[int, int]
IndexArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSupport:
    """Rollouts that hold the token string of one run inside one of their runs, the run's own rollout included."""

    num_correct: int
    num_incorrect: int

    @property
    def is_shared(self) -> bool:
        return self.num_correct > 0 and self.num_incorrect > 0

    def multiplier(self, class_size: int) -> float:
        """What the string gives the tokens it covers: 0 if shared, else the share of its class that holds it."""
        if self.is_shared:
            return 0.0
        return float(np.float32((1.0 / class_size) * (self.num_correct + self.num_incorrect)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSupport:
    """Result of the search.

    Args:
        run_support: per response, one entry per run.
        token_support: per response [T] int32: 0 where no run covers the token; SHARED where a string of both classes
            covers it; otherwise the largest number of rollouts of the response's own class that hold a covering string.
    """

    run_support: tuple[tuple[RunSupport, ...], ...]
    token_support: tuple[IntArray, ...]


@dataclass(slots=True)
class _Text:
    """A distinct run: its tokens as bytes, who has it, and its longest proper prefix that is a distinct run too."""

    tokens: bytes
    owners: int
    prefix: "_Text | None" = None
    matches: list[int] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        return len(self.tokens) // _WIDTH


def class_sizes(correct: BoolArray) -> NDArray[np.int64]:
    """[G] number of rollouts with the same verdict, the rollout itself included: N of its row."""
    num_correct = int(correct.sum())
    return np.where(correct, num_correct, len(correct) - num_correct)


def find_support(
    responses: Sequence[IntArray], runs: Sequence[Sequence[Run]], correct: Sequence[bool], *, min_length: int
) -> GroupSupport:
    """Support of every run of a group by containment.

    Args:
        responses: G arrays [T] int32.
        runs: per response, half-open runs of at least `min_length` tokens, disjoint.
        correct: [G].
        min_length: shortest run, >= 1.
    Returns:
        Counts per run and per token, rows in the given order.
    Source: less.md 1.3; equal to comparing all pairs of runs. Time is about linear in the tokens of distinct runs.
    """
    texts: dict[bytes, _Text] = {}
    rows = enumerate(zip(responses, runs, strict=True))
    keys = [_intern(texts, response, row, owner=1 << index) for index, (response, row) in rows]
    ordered = sorted(texts.values(), key=lambda text: len(text.tokens))
    offsets = _search(ordered, min_length * _WIDTH)
    _spread_owners(ordered)
    correct_mask = sum(1 << j for j, flag in enumerate(correct) if flag)
    support = {text.tokens: _count(text.owners, correct_mask) for text in ordered}
    painted = _paint(ordered, offsets, support)
    return GroupSupport(
        run_support=tuple(tuple(support[key] for key in row) for row in keys),
        token_support=tuple(
            _copy_rows(len(response), row, row_keys, painted)
            for response, row, row_keys in zip(responses, runs, keys, strict=True)
        ),
    )


def _intern(texts: dict[bytes, _Text], response: IntArray, runs: Sequence[Run], *, owner: int) -> list[bytes]:
    data = np.ascontiguousarray(response, dtype=np.int32).tobytes()
    keys = [data[start * _WIDTH : stop * _WIDTH] for start, stop in runs]
    for key in keys:
        text = texts.setdefault(key, _Text(key, 0))
        text.owners |= owner
    return keys


def _search(ordered: list[_Text], head_bytes: int) -> dict[bytes, int]:
    """Link prefixes and note, on each text, the positions where it is the longest text that occurs.

    Positions are token offsets in the concatenation of `ordered`; the offset of each text is returned. Owners of the
    texts searched are given to what was found in them.
    """
    heads: dict[bytes, list[_Text]] = {}
    for text in ordered:
        heads.setdefault(text.tokens[:head_bytes], []).append(text)
    for same_head in heads.values():
        same_head.reverse()
        for index, text in enumerate(same_head):
            text.prefix = next((t for t in same_head[index + 1 :] if text.tokens.startswith(t.tokens)), None)
    offsets: dict[bytes, int] = {}
    offset = 0
    owners = [text.owners for text in ordered]
    for text, own in zip(ordered, owners, strict=True):
        tokens = text.tokens
        offsets[tokens] = offset
        for position in range(0, len(tokens) - head_bytes + 1, _WIDTH):
            found = heads.get(tokens[position : position + head_bytes])
            if found is not None:
                longest = next((t for t in found if tokens.startswith(t.tokens, position)), None)
                if longest is not None:
                    longest.owners |= own
                    longest.matches.append(offset + position // _WIDTH)
        offset += text.num_tokens
    return offsets


def _spread_owners(ordered: list[_Text]) -> None:
    """Who holds a text holds its prefixes; longest first, so that one pass reaches them all."""
    for text in reversed(ordered):
        if text.prefix is not None:
            text.prefix.owners |= text.owners


def _count(owners: int, correct_mask: int) -> RunSupport:
    num_correct = (owners & correct_mask).bit_count()
    return RunSupport(num_correct=num_correct, num_incorrect=owners.bit_count() - num_correct)


def _paint(ordered: list[_Text], offsets: dict[bytes, int], support: dict[bytes, RunSupport]) -> dict[bytes, IntArray]:
    """Token support of every distinct text: the best of all occurrences that cover a token, SHARED above all."""
    total = sum(text.num_tokens for text in ordered)
    levels = _intervals_by_level(ordered, support)
    painted = np.zeros(total, np.int32)
    # Ascending counts, then SHARED: a later level wins.
    for level in sorted(levels, key=lambda level: (level == SHARED, level)):
        starts, stops = (np.concatenate(parts) for parts in zip(*levels[level], strict=True))
        edges = np.bincount(starts, minlength=total + 1) - np.bincount(stops, minlength=total + 1)
        painted[np.cumsum(edges)[:total] > 0] = level
    return {text.tokens: painted[offsets[text.tokens] :][: text.num_tokens] for text in ordered}


def _intervals_by_level(
    ordered: list[_Text], support: dict[bytes, RunSupport]
) -> dict[int, list[tuple[IndexArray, IndexArray]]]:
    """Occurrences as (starts, stops), by what they give their tokens.

    Of the nested texts that start at one position only the longest of each support count is kept: a longer text never
    has more support than its prefix.
    """
    levels: dict[int, list[tuple[IndexArray, IndexArray]]] = {}
    for text in ordered:
        if not text.matches:
            continue
        starts = np.array(text.matches, np.int64)
        nested: _Text | None = text
        previous = 0
        while nested is not None and previous != SHARED:
            counts = support[nested.tokens]
            level = SHARED if counts.is_shared else counts.num_correct + counts.num_incorrect
            if level != previous:
                levels.setdefault(level, []).append((starts, starts + nested.num_tokens))
            nested, previous = nested.prefix, level
    return levels


def _copy_rows(num_tokens: int, runs: Sequence[Run], keys: list[bytes], painted: dict[bytes, IntArray]) -> IntArray:
    row = np.zeros(num_tokens, np.int32)
    for (start, stop), key in zip(runs, keys, strict=True):
        row[start:stop] = painted[key]
    return row
