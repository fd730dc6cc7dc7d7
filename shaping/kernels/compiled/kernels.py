"""LESS kernels compiled with numba: one group at a time, cached on disk, without the GIL."""

from collections.abc import Iterable, Iterator

import numpy as np

from shaping.checks import FloatArray, IntArray
from shaping.kernels.base import GroupArrays, Kernels, Outside, SegmentRule
from shaping.kernels.compiled.compat import match_greedily
from shaping.kernels.compiled.jit import Array, compiled
from shaping.kernels.compiled.kgrams import find_gram_support
from shaping.kernels.compiled.runs import find_runs, find_thresholds
from shaping.kernels.compiled.support import find_support
from shaping.support import (
    HELD_BY_CORRECT,
    HELD_BY_INCORRECT,
    SEGMENT_CLASSES,
    SHARED,
    STRAY,
    TOKEN_COLUMNS,
    GroupSupport,
    SegmentClass,
    Segments,
)

_FIRST_TOKEN_COLUMN = TOKEN_COLUMNS.start
_CORRECT_ONLY, _INCORRECT_ONLY = map(SEGMENT_CLASSES.index, (SegmentClass.CORRECT_ONLY, SegmentClass.INCORRECT_ONLY))
_SHARED, _UNIQUE = map(SEGMENT_CLASSES.index, (SegmentClass.SHARED, SegmentClass.UNIQUE))


@compiled
def _list_segments(runs: Array, offsets: Array, found: Array, row_totals: Array) -> None:
    """Fill rows, starts and stops of `found` [5, S], whose last two rows hold the holders, and row_totals [G, 10]."""
    row_totals[:] = 0
    for s in range(found.shape[1]):
        row, first = runs[0, s], offsets[runs[0, s]]
        found[0, s], found[1, s], found[2, s] = row, runs[1, s] - first, runs[2, s] - first
        length, num_correct, num_incorrect = runs[2, s] - runs[1, s], found[3, s], found[4, s]
        if num_correct + num_incorrect == 1:
            code = _UNIQUE
        elif num_correct > 0 and num_incorrect > 0:
            code = _SHARED
        else:
            code = _CORRECT_ONLY if num_correct > 0 else _INCORRECT_ONLY
        row_totals[row, code] += 1
        row_totals[row, _FIRST_TOKEN_COLUMN + code] += length
        row_totals[row, HELD_BY_CORRECT] += length * num_correct
        row_totals[row, HELD_BY_INCORRECT] += length * num_incorrect


@compiled
def _paint(codes: Array, offsets: Array, correct: Array, keep: bool, multipliers: Array) -> None:
    num_correct = 0
    for flag in correct:
        num_correct += flag
    table = np.empty(len(correct) - STRAY + 1, np.float32)
    for i in range(len(correct)):
        share = 1.0 / (num_correct if correct[i] else len(correct) - num_correct)
        for k in range(len(table)):
            # 1/N in double before the product: its float32 rounding is part of the rule's exact values.
            table[k] = share * (k + STRAY)
        table[0] = 1.0 if keep else share
        table[SHARED - STRAY], table[-STRAY] = 0.0, 1.0
        row_codes, row = codes[offsets[i] : offsets[i + 1]], multipliers[offsets[i] : offsets[i + 1]]
        for t in range(len(row)):
            row[t] = table[np.uint32(row_codes[t] - STRAY)]


@compiled
def _paint_base(
    runs: Array, num_runs: int, codes: Array, offsets: Array, correct: Array, keep: bool, multipliers: Array
) -> None:
    """What the authors' matching starts from: 1/N on low tokens, inside a run whatever `outside` is; 1 elsewhere."""
    for r in range(num_runs):
        codes[runs[1, r] : runs[2, r]] = 1
    _paint(codes, offsets, correct, keep, multipliers)


class CompiledKernels:
    """See `Kernels`."""

    def find_support(
        self, groups: Iterable[GroupArrays], rule: SegmentRule, token_support: IntArray
    ) -> Iterator[tuple[GroupArrays, GroupSupport]]:
        start, scratch = 0, np.empty(0, np.int64)
        for group in groups:
            stop = start + len(group.tokens)
            scratch = _enough(scratch, group)
            yield group, _find(group, rule, scratch, token_support[start:stop])
            start = stop

    def paint(self, group: GroupArrays, support: GroupSupport, outside: Outside, multipliers: FloatArray) -> None:
        _paint(support.token_support, group.offsets, group.correct, outside == "keep", multipliers)

    def compat_multipliers(
        self, groups: Iterable[GroupArrays], rule: SegmentRule, outside: Outside, multipliers: FloatArray
    ) -> None:
        start, scratch = 0, np.empty(0, np.int64)
        for group in groups:
            row = multipliers[start : start + len(group.tokens)]
            scratch = _enough(scratch, group)
            # The hashes, which need the scratch, come when the codes are done with.
            codes = scratch.view(np.int32)[: len(row)]
            runs, num_runs, _, _ = _locate(group, rule, codes)
            _paint_base(runs, num_runs, codes, group.offsets, group.correct, outside == "keep", row)
            if num_runs > 0:
                match_greedily(group.tokens, runs, num_runs, group.correct, rule.min_length, scratch, row)
            start += len(row)


def _enough(scratch: Array, group: GroupArrays) -> Array:
    """The scratch, or a larger one if the group needs it, with room for somewhat larger groups that may follow."""
    needed = len(group.tokens) + len(group.correct)
    return scratch if len(scratch) >= needed else np.empty(2 * needed, np.int64)


def _locate(group: GroupArrays, rule: SegmentRule, codes: IntArray) -> tuple[IntArray, int, FloatArray, IntArray]:
    """Runs [3, >= S] and S, thresholds [G] and low_ties [2, G]; fills the codes [N]."""
    size = len(group.correct)
    thresholds = np.empty(size, np.float32)
    low_ties = np.empty((2, size), np.int32)
    runs = np.empty((3, len(group.tokens) // (rule.min_length + 1) + size + 1), np.int32)
    find_thresholds(group.entropies, group.offsets, rule.quantile, rule.scope == "group", thresholds)
    num_runs = find_runs(
        group.entropies, group.offsets, thresholds, rule.min_length, rule.membership == "le", codes, low_ties, runs
    )
    return runs, num_runs, thresholds, low_ties


def _find(group: GroupArrays, rule: SegmentRule, scratch: Array, codes: IntArray) -> GroupSupport:
    runs, num_runs, thresholds, low_ties = _locate(group, rule, codes)
    found = np.empty((5, num_runs), np.int32)
    row_totals = np.empty((len(group.correct), 10), np.int64)
    find = find_gram_support if rule.match == "kgram" else find_support
    if num_runs > 0:
        find(group.tokens, runs, num_runs, group.correct, rule.min_length, scratch, codes, found[3:])
    _list_segments(runs, group.offsets, found, row_totals)
    rows, starts, stops, num_correct, num_incorrect = found
    return GroupSupport(
        thresholds=thresholds,
        num_low=low_ties[0],
        num_ties=low_ties[1],
        row_totals=row_totals,
        segments=Segments(rows=rows, starts=starts, stops=stops, num_correct=num_correct, num_incorrect=num_incorrect),
        token_support=codes,
    )


KERNELS: Kernels = CompiledKernels()
