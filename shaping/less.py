"""LESS: correctness-aware low-entropy segment shaping, as arithmetic on arrays.

The front door for anyone with numpy: token ids, token entropies and correctness of groups in; per-token multipliers of
the advantages, segments and totals out. Runs reach the same kernels through `shaping/segments.py` and
`shaping/shapers/less.py`. Knows no records of a run.

Rule "containment" (less.md 1.3): with N the number of rollouts of the token's own class, a token is multiplied by 0
where a low-entropy string held by both classes covers it; by k/N where the best covering string is held by k rollouts
of its class; by 1/N where it is low-entropy but in no run of the minimum length; by 1 elsewhere. Every occurrence
counts and the order of responses does not matter.
Rule "compat": the authors' code (less.md 1.2), greedy in the given order of responses, bit for bit.
No multiplier exceeds 1. Source: LESS (arXiv:2512.00908) and the authors' code.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shaping.checks import BoolArray, FloatArray, IntArray, split_rows
from shaping.kernels.base import GroupArrays, Kernels, Match, Membership, Outside, Scope, SegmentRule, check_choice
from shaping.kernels.choice import Backend, load_kernels
from shaping.segment_counts import SegmentCounts, count_segments
from shaping.support import GroupSupport

Mode = Literal["containment", "compat"]
Group = tuple[Sequence[ArrayLike], Sequence[ArrayLike], ArrayLike]
"""Responses, entropies and correct of one group, as `multipliers` takes them."""

ZERO_ROW = 1e-8
"""The authors' code leaves rows alone whose advantages add up to less than this in absolute value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LessOptions:
    """How LESS multiplies; the defaults are those of the authors' code, apart from the order-free mode.

    Args:
        min_length, quantile, membership, scope, match: see `SegmentRule`.
        mode: "containment", the order-free rule, or "compat", the authors' greedy matching in the given order.
        outside: multiplier of low-entropy tokens in no segment: "share" 1/N, "keep" 1.
        backend: "numba", "numpy", or "auto": numba where it can compile. The result is the same bit for bit.
    Raises:
        ValueError: an unknown value, or match "kgram" in compat mode, which has no such rule.
    """

    min_length: int = 5
    quantile: float = 0.8
    mode: Mode = "containment"
    membership: Membership = "lt"
    outside: Outside = "share"
    scope: Scope = "response"
    match: Match = "segment"
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        check_choice("mode", self.mode, Mode)
        check_choice("outside", self.outside, Outside)
        check_choice("backend", self.backend, Backend)
        rule = self.rule
        if self.mode == "compat" and rule.match == "kgram":
            raise ValueError('match must be "segment" in mode "compat", got "kgram": the authors\' code has no k-grams')

    @property
    def rule(self) -> SegmentRule:
        return SegmentRule(
            quantile=self.quantile,
            min_length=self.min_length,
            membership=self.membership,
            scope=self.scope,
            match=self.match,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LessAnalysis:
    """What LESS does to one group, and why.

    Args:
        correct: [G] bool.
        multipliers: G arrays [T] float32, by the mode asked for.
        support: thresholds, segments and token support; by containment in either mode.
        counts: totals for metrics.
    """

    correct: BoolArray
    multipliers: list[FloatArray]
    support: GroupSupport
    counts: SegmentCounts


def multipliers(
    responses: Sequence[ArrayLike],
    entropies: Sequence[ArrayLike],
    correct: ArrayLike,
    *,
    min_length: int = 5,
    quantile: float = 0.8,
    mode: Mode = "containment",
    membership: Membership = "lt",
    outside: Outside = "share",
    scope: Scope = "response",
    match: Match = "segment",
    backend: Backend = "auto",
) -> list[FloatArray]:
    """Multipliers of one group.

    Args:
        responses: G integer arrays [T], token ids (compared only for equality). A response may be empty.
        entropies: G arrays [T], nats, of the policy at temperature 1; used as float32.
        correct: [G] bool.
        min_length, quantile, mode, membership, outside, scope, match, backend: see `LessOptions`.
    Returns:
        G arrays [T] float32 in [0, 1].
    Raises:
        ValueError: an empty group, lengths that differ, ids that are no 32-bit integers, entropies that are not finite,
            or an option with an unknown value.
    """
    options = LessOptions(
        min_length=min_length,
        quantile=quantile,
        mode=mode,
        membership=membership,
        outside=outside,
        scope=scope,
        match=match,
        backend=backend,
    )
    return batch_multipliers([(responses, entropies, correct)], options)[0]


def batch_multipliers(groups: Iterable[Group], options: LessOptions | None = None) -> list[list[FloatArray]]:
    """Multipliers of many groups; each group's rows are those that `multipliers` gives for it alone.

    Raises:
        ValueError: as `multipliers`, naming the group.
    """
    options, groups = options or LessOptions(), list(groups)
    flat = np.empty(_num_tokens(groups), np.float32)
    kernels = load_kernels(options.backend)
    if options.mode == "compat":
        kernels.compat_multipliers(_flatten_all(groups), options.rule, options.outside, flat)
    else:
        for _ in _paint_all(kernels, groups, options, flat):
            pass
    return _split_groups(flat, groups)


def analyze(
    responses: Sequence[ArrayLike],
    entropies: Sequence[ArrayLike],
    correct: ArrayLike,
    options: LessOptions | None = None,
) -> LessAnalysis:
    """Multipliers of one group with the segments and totals behind them.

    Raises:
        ValueError: as `multipliers`.
    """
    return batch_analyze([(responses, entropies, correct)], options)[0]


def batch_analyze(groups: Iterable[Group], options: LessOptions | None = None) -> list[LessAnalysis]:
    """`analyze` of many groups.

    Raises:
        ValueError: as `multipliers`, naming the group.
    """
    options, groups = options or LessOptions(), list(groups)
    flat = np.empty(_num_tokens(groups), np.float32)
    kernels = load_kernels(options.backend)
    found = [
        (group.correct, support, count_segments(group, support))
        for group, support in _paint_all(kernels, groups, options, flat)
    ]
    if options.mode == "compat":
        kernels.compat_multipliers(_flatten_all(groups), options.rule, options.outside, flat)
    return [
        LessAnalysis(correct=correct, multipliers=rows, support=support, counts=counts)
        for (correct, support, counts), rows in zip(found, _split_groups(flat, groups), strict=True)
    ]


def shape_advantages(
    multipliers: Sequence[FloatArray], advantages: Sequence[ArrayLike], *, mode: Mode = "containment"
) -> list[FloatArray]:
    """Advantages after LESS: multiplier times advantage.

    Args:
        multipliers: G arrays [T] float32.
        advantages: G arrays [T]; used as float32. In mode "compat" rows whose absolute advantages add up to less than
            `ZERO_ROW` are left as they are.
    Returns:
        G arrays [T] float32.
    Raises:
        ValueError: rows or tokens that are not as many as those of the multipliers.
    """
    check_choice("mode", mode, Mode)
    rows = [np.array(row, np.float32) for row in advantages]
    lengths, wanted = [row.shape for row in rows], [row.shape for row in multipliers]
    if lengths != wanted:
        raise ValueError(f"advantages must have one entry per multiplier, got rows of {lengths} for {wanted}")
    return [
        row if mode == "compat" and is_zero_row(row) else row * factor
        for factor, row in zip(multipliers, rows, strict=True)
    ]


def warm_up(options: LessOptions | None = None) -> None:
    """Compile, or load from the cache on disk, what these options call: seconds where nothing is cached.

    Call it before the first step, so that no step waits for it.
    """
    # What is compiled depends on neither number, and with these the example has a segment.
    options = replace(options or LessOptions(), min_length=5, quantile=0.8)
    tokens = np.arange(6)
    batch_analyze([([tokens, tokens], [(tokens == 5).astype(np.float32)] * 2, [True, False])], options)


def is_zero_row(advantages: FloatArray) -> bool:
    """Whether the authors' code leaves this row alone."""
    return bool(np.abs(advantages).sum() < ZERO_ROW)


def _paint_all(
    kernels: Kernels, groups: Sequence[Group], options: LessOptions, flat: FloatArray
) -> Iterator[tuple[GroupArrays, GroupSupport]]:
    """Fill `flat` with the multipliers of containment, group by group as it is iterated."""
    start = 0
    token_support = np.empty(len(flat), np.int32)
    for group, support in kernels.find_support(_flatten_all(groups), options.rule, token_support):
        stop = start + len(group.tokens)
        kernels.paint(group, support, options.outside, flat[start:stop])
        yield group, support
        start = stop


def _num_tokens(groups: Sequence[Group]) -> int:
    return sum(sum(_lengths(responses)) for responses, _, _ in groups)


def _lengths(responses: Sequence[Any]) -> list[int]:
    """Tokens of each response; 0 for what has no length, which is refused with its place when its group is read."""
    return [0 if not hasattr(row, "__len__") or getattr(row, "shape", None) == () else len(row) for row in responses]


def _split_groups(flat: FloatArray, groups: Sequence[Group]) -> list[list[FloatArray]]:
    rows, start = [], 0
    for responses, _, _ in groups:
        lengths = _lengths(responses)
        stop = start + sum(lengths)
        rows.append(list(split_rows(flat[start:stop], lengths)))
        start = stop
    return rows


def _flatten_all(groups: Sequence[Group]) -> Iterator[GroupArrays]:
    for index, group in enumerate(groups):
        yield _flatten(group, f"group {index}, ")


def _flatten(group: Group, where: str) -> GroupArrays:
    responses, entropies, correct = group
    flags = np.asarray(correct)
    size = len(responses)
    if size == 0:
        raise ValueError(f"a group must hold at least one response, got none ({where.rstrip(', ')})")
    if flags.shape != (size,) or len(entropies) != size:
        raise ValueError(
            f"responses, entropies and correct must have one entry per rollout, got {size}, {len(entropies)} and "
            f"shape {flags.shape} ({where.rstrip(', ')})"
        )
    if flags.dtype != np.bool_ and not (flags.dtype.kind in "iu" and np.isin(flags, (0, 1)).all()):
        raise ValueError(f"correct must be boolean, got {flags.dtype} ({where.rstrip(', ')})")
    ids = [_check_ids(row, f"{where}response {index}") for index, row in enumerate(responses)]
    nats = [
        _check_entropies(row, len(row_ids), f"{where}response {index}")
        for index, (row, row_ids) in enumerate(zip(entropies, ids, strict=True))
    ]
    with np.errstate(over="ignore"):
        # What float32 cannot hold becomes infinite, and is refused below.
        flat = np.concatenate(nats, dtype=np.float32, casting="same_kind")
    offsets = np.zeros(size + 1, np.int64)
    np.cumsum([len(row) for row in ids], out=offsets[1:])
    if not np.isfinite(flat).all():
        bad = int(np.flatnonzero(~np.isfinite(flat))[0])
        row = int(np.searchsorted(offsets, bad, side="right")) - 1
        raise ValueError(
            f"entropies must be finite, got {flat[bad]} at token {bad - offsets[row]} ({where}response {row}); "
            "give the full-vocabulary entropy of every token, in nats"
        )
    # Always a copy: for an array that may not be written numba would compile everything once more.
    return GroupArrays(tokens=np.concatenate(ids), entropies=flat, offsets=offsets, correct=flags.astype(np.bool_))


def _check_ids(response: ArrayLike, where: str) -> IntArray:
    row = _as_array(response, where)
    if row.dtype == np.int32 and row.ndim == 1:
        return row
    if row.shape == (0,):
        return np.zeros(0, np.int32)
    if row.ndim != 1 or row.dtype.kind not in "iu":
        found = f"{row.dtype}{list(row.shape)}"
        raise ValueError(f"a response must be a one-dimensional integer array, got {found} ({where})")
    limits = np.iinfo(np.int32)
    if int(row.min()) < limits.min or int(row.max()) > limits.max:
        raise ValueError(f"token ids must fit 32 bits, got {int(row.min())} to {int(row.max())} ({where})")
    return row.astype(np.int32)


def _check_entropies(entropies: ArrayLike, num_tokens: int, where: str) -> NDArray[Any]:
    row = _as_array(entropies, where)
    if row.shape != (num_tokens,):
        raise ValueError(
            f"entropies must have one entry per token, got shape {row.shape} for {num_tokens} tokens ({where})"
        )
    if num_tokens and row.dtype.kind not in "fiu":
        raise ValueError(f"entropies must be numbers, got {row.dtype} ({where})")
    return row


def _as_array(values: ArrayLike, where: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"a row must hold one number per token, found entries of several lengths ({where})") from error
