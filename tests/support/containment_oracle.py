"""The containment rule of LESS, by comparing everything with everything. Slow; shares no code with shaping."""

import numpy as np


def oracle_runs(entropies: list[float], *, quantile: float, min_length: int, membership: str) -> list[tuple[int, int]]:
    """Maximal low-entropy runs, token by token, with the threshold from a full sort."""
    nats = [float(np.float32(h)) for h in entropies]
    if not nats:
        return []
    threshold = sorted(nats)[min(round(quantile * len(nats)), len(nats) - 1)]
    is_low = [h < threshold or (membership == "le" and h == threshold) for h in nats]
    runs, start = [], None
    for position, low in enumerate([*is_low, False]):
        if low and start is None:
            start = position
        if not low and start is not None:
            if position - start >= min_length:
                runs.append((start, position))
            start = None
    return runs


def oracle_multipliers(
    responses: list[list[int]],
    entropies: list[list[float]],
    correct: list[bool],
    *,
    min_length: int = 5,
    quantile: float = 0.8,
    membership: str = "lt",
    outside: str = "share",
) -> list[np.ndarray]:
    """Multipliers [T] float32 per response."""
    options = {"quantile": quantile, "min_length": min_length, "membership": membership}
    runs = [oracle_runs(row, **options) for row in entropies]
    strings = [[tuple(ids[a:b]) for a, b in row] for ids, row in zip(responses, runs, strict=True)]
    distinct = {string for row in strings for string in row}
    holders = {s: {j for j, row in enumerate(strings) if any(_occurs(s, other) for other in row)} for s in distinct}
    return [
        np.array(
            [
                _token(i, t, responses, entropies, correct, runs, holders, quantile=quantile, outside=outside)
                for t in range(len(responses[i]))
            ],
            np.float32,
        )
        for i in range(len(responses))
    ]


def _occurs(string: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return any(other[p : p + len(string)] == string for p in range(len(other) - len(string) + 1))


def _token(
    i: int,
    t: int,
    responses: list[list[int]],
    entropies: list[list[float]],
    correct: list[bool],
    runs: list[list[tuple[int, int]]],
    holders: dict[tuple[int, ...], set[int]],
    *,
    quantile: float,
    outside: str,
) -> float:
    size = sum(1 for flag in correct if bool(flag) is bool(correct[i]))
    covering = []
    for start, stop in runs[i]:
        for string, rollouts in holders.items():
            for p in range(start, stop - len(string) + 1):
                if p <= t < p + len(string) and tuple(responses[i][p : p + len(string)]) == string:
                    covering.append(rollouts)
    if any(len({bool(correct[j]) for j in rollouts}) == 2 for rollouts in covering):
        return 0.0
    if covering:
        own = max(sum(1 for j in rollouts if bool(correct[j]) is bool(correct[i])) for rollouts in covering)
        return (1.0 / size) * own
    nats = sorted(float(np.float32(h)) for h in entropies[i])
    threshold = nats[min(round(quantile * len(nats)), len(nats) - 1)]
    is_low = float(np.float32(entropies[i][t])) <= threshold
    return 1.0 / size if is_low and outside == "share" else 1.0
