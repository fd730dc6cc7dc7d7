"""Laws of the measuring: turns, medians and memory."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.timing import Timing, measure_memory, time_in_turn


def make_timing(*cpu_seconds: float, cpu_share: float = 1.0) -> Timing:
    return Timing(cpu_seconds=cpu_seconds, wall_seconds=tuple(each / cpu_share for each in cpu_seconds))


def test_a_ratio_is_the_median_over_pairs_not_the_ratio_of_medians() -> None:
    # Pairs 2/1, 3/3, 8/2: 2, 1, 4 with median 2; the ratio of the medians 3/2 is 1.5.
    ours, floor = make_timing(2.0, 3.0, 8.0), make_timing(1.0, 3.0, 2.0)
    assert ours.over(floor) == 2.0
    assert ours.seconds == 3.0


def test_pairs_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        make_timing(1.0, 2.0).over(make_timing(1.0))


def test_a_core_that_others_use_is_seen_in_the_share_and_changes_no_seconds() -> None:
    shared = make_timing(1.0, 3.0, cpu_share=0.5)
    assert shared.cpu_share == 0.5
    assert shared.seconds == make_timing(1.0, 3.0).seconds == 2.0
    assert shared.over(make_timing(1.0, 1.0)) == 2.0


def test_calls_run_in_turn_and_warm_ups_are_not_counted() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = time_in_turn(calls, num_rounds=3, num_warm_ups=2)
    assert order == ["a", "b"] * 5
    assert [len(timings[name].wall_seconds) for name in "ab"] == [3, 3]
    assert all(seconds >= 0 for name in "ab" for seconds in timings[name].wall_seconds)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the high-water mark")
def test_extra_memory_is_what_a_call_fills_even_if_it_is_freed_inside() -> None:
    # A larger call before it raises nothing. 10 % for whatever else the process does.
    for num_mb in (128, 64):
        memory = measure_memory(lambda size=num_mb: np.ones(size * 1_000_000, np.uint8).sum())
        assert num_mb * 0.99 <= memory.extra_mb <= num_mb * 1.1
        assert memory.peak_mb > memory.extra_mb


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the high-water mark")
def test_memory_of_many_small_arrays_is_counted_again_in_a_later_call() -> None:
    # 40,000 arrays of 1 kB are too small to be given back to the system one by one.
    def fill() -> object:
        return [np.ones(1000, np.uint8) for _ in range(40_000)]

    first, second = measure_memory(fill), measure_memory(fill)
    assert first.extra_mb >= 40
    assert second.extra_mb >= 40
