"""The LESS authors' greedy matching as less.md 1.2 words it, step by step. Slow; shares no code with shaping.

Strings are tuples of token ids, the merge is an ordinary dict (insertion order, overwriting keeps the place). What the
text leaves open the golden groups decide; they agree with this reading:
- step 6, "positions": offsets of the response, so the start of the run plus the occurrence inside it;
- step 6, T strictly inside K while T is a key already: the entry moved from K replaces T's in T's place;
- step 7, max: between float32 values, after rounding (1/N in double) * count once;
- step 8: the row sum is taken in float32.
Options that the authors' code does not have (quantile, membership, outside, scope) only change steps 1 to 3.
"""

from dataclasses import dataclass

import numpy as np

Tokens = tuple[int, ...]
Merged = dict[Tokens, dict[int, int]]
"""Key to the one start position of each response that has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """A low-entropy run: its string, its response, and its first position there."""

    string: Tokens
    response: int
    start: int


def compat_oracle(
    responses: list[list[int]],
    entropies: list[np.ndarray],
    correct: list[bool],
    *,
    min_length: int = 5,
    quantile: float = 0.8,
    membership: str = "lt",
    outside: str = "share",
    scope: str = "response",
) -> list[np.ndarray]:
    """Multipliers [T] float32 per response, in the given order."""
    nats = [[float(np.float32(value)) for value in row] for row in entropies]
    pooled = [value for row in nats for value in row]
    limits = [_threshold(pooled if scope == "group" else row, quantile) for row in nats]
    sizes = [sum(1 for other in correct if bool(other) == bool(flag)) for flag in correct]
    runs_of = [
        _runs(i, responses[i], [h < limits[i] or (membership == "le" and h == limits[i]) for h in nats[i]], min_length)
        for i in range(len(responses))
    ]
    rows = []
    for i, row in enumerate(nats):
        segment_tokens = {run.start + offset for run in runs_of[i] for offset in range(len(run.string))}
        base = [
            1.0 / sizes[i] if h <= limits[i] and (outside == "share" or t in segment_tokens) else 1.0
            for t, h in enumerate(row)
        ]
        rows.append(np.array(base, np.float32))
    ordered = [run for i in sorted(range(len(correct)), key=lambda i: not correct[i]) for run in runs_of[i]]
    _write(rows, _merge(ordered), correct, sizes)
    return rows


def compat_advantages(multipliers: list[np.ndarray], advantages: list[np.ndarray]) -> list[np.ndarray]:
    """Step 8: rows [T] float32 whose absolute sum is below 1e-8 stay."""
    return [row if np.abs(row).sum() < 1e-8 else m * row for m, row in zip(multipliers, advantages, strict=True)]


def _threshold(values: list[float], quantile: float) -> float:
    """Step 1."""
    if not values:
        return 0.0
    return sorted(values)[min(round(quantile * len(values)), len(values) - 1)]


def _runs(response: int, tokens: list[int], is_low: list[bool], min_length: int) -> list[_Run]:
    """Step 3, over the flags of one response."""
    runs, start = [], 0
    while start < len(is_low):
        stop = start
        while stop < len(is_low) and is_low[stop]:
            stop += 1
        if stop - start >= min_length:
            string = tuple(int(token) for token in tokens[start:stop])
            runs.append(_Run(string=string, response=response, start=start))
        start = max(stop, start + 1)
    return runs


def _find(part: Tokens, whole: Tokens) -> int | None:
    """First position of `part` in `whole`."""
    for position in range(len(whole) - len(part) + 1):
        if whole[position] == part[0] and whole[position : position + len(part)] == part:
            return position
    return None


def _merge(ordered: list[_Run]) -> Merged:
    """Steps 5 and 6."""
    merged: Merged = {}
    for run in ordered:
        container = next(
            (o for o in ordered if o.response != run.response and _find(run.string, o.string) is not None), None
        )
        if container is not None:
            _enter(merged, run, container)
    return merged


def _enter(merged: Merged, run: _Run, container: _Run) -> None:
    for key in merged:
        if _find(key, run.string) is not None:
            _place(merged[key], key, run, container)
            return
        offset = _find(run.string, key)
        if offset is not None:
            moved = {response: start + offset for response, start in merged[key].items()}
            _place(moved, run.string, run, container)
            del merged[key]
            merged[run.string] = moved
            return
    merged[run.string] = {}
    _place(merged[run.string], run.string, run, container)


def _place(starts: dict[int, int], key: Tokens, run: _Run, container: _Run) -> None:
    """Record the first occurrence of the key in both runs; a later one overwrites."""
    for each in (run, container):
        offset = _find(key, each.string)
        assert offset is not None, "a key lies inside the run, and the run inside its container"
        starts[each.response] = each.start + offset


def _write(rows: list[np.ndarray], merged: Merged, correct: list[bool], sizes: list[int]) -> None:
    """Step 7, in place."""
    for key, starts in merged.items():
        num_correct = sum(1 for j in starts if correct[j])
        num_wrong = len(starts) - num_correct
        for j, start in starts.items():
            part = rows[j][start : start + len(key)]
            if num_correct and num_wrong:
                part[:] = 0
            else:
                value = np.float32((1.0 / sizes[j]) * (num_correct or num_wrong))
                part[:] = np.maximum(part, value)
