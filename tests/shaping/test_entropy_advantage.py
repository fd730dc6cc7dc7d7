"""A share of the entropy is added to the advantage, never more than a share of the advantage."""

import numpy as np
import pytest
from group_builders import make_rollout, make_scored, make_segmented

from shaping.shapers.entropy_advantage import Config, build, factors


def shaped(entropies: list[float], advantages: list[float], **options: float) -> np.ndarray:
    """Advantages after shaping."""
    row = np.array(advantages, np.float32)
    return row * factors(np.array(entropies, np.float32), row, Config(**options))


def test_what_is_added_is_alpha_times_the_entropy_up_to_a_share_of_the_advantage() -> None:
    # 0.4 H is 0.08, 0.4, 0.2, 0.04; half the advantage is 0.5, 0.5, 0.05, 0.
    added = shaped([0.2, 1.0, 0.5, 0.1], [1.0, 1.0, 0.1, 0.0]) - np.array([1.0, 1.0, 0.1, 0.0])
    np.testing.assert_allclose(added, [0.08, 0.4, 0.05, 0.0], atol=1e-7)


def test_a_negative_advantage_shrinks_where_the_policy_was_unsure() -> None:
    # 0.4 x 0.8 = 0.32 and 0.4 x 1.6 = 0.64, of which half the advantage, 0.5, is added.
    np.testing.assert_allclose(shaped([0.8, 1.6], [-1.0, -1.0]), [-0.68, -0.5], rtol=1e-6)


def test_it_equals_the_sum_that_the_paper_writes() -> None:
    rng = np.random.default_rng(5)
    entropies, advantages = rng.exponential(1.0, 200), rng.normal(size=200)
    for kappa in (1.0, 2.0, 5.0):
        wanted = advantages + np.minimum(0.3 * entropies, np.abs(advantages) / kappa)
        found = shaped(entropies.tolist(), advantages.tolist(), alpha=0.3, kappa=kappa)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
        assert (np.sign(found) * np.sign(wanted) >= 0).all()


def test_kappa_1_may_take_a_negative_advantage_away_and_never_turns_it() -> None:
    assert shaped([9.0, 9.0], [-1.0, 1.0], kappa=1.0).tolist() == [0.0, 2.0]


def test_a_hair_below_no_entropy_adds_nothing() -> None:
    assert shaped([-5e-5], [1.0]).tolist() == [1.0]


def test_the_smallest_advantages_stay_finite() -> None:
    assert factors(np.array([3.0], np.float32), np.array([1e-45], np.float32), Config()).tolist() == [1.5]


def test_alpha_0_is_a_factor_of_exactly_one() -> None:
    assert factors(np.ones(3, np.float32), np.array([1, -2, 0], np.float32), Config(alpha=0.0)).tolist() == [1.0] * 3


def test_the_advantages_are_those_that_earlier_shapers_left() -> None:
    segmented = make_segmented(make_scored([True, False], rollouts=[make_rollout([1, 2], entropies=[1.0, 1.0])] * 2))
    halved = (np.array([1.0, 0.5], np.float32), np.array([-1.0, 0.0], np.float32))
    result = build(Config()).multipliers(segmented, halved)
    # 0.4 of 1, at most half; 0.25 of 0.5, which is half of it.
    np.testing.assert_allclose(result.multipliers[0], [1.4, 1.5], rtol=1e-6)
    np.testing.assert_allclose(result.multipliers[1], [0.6, 1.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"alpha": -0.1}, "alpha must be >= 0 and finite, got -0.1"), ({"kappa": 0.5}, "kappa must be >= 1 and finite")],
)
def test_options_out_of_range_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Config(**options)
