"""GRPO with a virtual reward beside the group's."""

import math

import numpy as np
import pytest

from shaping.estimators.grpo import grpo_advantages
from shaping.estimators.ngrpo import Config, ngrpo_advantages


def ngrpo(rewards: list[float], **options: float) -> np.ndarray:
    return ngrpo_advantages(np.array(rewards, np.float32), Config(**options))  # type: ignore[arg-type]


def test_a_group_that_is_all_wrong_has_negative_advantages() -> None:
    # Eight 0 and one 1: mean 1/9, variance (8/81 + 64/81) / 8 = 1/9, so -(1/9) / (1/3).
    np.testing.assert_allclose(ngrpo([0.0] * 8), [-1 / 3] * 8, atol=2e-6)


def test_the_virtual_reward_moves_mean_and_deviation() -> None:
    # 1 0 0 0 and 1: mean 0.4, variance (2 x 0.36 + 3 x 0.16) / 4 = 0.3.
    std = math.sqrt(0.3)
    np.testing.assert_allclose(ngrpo([1.0, 0.0, 0.0, 0.0]), [0.6 / std] + [-0.4 / std] * 3, atol=4e-6)
    np.testing.assert_allclose(ngrpo([1.0, 0.0, 0.0, 0.0])[:2], [1.0954, -0.7303], atol=5e-5)


def test_a_group_that_earned_the_most_has_advantages_of_exactly_zero() -> None:
    assert ngrpo([1.0] * 4).tolist() == [0.0] * 4
    assert ngrpo([0.3] * 3, max_reward=0.3).tolist() == [0.0] * 3


def test_several_virtual_rewards_of_another_height() -> None:
    # 0 0 and 2 2: mean 1, variance 4/3.
    np.testing.assert_allclose(ngrpo([0.0, 0.0], num_virtual=2, max_reward=2.0), [-1 / math.sqrt(4 / 3)] * 2, atol=2e-6)


def test_a_wrong_rollout_alone_is_compared_with_the_virtual_one() -> None:
    # 0 and 1: mean 1/2, standard deviation sqrt(1/2).
    np.testing.assert_allclose(ngrpo([0.0]), [-math.sqrt(0.5)], atol=2e-6)
    assert ngrpo([1.0]).tolist() == [0.0]


@pytest.mark.parametrize("rewards", [[1.0, 0.0, 0.3], [0.1] * 7, [0.5], [-1.0, 2.0]])
def test_without_virtual_rewards_it_is_grpo_bit_for_bit(rewards: list[float]) -> None:
    values = np.array(rewards, np.float32)
    assert ngrpo(rewards, num_virtual=0).tobytes() == grpo_advantages(values).tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_virtual": -1}, "num_virtual must be >= 0, got -1"),
        ({"max_reward": float("nan")}, "max_reward must be finite, got nan"),
        ({"epsilon": 0.0}, "epsilon must be > 0, got 0.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)  # type: ignore[arg-type]
