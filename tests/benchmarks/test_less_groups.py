"""Laws of the generated groups: the statistics that less.md states, and the shapes that contrived groups promise."""

import numpy as np
import pytest
from containment_oracle import oracle_runs

from shaping.less import batch_multipliers
from tests.benchmarks.less_groups import REGIMES, Group, make_batch, make_group, num_tokens_of
from tests.benchmarks.worst_groups import WORST_GROUPS

NUM_GROUPS, NUM_TOKENS = 16, 3072


def run_lengths(group: Group, *, min_length: int = 1) -> np.ndarray:
    """Lengths of all low-entropy runs of a group."""
    rows = [oracle_runs(row.tolist(), quantile=0.8, min_length=min_length, membership="lt") for row in group[1]]
    return np.array([stop - start for row in rows for start, stop in row])


def zero_share(regime: str) -> float:
    """Share of tokens that containment neutralises."""
    rows = batch_multipliers(make_batch(NUM_GROUPS, REGIMES[regime], NUM_TOKENS))
    return float(np.mean([row == 0 for group in rows for row in group]))


def test_typical_groups_have_the_stated_statistics() -> None:
    # Tolerance: four standard errors of 64 groups; between groups the standard deviation is 0.011, 0.44 and 2.7.
    groups = [run_lengths(group) for group in make_batch(64, REGIMES["typical"], 512)]
    segments = [runs[runs >= 5] for runs in groups]
    total = 8 * 512
    assert np.mean([runs.sum() / total for runs in groups]) == pytest.approx(0.80, abs=0.001)
    assert np.mean([runs.sum() / total for runs in segments]) == pytest.approx(0.65, abs=0.006)
    assert np.mean([runs.mean() for runs in segments]) == pytest.approx(10.5, abs=0.22)
    assert np.mean([np.percentile(runs, 99) for runs in groups]) == pytest.approx(27, abs=1.4)


@pytest.mark.parametrize(("regime", "stated"), [("typical", 0.223), ("high_share", 0.469)])
def test_as_much_is_shared_as_stated(regime: str, stated: float) -> None:
    # Between groups the standard deviation is 0.065: four standard errors of 16 groups.
    assert zero_share(regime) == pytest.approx(stated, abs=0.065)


def test_low_share_groups_share_next_to_nothing() -> None:
    assert zero_share("low_share") < 0.03


def test_long_runs_are_longer_and_a_loop_is_half_a_response() -> None:
    longer = run_lengths(make_group(REGIMES["long_runs"], NUM_TOKENS, seed=0), min_length=5)
    assert longer.mean() > 15
    responses, _, _ = make_group(REGIMES["loop"], NUM_TOKENS, seed=0)
    half = responses[0][NUM_TOKENS // 2 :]
    np.testing.assert_array_equal(half[7:], half[:-7])


def test_groups_of_a_batch_differ_and_share_no_memory() -> None:
    (first, nats, _), (second, _, _) = batch = make_batch(2, REGIMES["typical"], 64)
    assert num_tokens_of(batch) == 2 * 8 * 64
    assert not np.array_equal(first[0], second[0])
    assert all(row.base is None or row.base.size == row.size for row in (*first, *second, *nats))
    again = make_batch(2, REGIMES["typical"], 64)
    np.testing.assert_array_equal(again[1][0][3], second[3])


@pytest.mark.parametrize("regime", sorted(REGIMES))
@pytest.mark.parametrize("num_tokens", [1, 2, 9, 100])
def test_every_regime_writes_every_length(regime: str, num_tokens: int) -> None:
    check_group(make_group(REGIMES[regime], num_tokens, seed=1), num_tokens)


@pytest.mark.parametrize("name", sorted(WORST_GROUPS))
def test_contrived_groups_keep_eighty_percent_of_their_tokens_low(name: str) -> None:
    group = WORST_GROUPS[name](640)
    check_group(group, 640)
    # k = round(0.8 * 640) = 512 tokens of a response lie below its threshold; the lowest forks may be among them.
    assert run_lengths(group).sum() == 8 * 512
    assert run_lengths(group, min_length=5).sum() >= 8 * 300


def test_giant_runs_are_giant_and_equal() -> None:
    for name in ("equal_runs", "equal_loops"):
        responses, entropies, _ = WORST_GROUPS[name](640)
        assert run_lengths(([], entropies, np.ones(0, np.bool_)), min_length=100).tolist() == [512] * 8
        assert all(np.array_equal(row[:512], responses[0][:512]) for row in responses)


def test_runs_with_a_common_head_share_five_tokens_and_end_differently() -> None:
    responses, entropies, _ = WORST_GROUPS["common_head"](640)
    lasts = []
    for ids, nats in zip(responses, entropies, strict=True):
        runs = oracle_runs(nats.tolist(), quantile=0.8, min_length=5, membership="lt")
        strings = [ids[start:stop].tolist() for start, stop in runs if stop - start == 6]
        assert len(strings) > 75
        assert all(string[:5] == [0, 1, 2, 3, 4] for string in strings)
        lasts += [string[5] for string in strings]
    assert len(set(lasts)) == len(lasts)


def check_group(group: Group, num_tokens: int) -> None:
    responses, entropies, correct = group
    assert len(responses) == len(entropies) == len(correct) == 8
    assert 0 < correct.sum() < 8
    for tokens, nats in zip(responses, entropies, strict=True):
        assert (tokens.dtype, nats.dtype) == (np.int32, np.float32)
        assert tokens.shape == nats.shape == (num_tokens,)
        assert tokens.min() >= 0
        assert np.isfinite(nats).all() and nats.min() >= 0
