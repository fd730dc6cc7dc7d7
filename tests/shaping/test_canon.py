"""CANON: each rollout is compared with the other half of its group, by entropy or by length."""

from typing import Any

import numpy as np
import pytest
from group_builders import make_rollout, make_scored

from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError
from shaping.estimators.dr_grpo import centred_rewards


def advantages(rewards: list[float], entropies: list[float], lengths: list[int], **options: Any) -> list[float]:
    """One number per rollout: it is the same on every token."""
    rollouts = [
        make_rollout(list(range(1, length + 1)), entropies=[entropy] * length)
        for entropy, length in zip(entropies, lengths, strict=True)
    ]
    scored = make_scored([reward > 0.5 for reward in rewards], rewards=rewards, rollouts=rollouts)
    rows = load("shaping.estimators", ComponentSpec(kind="canon", options=options), "test").build().advantages(scored)
    assert all(len(set(row.tolist())) == 1 for row in rows)
    return [float(row[0]) for row in rows]


REWARDS, METRIC = [1.0, 1.0, 1.0, 0.0], [0.45, 0.775, 0.3, 0.6]
EQUAL = [3, 3, 3, 3]
LENGTHS = [45, 77, 30, 60]
"""In the order of METRIC."""


@pytest.mark.parametrize(
    ("inter_weight", "expected"),
    # Low half: rollouts 2 and 0, mean 1; high half: 3 and 1, mean 1/2. Between: 1 - 1/2, 1 - 1, 1 - 1/2, 0 - 1; within:
    # 1 - 1, 1 - 1/2, 1 - 1, 0 - 1/2.
    [(1.0, [0.5, 0.0, 0.5, -1.0]), (0.5, [0.25, 0.25, 0.25, -0.75]), (0.0, [0.0, 0.5, 0.0, -0.5])],
)
def test_a_rollout_is_compared_between_and_within_the_halves(inter_weight: float, expected: list[float]) -> None:
    assert advantages(REWARDS, METRIC, EQUAL, inter_weight=inter_weight) == pytest.approx(expected)
    by_length = advantages(REWARDS, [0.5] * 4, LENGTHS, inter_weight=inter_weight, metric="length")
    assert by_length == pytest.approx(expected)


def test_asymmetry_favours_high_entropy_and_short_responses() -> None:
    # By entropy, a = 0.9: high 1 - 0.9 and 0 - 0.9, low 0.9 - 1/2. By length: high 0.9 - 1 and 0 - 1, low 1 - 0.45.
    assert advantages(REWARDS, METRIC, EQUAL, asymmetry=0.9) == pytest.approx([0.4, 0.1, 0.4, -0.9])
    by_length = advantages(REWARDS, [0.5] * 4, LENGTHS, asymmetry=0.9, metric="length")
    assert by_length == pytest.approx([0.55, -0.1, 0.55, -1.0])


@pytest.mark.parametrize(("inter_weight", "expected"), [(1.0, [0, -1, 0.5, 0.5]), (0.5, [0.25, -0.75, 0.25, 0.25])])
def test_the_halves_follow_the_metric_and_not_the_order(inter_weight: float, expected: list[float]) -> None:
    # Low half 1 and 0, mean 1/2; high half 1 and 1, mean 1.
    found = advantages([1.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.5, 0.6], EQUAL, inter_weight=inter_weight)
    assert found == pytest.approx(expected)


def test_half_between_and_half_within_is_the_mean_baseline_where_the_halves_are_equal() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        rewards, entropies = rng.random(8).round(3), rng.random(8)
        found = advantages(rewards.tolist(), entropies.tolist(), [3] * 8, inter_weight=0.5)
        np.testing.assert_allclose(found, centred_rewards(rewards.astype(np.float32)), atol=1e-6)


def test_the_middle_rollout_of_an_odd_group_is_high_and_an_empty_half_means_nothing() -> None:
    # Low: the first, mean 0; high: the others, mean 1/2.
    assert advantages([0.0, 1.0, 0.0], [0.1, 0.2, 0.3], [2, 2, 2]) == pytest.approx([-0.5, 1.0, 0.0])
    assert advantages([1.0], [0.1], [2]) == pytest.approx([1.0])


def test_equal_entropies_are_told_apart_by_length() -> None:
    # Low: the two shorter ones, mean 1/2.
    assert advantages([1.0, 0.0, 1.0, 1.0], [0.5] * 4, [2, 9, 8, 3]) == pytest.approx([0.5, -1.0, 0.0, 0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inter_weight": 1.5}, r"inter_weight must be in \[0, 1\], got 1.5"),
        ({"asymmetry": -1}, "asymmetry must be >= 0 and finite, got -1.0"),
        ({"metric": "reward"}, "reward"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load("shaping.estimators", ComponentSpec(kind="canon", options=options), "test")
