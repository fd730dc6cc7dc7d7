"""Centred outcomes, weighed by how hard the prompt is."""

import numpy as np
import pytest
from group_builders import make_scored

from shaping.estimators.dr_grpo import centred_rewards
from shaping.estimators.pshw import Config, build, pshw_advantages


@pytest.mark.parametrize(
    ("outcomes", "wanted"),
    [
        # mean 0, weight 1.256.
        ("10", [1.256, -1.256]),
        # mean 0.5, weight 1.256 - 0.128 = 1.128: 0.5 and -1.5 times it.
        ("1110", [0.564, 0.564, 0.564, -1.692]),
        # mean -0.5, weight 1.256 + 0.128 = 1.384: 1.5 and -0.5 times it.
        ("1000", [2.076, -0.692, -0.692, -0.692]),
    ],
)
def test_worked_groups(outcomes: str, wanted: list[float]) -> None:
    correct = np.array([each == "1" for each in outcomes])
    np.testing.assert_allclose(pshw_advantages(correct, Config()), wanted, rtol=1e-6)


def test_the_one_success_of_a_hard_prompt_weighs_more_than_the_one_failure_of_an_easy_one() -> None:
    hard = pshw_advantages(np.array([True, False, False, False]), Config())
    easy = pshw_advantages(np.array([True, True, True, False]), Config())
    assert hard[0] > -easy[3] > 0


@pytest.mark.parametrize("is_correct", [True, False])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_group_of_one_outcome_has_advantages_of_exactly_zero(is_correct: bool, size: int) -> None:
    assert not pshw_advantages(np.full(size, is_correct), Config()).any()


def test_only_verdicts_count_not_what_other_rewards_paid() -> None:
    rows = build(Config()).advantages(make_scored([True, False], rewards=[0.2, 7.0]))
    np.testing.assert_allclose([row[0] for row in rows], [1.256, -1.256], rtol=1e-6)


def test_without_slope_and_at_half_the_scale_it_is_dr_grpo_of_rewards_1_and_0() -> None:
    correct = np.array([True, False, False, True, False, False, False])
    flat = pshw_advantages(correct, Config(alpha=0.0, scale=0.5))
    np.testing.assert_allclose(flat, centred_rewards(correct.astype(np.float32)), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.256, float("inf"), float("nan")])
def test_a_scale_with_which_a_weight_could_be_negative_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"scale must be finite and > \|alpha\|"):
        Config(scale=scale)
