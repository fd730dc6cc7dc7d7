"""What a window's curve reaches stays, whatever is left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.run_view.thinning import least_points, thin


def windows_of(num_rows: int, num_windows: int) -> list[list[int]]:
    """By the law's words: row r is in window r * windows // rows."""
    return [
        [row for row in range(num_rows) if row * num_windows // num_rows == window] for window in range(num_windows)
    ]


def check_law(curves: list[np.ndarray], max_points: int) -> None:
    kept = thin(curves, max_points)
    num_rows = len(curves[0])
    assert len(kept) <= max_points
    assert (np.diff(kept) > 0).all()
    if num_rows <= max_points:
        assert kept.tolist() == list(range(num_rows))
        return
    assert kept[0] == 0 and kept[-1] == num_rows - 1
    for window in windows_of(num_rows, (max_points - 2) // (2 * len(curves))):
        for curve in curves:
            values = [curve[row] for row in window if np.isfinite(curve[row])]
            left = [curve[row] for row in window if row in set(kept.tolist()) and np.isfinite(curve[row])]
            if values:
                assert (min(left), max(left)) == (min(values), max(values))


@given(
    st.lists(
        st.lists(st.one_of(st.floats(-5, 5), st.just(float("nan")), st.just(float("inf"))), min_size=60, max_size=60),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 70),
)
def test_each_window_keeps_its_smallest_and_largest_value(rows: list[list[float]], extra: int) -> None:
    check_law([np.array(row) for row in rows], least_points(len(rows)) + extra)


def test_a_single_spike_in_100_000_steps_is_kept() -> None:
    calm = np.sin(np.arange(100_000) / 500)
    calm[77_777] = 50.0
    sparse = np.full(100_000, np.nan)
    sparse[[10, 50_000]] = (-3.0, 3.0)
    kept = thin([calm, sparse], 1000)
    assert len(kept) <= 1000
    assert {10, 50_000, 77_777} <= set(kept.tolist())


def test_of_equal_values_the_first_stays() -> None:
    assert thin([np.zeros(100)], 4).tolist() == [0, 99]


@pytest.mark.parametrize("num_rows", [0, 1])
def test_nothing_and_one_row_are_left_as_they_are(num_rows: int) -> None:
    assert thin([np.zeros(num_rows)], 4).tolist() == list(range(num_rows))
