"""Laws of metrics that merge."""

import pytest

from shaping.metrics import Max, Mean, Sum, merge_metrics, metric_values


def test_merging_means_weighs_them_by_their_counts() -> None:
    # 1 of 2 and 3 of 3 make 4 of 5, not the mean of 0.5 and 1.
    merged = merge_metrics([{"a": Mean(1, 2)}, {"a": Mean(3, 3)}])
    assert metric_values(merged) == {"a": 0.8}


def test_sums_add_and_maxima_compare() -> None:
    merged = merge_metrics([{"a": Sum(1), "b": Max(1)}, {"a": Sum(2), "b": Max(5)}, {"b": Max(3)}])
    assert metric_values(merged) == {"a": 3, "b": 5}


def test_a_mean_over_nothing_is_absent_not_zero() -> None:
    assert metric_values({"a": Mean(0, 0), "b": Mean(0, 1)}) == {"b": 0.0}


def test_one_name_with_two_kinds_is_refused() -> None:
    with pytest.raises(TypeError, match="metric a is a Mean and a Sum"):
        merge_metrics([{"a": Mean(1, 1)}, {"a": Sum(1)}])
