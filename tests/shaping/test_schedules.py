"""Worked numbers of the schedules."""

import pytest

from shaping.schedules import constant, cosine, linear


def test_constant_is_constant() -> None:
    schedule = constant.build(constant.Config(value=0.7))
    assert {schedule.value(step) for step in (0, 1, 10**6)} == {0.7}


def test_linear_goes_from_start_to_stop_and_stays() -> None:
    schedule = linear.build(linear.Config(start=1.0, stop=0.0, steps=4))
    assert [schedule.value(step) for step in (0, 1, 2, 4, 5)] == [1.0, 0.75, 0.5, 0.0, 0.0]


def test_cosine_warms_up_from_above_zero_then_falls_to_its_floor() -> None:
    # Warm-up of 4: 1/4, 2/4, 3/4, 4/4 of the peak 2; then half a cosine over 4 steps: p = 0, 1/4, 1/2, 3/4, 1 gives
    # (1 + cos) / 2 = 1, 0.853553, 0.5, 0.146447, 0.
    schedule = cosine.build(cosine.Config(peak=2.0, floor=1.0, warmup_steps=4, total_steps=8))
    values = [schedule.value(step) for step in range(10)]
    assert values == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 1.853553, 1.5, 1.146447, 1.0, 1.0])


def test_cosine_with_its_floor_at_the_peak_is_a_warm_up_to_a_constant() -> None:
    schedule = cosine.build(cosine.Config(peak=3.0, floor=3.0, warmup_steps=2, total_steps=10))
    assert [schedule.value(step) for step in (0, 1, 2, 5, 50)] == [1.5, 3.0, 3.0, 3.0, 3.0]


def test_schedules_refuse_what_they_cannot_follow() -> None:
    with pytest.raises(ValueError, match="steps must be >= 1"):
        linear.Config(steps=0)
    with pytest.raises(ValueError, match="total_steps must be > warmup_steps"):
        cosine.Config(warmup_steps=5, total_steps=5)
    with pytest.raises(ValueError, match="warmup_steps must be >= 0"):
        cosine.Config(warmup_steps=-1)
    with pytest.raises(ValueError, match="finite"):
        constant.Config(value=float("inf"))
    with pytest.raises(ValueError, match="finite"):
        linear.Config(start=float("nan"))
    with pytest.raises(ValueError, match="finite"):
        cosine.Config(peak=float("nan"))
