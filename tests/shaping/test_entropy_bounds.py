"""Entropy bounds out of top-k log-probs, against every distribution of a grid."""

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from shaping.entropy_bounds import bound_entropies

GRAINS, VOCAB_SIZE = 12, 5


def distributions(left: int = GRAINS, most: int = GRAINS, size: int = VOCAB_SIZE) -> Iterator[tuple[int, ...]]:
    """Every way to spread twelfths over five tokens, falling; zeros allowed."""
    if size == 1:
        if left <= most:
            yield (left,)
        return
    for first in range(min(left, most), -1, -1):
        for rest in distributions(left - first, first, size - 1):
            yield (first, *rest)


def entropy(grains: tuple[int, ...]) -> float:
    return -sum(g / GRAINS * math.log(g / GRAINS) for g in grains if g)


def test_bounds_hold_for_every_distribution_and_the_lower_one_is_reached() -> None:
    by_top: dict[tuple[int, ...], list[tuple[int, ...]]] = defaultdict(list)
    for each in distributions():
        for k in range(1, VOCAB_SIZE + 1):
            if each[k - 1]:
                by_top[each[:k]].append(each)
    reached = 0
    for top, members in by_top.items():
        logprobs = [math.log(g / GRAINS) for g in top]
        bounds = bound_entropies([logprobs], vocab_size=VOCAB_SIZE)
        assert bounds.upper is not None
        found = [entropy(each) for each in members]
        # What holds least is on the grid: whole multiples of the smallest listed mass, and a rest in twelfths.
        assert bounds.lower[0] == pytest.approx(min(found), abs=1e-6)
        assert bounds.upper[0] >= max(found) - 1e-6
        tail, others = GRAINS - sum(top), VOCAB_SIZE - len(top)
        if others and tail % others == 0:
            assert bounds.upper[0] == pytest.approx(max(found), abs=1e-6)
            reached += 1
    assert len(by_top) > 100 and reached > 20


def test_worked_numbers() -> None:
    # Listed 0.5 and 0.2; the tail of 0.3 is least as 0.2 and 0.1, and most as 0.1 on each of the three others.
    bounds = bound_entropies([[math.log(0.5), math.log(0.2)]], vocab_size=5)
    listed = 0.5 * math.log(2) + 0.2 * math.log(5)
    assert bounds.lower[0] == pytest.approx(listed + 0.2 * math.log(5) + 0.1 * math.log(10))
    assert bounds.upper is not None
    assert bounds.upper[0] == pytest.approx(listed + 0.3 * math.log(10))


def test_without_a_vocabulary_only_the_lower_bound_exists() -> None:
    rows = [[math.log(0.5), math.log(0.2)], [math.log(0.9), math.log(0.05)]]
    known, unknown = bound_entropies(rows, vocab_size=50), bound_entropies(rows, vocab_size=None)
    assert unknown.upper is None
    assert np.array_equal(known.lower, unknown.lower)
    assert bound_entropies([], vocab_size=None).upper is None
    assert len(bound_entropies([], vocab_size=9).lower) == 0


def test_the_whole_distribution_has_equal_bounds_and_may_be_shorter_than_other_lists() -> None:
    certain, pair, three = [0.0], [math.log(0.75), math.log(0.25)], [math.log(1 / 3)] * 3
    bounds = bound_entropies([certain, pair, three], vocab_size=1000)
    exact = [0.0, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), math.log(3)]
    assert bounds.upper is not None
    np.testing.assert_allclose(bounds.lower, exact, atol=1e-6)
    np.testing.assert_allclose(bounds.upper, exact, atol=1e-6)


def test_bounds_come_closer_with_every_listed_token() -> None:
    probabilities = np.array([0.4, 0.2, 0.15, 0.1, 0.08, 0.05, 0.02])
    logprobs = np.log(probabilities).tolist()
    widths = []
    for k in range(1, 8):
        bounds = bound_entropies([logprobs[:k]], vocab_size=7)
        assert bounds.upper is not None
        widths.append(float(bounds.upper[0] - bounds.lower[0]))
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 0.5 and widths[-1] == 0.0


def test_rounded_log_probs_that_add_up_to_a_little_more_than_one_are_taken() -> None:
    bounds = bound_entropies([[math.log(0.7503), math.log(0.2502)]], vocab_size=4)
    assert bounds.upper is not None
    assert 0.56 < bounds.lower[0] <= bounds.upper[0] < 0.57


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ([], "at least one"),
        ([-1.0, -0.5], "must fall from the largest"),
        ([0.5], "must be <= 0"),
        ([math.nan], "must be finite"),
        ([-math.inf], "must be finite"),
        ([-0.1, -0.2], "add up to at most 1"),
        ([-3.0], "vocab_size = 4"),
        ([math.log(0.2)] * 5, "at most vocab_size = 4"),
    ],
)
def test_what_is_no_distribution_is_refused_with_its_token(row: list[float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as caught:
        bound_entropies([[0.0], row], vocab_size=4)
    assert "(token 1)" in str(caught.value)


def test_a_sampled_token_behind_the_largest_is_refused() -> None:
    # What vLLM returns: the k largest, and the sampled token where it is not among them; the bound would be wrong.
    with pytest.raises(ValueError, match="must be 3 for every token") as caught:
        bound_entropies([[-0.5, -2.0], [-0.5, -2.0, -9.0]], vocab_size=100)
    assert "some engines add the sampled token" in str(caught.value)
