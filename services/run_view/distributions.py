"""Histograms of the groups that were written down for a step, with the same edges in every run and every step.

kind              of what                                             edges
reward            one per response, weighted sum of its rewards       -1 to 2 in tenths
advantage         one per token, after shaping                        -5 to 5 in quarters
token_entropy     one per token, nats                                 0, then 10^-5 to 10, four per factor of ten
multiplier        one per token, shaped over base advantage           0 alone, to 1 in twentieths, 1 alone and above
segment_length    one per low-entropy segment, tokens                 1 to 1,024, two per factor of two
response_length   one per response, tokens                            0, then 8 to 65,536, two per factor of two

A bin holds its lower edge and not its upper one. What lies beyond the ends is counted in the first or the last bin.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from services.explain.file import GroupRecord
from services.run_view.columns import Floats, Longs
from services.run_view.refusals import NotFound
from shaping.checks import FloatArray
from shaping.less import LessOptions, analyze


def _doubling(first: int, last: int) -> list[float]:
    """first, 1.5 first, 2 first, 3 first ... last; whole numbers, each once."""
    edges = {1.0 * first * 2**power for power in range((last // first).bit_length())}
    return sorted(each for each in edges | {each * 3 // 2 for each in edges} if each <= last)


EDGES: Mapping[str, tuple[float, ...]] = {
    "reward": tuple(tenth / 10 for tenth in range(-10, 21)),
    "advantage": tuple(quarter / 4 for quarter in range(-20, 21)),
    "token_entropy": (0.0, *(10 ** (power / 4) for power in range(-20, 5))),
    "multiplier": (0.0, 1e-6, *(part / 20 for part in range(1, 21)), 1.05),
    "segment_length": tuple(_doubling(1, 1024)),
    "response_length": (0.0, *_doubling(8, 65_536)),
}
KINDS = tuple(EDGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenGroup:
    """One line of groups.jsonl.

    Args:
        rewards: one per response; None where the line has none.
    """

    record: GroupRecord
    rewards: tuple[float, ...] | None


def count(kind: str, group: WrittenGroup) -> Longs:
    """Numbers of one group by bin.

    Args:
        kind: one of KINDS.
    Returns:
        int64, one less than the kind has edges.
    Raises:
        NotFound: the line does not say it.
    """
    edges = np.array(EDGES[kind])
    inside = np.clip(_VALUES[kind](group), edges[0], np.nextafter(edges[-1], -np.inf))
    return np.asarray(np.histogram(inside, edges)[0], np.int64)


def _rewards(group: WrittenGroup) -> Floats:
    if group.rewards is None:
        raise NotFound(
            "distribution",
            "rewards must be written down with their group, found none: an earlier version of lessrl wrote this run",
        )
    return _six_digits(np.array(group.rewards, np.float64))


def _advantages(group: WrittenGroup) -> Floats:
    record = group.record
    for name, after in (("shaped_advantages", False), ("multipliers", True)):
        if name in record.numbers and (not after or "advantages" in record.numbers):
            rows = [
                each.advantages * each.multipliers if after else each.shaped_advantages for each in record.responses
            ]
            return _six_digits(_joined(rows))
    raise NotFound("distribution", "advantages must be written down with their group, found none")


def _entropies(group: WrittenGroup) -> Floats:
    if not group.record.has_exact_entropies:
        raise NotFound("distribution", "entropies must be written down with their group, found bounds alone")
    return _joined([each.entropies.lower for each in group.record.responses])


def _multipliers(group: WrittenGroup) -> Floats:
    if "multipliers" not in group.record.numbers:
        raise NotFound("distribution", "multipliers must be written down with their group, found none")
    return _six_digits(_joined([each.multipliers for each in group.record.responses]))


def _segment_lengths(group: WrittenGroup) -> Floats:
    rows = group.record.responses
    options = LessOptions(**group.record.less, backend="numpy")
    ids, entropies = [each.token_ids for each in rows], [each.entropies.lower for each in rows]
    segments = analyze(ids, entropies, group.record.correct, options).support.segments
    return np.asarray(segments.stops - segments.starts, np.float64)


def _response_lengths(group: WrittenGroup) -> Floats:
    return np.array([len(each.token_ids) for each in group.record.responses], np.float64)


def _joined(rows: list[FloatArray]) -> Floats:
    return np.concatenate([np.zeros(0), *rows]).astype(np.float64)


def _six_digits(values: Floats) -> Floats:
    """Tenths and twentieths that come as float32 lie on an edge again, not beside it."""
    return np.round(values, 6)


_VALUES: Mapping[str, Callable[[WrittenGroup], Floats]] = {
    "reward": _rewards,
    "advantage": _advantages,
    "token_entropy": _entropies,
    "multiplier": _multipliers,
    "segment_length": _segment_lengths,
    "response_length": _response_lengths,
}
