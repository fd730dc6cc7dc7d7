"""Distributions are counted as Prometheus counts, and merging them loses nothing."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaping.histograms import ENTROPY_NATS, Histogram
from shaping.metrics import Spread, histograms_of, merge_metrics, metric_values, metrics_from_plain, plain_metrics

VALUES = st.lists(st.floats(-10, 10, width=32), max_size=50)


def test_a_value_at_a_bound_lies_below_it_and_one_above_the_last_in_no_range() -> None:
    found = Histogram.of(np.array([[0.0, 0.5], [1.0, 1.5], [2.0, 9.0]], np.float32), (0.0, 1.0, 2.0))
    assert found.counts == (1, 2, 2, 1)
    assert (found.total, found.count) == (14.0, 6)


@given(VALUES, VALUES)
def test_merged_is_as_if_binned_together(left: list[float], right: list[float]) -> None:
    bounds = (-1.0, 0.0, 3.0)
    both = Histogram.merged([Histogram.of(np.array(each, np.float32), bounds) for each in (left, right)])
    at_once = Histogram.of(np.array(left + right, np.float32), bounds)
    assert both.counts == at_once.counts
    assert both.total == pytest.approx(at_once.total, abs=1e-6)
    # An oracle that sorts values into ranges one by one.
    ranges = np.searchsorted(np.float32(bounds), np.array(left + right, np.float32), side="left")
    assert both.counts == tuple(np.bincount(ranges, minlength=4).tolist())


def test_other_bounds_do_not_merge_and_no_histogram_has_a_hole() -> None:
    with pytest.raises(ValueError, match="other bounds"):
        Histogram.merged([Histogram.of([1.0], (1.0,)), Histogram.of([1.0], (2.0,))])
    with pytest.raises(ValueError, match="must rise"):
        Histogram((2.0, 1.0), (0, 0, 0), 0.0)
    with pytest.raises(ValueError, match="a count for each range"):
        Histogram((1.0,), (1,), 0.0)


def test_a_spread_over_merged_parts_is_the_standard_deviation_of_all_values() -> None:
    parts = [{"x": Spread(3.0, 5.0, 2)}, {"x": Spread(9.0, 41.0, 2)}]
    # 1, 2, 4, 5: mean 3, squared distances 4 + 1 + 1 + 4.
    assert metric_values(merge_metrics(parts)) == {"x": pytest.approx(2.5**0.5)}
    assert Spread(0.0, 0.0, 0).value is None


def test_a_distribution_survives_json_and_pickle_and_is_no_plain_number() -> None:
    metrics = {"x": Histogram.of([0.01, 5.0], ENTROPY_NATS), "y": Spread(1.0, 1.0, 2.0)}
    assert metrics_from_plain(json.loads(json.dumps(plain_metrics(metrics)))) == metrics
    assert pickle.loads(pickle.dumps(metrics)) == metrics
    assert set(metric_values(metrics)) == {"y"}
    assert set(histograms_of(metrics)) == {"x"}
