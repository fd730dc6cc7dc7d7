"""LESS kernels in numpy alone: many groups at a time, equal to the compiled kernels bit for bit."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from shaping.checks import FloatArray, IntArray
from shaping.kernels.base import GroupArrays, Kernels, Outside, SegmentRule
from shaping.kernels.vectorised.compat import write_multipliers
from shaping.kernels.vectorised.layout import Layout, chunks, lay_out
from shaping.kernels.vectorised.support import ChunkSupport, support_by_kgrams, support_by_segments
from shaping.support import SEGMENT_CLASSES, SHARED, STRAY, GroupSupport, Segments, class_sizes


class VectorisedKernels:
    """See `Kernels`."""

    def find_support(
        self, groups: Iterable[GroupArrays], rule: SegmentRule, token_support: IntArray
    ) -> Iterator[tuple[GroupArrays, GroupSupport]]:
        start = 0
        for chunk in chunks(groups):
            layout = lay_out(chunk, rule)
            codes = token_support[start : start + len(layout.tokens)]
            if rule.match == "kgram":
                support = support_by_kgrams(layout, rule.min_length, codes)
            else:
                support = support_by_segments(layout, codes)
            yield from zip(chunk, _split(layout, support), strict=True)
            start += len(layout.tokens)

    def paint(self, group: GroupArrays, support: GroupSupport, outside: Outside, multipliers: FloatArray) -> None:
        codes = support.token_support
        # 1/N in double before the product: its float32 rounding is part of the rule's exact values.
        shares = np.repeat(1.0 / class_sizes(group.correct), group.lengths)
        multipliers[:] = shares * codes
        multipliers[codes == 0] = 1.0
        is_stray = codes == STRAY
        multipliers[is_stray] = 1.0 if outside == "keep" else shares[is_stray]
        multipliers[codes == SHARED] = 0.0

    def compat_multipliers(
        self, groups: Iterable[GroupArrays], rule: SegmentRule, outside: Outside, multipliers: FloatArray
    ) -> None:
        start = 0
        for chunk in chunks(groups):
            layout = lay_out(chunk, rule)
            stop = start + len(layout.tokens)
            write_multipliers(layout, outside, multipliers[start:stop])
            start = stop


def _split(layout: Layout, support: ChunkSupport) -> Iterator[GroupSupport]:
    """One result for each group of the chunk."""
    row_starts = layout.row_starts[layout.rows]
    starts, stops = layout.starts - row_starts, layout.stops - row_starts
    first_rows = np.searchsorted(layout.group_of, np.arange(layout.group_of[-1] + 2))
    tokens = pairwise(layout.row_starts[first_rows].tolist())
    parts = pairwise(np.searchsorted(layout.rows, first_rows).tolist())
    for (row, stop), token_part, segment_part in zip(pairwise(first_rows.tolist()), tokens, parts, strict=True):
        part = slice(*segment_part)
        segments = Segments(
            rows=(layout.rows[part] - row).astype(np.int32),
            starts=starts[part].astype(np.int32),
            stops=stops[part].astype(np.int32),
            num_correct=support.num_correct[part].copy(),
            num_incorrect=support.num_incorrect[part].copy(),
        )
        yield GroupSupport(
            thresholds=layout.thresholds[row:stop].copy(),
            num_low=layout.num_low[row:stop].copy(),
            num_ties=layout.num_ties[row:stop].copy(),
            row_totals=_sum_rows(segments, stop - row),
            segments=segments,
            token_support=support.token_support[slice(*token_part)],
        )


def _sum_rows(segments: Segments, size: int) -> NDArray[np.int64]:
    """[G, 10], see `GroupSupport.row_totals`."""
    lengths, num_classes = segments.num_tokens, len(SEGMENT_CLASSES)
    by_class = segments.rows * num_classes + segments.class_codes
    columns = [
        np.bincount(by_class, minlength=size * num_classes).reshape(size, -1),
        np.bincount(by_class, weights=lengths, minlength=size * num_classes).reshape(size, -1),
        np.bincount(segments.rows, weights=lengths * segments.num_correct, minlength=size)[:, None],
        np.bincount(segments.rows, weights=lengths * segments.num_incorrect, minlength=size)[:, None],
    ]
    totals: NDArray[np.int64] = np.concatenate(columns, axis=1).astype(np.int64)
    return totals


KERNELS: Kernels = VectorisedKernels()
