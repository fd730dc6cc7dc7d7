"""Worked numbers of the advantage estimators; the laws that all share are in tests/contracts."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from group_builders import make_rollout, make_scored

from shaping.estimators import dr_grpo, grpo, rloo
from shaping.estimators.dr_grpo import centred_rewards
from shaping.estimators.grpo import grpo_advantages
from shaping.estimators.rloo import leave_one_out_advantages


def binary(num_correct: int, size: int = 8) -> np.ndarray:
    return np.array([1.0] * num_correct + [0.0] * (size - num_correct), np.float32)


@pytest.mark.parametrize(
    ("num_correct", "of_correct", "of_wrong"),
    # less.md section 2. R = 1: mean 1/8, variance (7/8) / 7 = 1/8, so 0.875 / 0.35355 = 2.4749.
    [(1, 2.4749, -0.3536), (2, 1.6202, -0.5401), (3, 1.2076, -0.7246), (4, 0.9354, -0.9354), (5, 0.7246, -1.2076)],
)
def test_grpo_of_eight_rollouts_gives_the_published_numbers(
    num_correct: int, of_correct: float, of_wrong: float
) -> None:
    values = grpo_advantages(binary(num_correct))
    np.testing.assert_allclose(values[:num_correct], of_correct, atol=5e-5)
    np.testing.assert_allclose(values[num_correct:], of_wrong, atol=5e-5)


def test_grpo_divides_by_the_sample_standard_deviation_plus_epsilon() -> None:
    # rewards 1, 0: mean 0.5, sample std sqrt(0.5) = 0.70711; with epsilon 1 the divisor is 1.70711.
    np.testing.assert_allclose(grpo_advantages(binary(1, 2)), [0.70711, -0.70711], atol=1e-5)
    np.testing.assert_allclose(grpo_advantages(binary(1, 2), epsilon=1.0), [0.29289, -0.29289], atol=1e-5)


def test_grpo_of_one_rollout_is_its_reward() -> None:
    # mean 0 and std 1, as in verl: 0.5 / (1 + 1e-6).
    np.testing.assert_allclose(grpo_advantages(np.array([0.5], np.float32)), [0.5 / (1 + 1e-6)], rtol=1e-7)


def test_dr_grpo_is_the_distance_from_the_mean() -> None:
    # mean of 1 0 0 0 is 0.25
    assert centred_rewards(binary(1, 4)).tolist() == [0.75, -0.25, -0.25, -0.25]
    assert centred_rewards(np.array([0.5], np.float32)).tolist() == [0.5]


def test_rloo_is_the_distance_from_the_mean_of_the_others() -> None:
    # 1 0 0 0: 1 - 0; 0 - 1/3. It is the centred reward times 4/3.
    np.testing.assert_allclose(leave_one_out_advantages(binary(1, 4)), [1, -1 / 3, -1 / 3, -1 / 3], rtol=1e-6)
    np.testing.assert_allclose(leave_one_out_advantages(binary(1, 4)), centred_rewards(binary(1, 4)) * 4 / 3, rtol=1e-6)
    assert leave_one_out_advantages(np.array([0.5], np.float32)).tolist() == [0.5]


@pytest.mark.parametrize("advantages", [grpo_advantages, centred_rewards, leave_one_out_advantages])
@pytest.mark.parametrize("reward", [0.0, 0.1, 1.0, -3.3])
def test_equal_rewards_give_exactly_zero(advantages: Callable[[np.ndarray], np.ndarray], reward: float) -> None:
    # In float32 the mean of seven times 0.1 would not be 0.1, and the residue would be divided by 1e-6.
    assert not advantages(np.full(7, reward, np.float32)).any()


@pytest.mark.parametrize("module", [grpo, dr_grpo, rloo])
def test_every_token_of_a_response_gets_the_same_advantage(module: ModuleType) -> None:
    scored = make_scored([True, False, False], rollouts=[make_rollout([1, 2]), make_rollout([]), make_rollout([3] * 5)])
    rows = module.build(module.Config()).advantages(scored)
    assert [len(row) for row in rows] == [2, 0, 5]
    assert all(len(set(row.tolist())) <= 1 for row in rows)
    assert rows[0][0] > 0 > rows[2][0]


def test_grpo_refuses_an_epsilon_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match="epsilon must be > 0"):
        grpo.Config(epsilon=0.0)
