"""Fewer points of curves that share their steps. Pure.

Law: the rows are cut into windows of equal numbers of rows; of each window and each curve the row with the smallest
and the row with the largest finite value stay, and so do the first and the last row. What stays is measured, never
averaged.
"""

from collections.abc import Sequence

import numpy as np

from services.run_view.columns import Floats, Longs


def least_points(num_curves: int) -> int:
    """The fewest points that so many curves can be thinned to: one window, and the two ends."""
    return 2 + 2 * num_curves


def thin(curves: Sequence[Floats], max_points: int) -> Longs:
    """Rows to keep.

    Args:
        curves: [S] each; NaN where a curve has no value.
        max_points: at least `least_points`.
    Returns:
        [K <= max_points] row numbers, rising; all of them where there are no more than that.
    """
    num_rows = len(curves[0]) if curves else 0
    if num_rows <= max_points:
        return np.arange(num_rows)
    num_windows = (max_points - 2) // (2 * len(curves))
    kept = [np.array([0, num_rows - 1])]
    for curve in curves:
        rows = np.flatnonzero(np.isfinite(curve))
        windows = rows * num_windows // num_rows
        # By window, then by value; of equal values the first row, for lexsort is stable.
        order = np.lexsort((curve[rows], windows))
        starts = np.flatnonzero(np.diff(windows[order], prepend=-1))
        kept += [rows[order[starts]], rows[order[np.append(starts[1:], len(rows)) - 1]] if len(rows) else rows]
    return np.unique(np.concatenate(kept))
