from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.batch_plan import BatchPlan, SampleSize, micro_batch_cost, plan_batch


def make_sizes(lengths_by_group: list[list[int]]) -> list[SampleSize]:
    return [
        SampleSize(group_index=group, sample_index=index, num_tokens=length, num_valid_tokens=length // 2)
        for group, lengths in enumerate(lengths_by_group)
        for index, length in enumerate(lengths)
    ]


def plan(sizes: list[SampleSize], **options: object) -> BatchPlan:
    defaults = {
        "num_ranks": 2,
        "mini_batch_groups": 0,
        "num_epochs": 1,
        "micro_batch_tokens": 64,
        "layout": "packed",
        "seed": 0,
    }
    return plan_batch(sizes, **{**defaults, **options})


groups = st.lists(st.lists(st.integers(1, 100), min_size=1, max_size=6), min_size=1, max_size=8)
options = st.fixed_dictionaries(
    {
        "num_ranks": st.integers(1, 4),
        "mini_batch_groups": st.integers(0, 4),
        "num_epochs": st.integers(1, 3),
        "micro_batch_tokens": st.integers(1, 250),
        "layout": st.sampled_from(["padded", "packed"]),
        "seed": st.integers(0, 3),
    }
)


@given(groups, options)
@settings(max_examples=200, deadline=None)
def test_every_sample_is_trained_exactly_once_per_epoch(lengths: list[list[int]], chosen: dict) -> None:
    sizes = make_sizes(lengths)
    found = Counter(
        size
        for mini_batch in plan(sizes, **chosen).mini_batches
        for rank in mini_batch.micro_batches
        for micro_batch in rank
        for size in micro_batch
    )
    assert found == dict.fromkeys(sizes, chosen["num_epochs"])


@given(groups, options)
@settings(max_examples=200, deadline=None)
def test_ranks_have_equal_counts_and_limits_hold(lengths: list[list[int]], chosen: dict) -> None:
    for mini_batch in plan(make_sizes(lengths), **chosen).mini_batches:
        assert len(mini_batch.micro_batches) == chosen["num_ranks"]
        assert len({len(rank) for rank in mini_batch.micro_batches}) == 1
        for micro_batch in (each for rank in mini_batch.micro_batches for each in rank):
            cost = micro_batch_cost(micro_batch, chosen["layout"])
            assert cost <= chosen["micro_batch_tokens"] or len(micro_batch) == 1


@given(groups, options)
@settings(max_examples=100, deadline=None)
def test_mini_batches_hold_whole_groups_and_their_valid_tokens(lengths: list[list[int]], chosen: dict) -> None:
    sizes = make_sizes(lengths)
    by_group = Counter(size.group_index for size in sizes)
    per_mini_batch = chosen["mini_batch_groups"] or len(lengths)
    found = plan(sizes, **chosen).mini_batches
    assert len(found) == chosen["num_epochs"] * -(-len(lengths) // per_mini_batch)
    for mini_batch in found:
        members = [size for rank in mini_batch.micro_batches for each in rank for size in each]
        counted = Counter(size.group_index for size in members)
        assert all(counted[group] == by_group[group] for group in counted)
        assert len(counted) <= per_mini_batch
        assert mini_batch.num_valid_tokens == sum(size.num_valid_tokens for size in members)


@given(groups, options)
@settings(max_examples=50, deadline=None)
def test_the_plan_depends_on_nothing_but_its_arguments(lengths: list[list[int]], chosen: dict) -> None:
    sizes = make_sizes(lengths)
    assert plan(sizes, **chosen) == plan(list(reversed(sizes)), **chosen)


@given(groups, st.integers(1, 4), st.sampled_from(["padded", "packed"]))
@settings(max_examples=100, deadline=None)
def test_no_round_of_micro_batches_is_empty(lengths: list[list[int]], num_ranks: int, layout: str) -> None:
    for mini_batch in plan(make_sizes(lengths), num_ranks=num_ranks, layout=layout).mini_batches:
        for row in zip(*mini_batch.micro_batches, strict=True):
            assert any(row)


@pytest.mark.parametrize("num_ranks", [1, 2, 8, 64])
@pytest.mark.parametrize(("num_groups", "limit"), [(512, 16_384), (512, 32_768), (64 * 4, 16_384)])
def test_long_tailed_lengths_leave_ranks_waiting_for_3_percent_at_most(
    num_groups: int, limit: int, num_ranks: int
) -> None:
    # Lognormal around 700 tokens, one in 40 longer than 5000: a rank's turn costs what the longest of its row costs.
    lengths = np.random.default_rng(1).lognormal(np.log(700), 1.0, (num_groups, 8)).astype(int).clip(1, 8192)
    (mini_batch,) = plan(make_sizes(lengths.tolist()), num_ranks=num_ranks, micro_batch_tokens=limit).mini_batches
    rows = [[micro_batch_cost(each, "packed") for each in row] for row in zip(*mini_batch.micro_batches, strict=True)]
    assert 1 - lengths.sum() / sum(num_ranks * max(row) for row in rows) <= 0.03
    fewest = -(-lengths.sum() // (num_ranks * limit))
    assert len(rows) <= fewest * 1.02 + 1


def test_packed_micro_batches_of_equal_samples_are_equal() -> None:
    # 16 samples of 10 tokens, 64 tokens a micro-batch, 2 ranks: 160 tokens need 2 micro-batches a rank, 4 samples each
    (mini_batch,) = plan(make_sizes([[10] * 16])).mini_batches
    assert [[len(each) for each in rank] for rank in mini_batch.micro_batches] == [[4, 4], [4, 4]]


def test_padding_counts_in_the_padded_layout() -> None:
    # 30 and 30 fit 64 tokens side by side; 10 beside a 30 would cost 3 x 30 = 90
    (mini_batch,) = plan(make_sizes([[30, 30, 10, 10]]), num_ranks=1, layout="padded").mini_batches
    assert [[size.num_tokens for size in each] for each in mini_batch.micro_batches[0]] == [[30, 30], [10, 10]]


def test_a_sample_above_the_limit_has_a_micro_batch_of_its_own() -> None:
    (mini_batch,) = plan(make_sizes([[100, 5, 5]]), num_ranks=1, layout="packed").mini_batches
    assert sorted(sorted(size.num_tokens for size in each) for each in mini_batch.micro_batches[0]) == [[5, 5], [100]]


def test_a_rank_without_samples_has_empty_micro_batches() -> None:
    (mini_batch,) = plan(make_sizes([[10]]), num_ranks=3).mini_batches
    assert sorted(len(each) for rank in mini_batch.micro_batches for each in rank) == [0, 0, 1]


def test_a_single_mini_batch_keeps_its_order_and_several_are_shuffled_by_seed() -> None:
    sizes = make_sizes([[10]] * 8)

    def order(**chosen: object) -> list[int]:
        return [
            size.group_index
            for mini_batch in plan(sizes, num_ranks=1, micro_batch_tokens=10, **chosen).mini_batches
            for each in mini_batch.micro_batches[0]
            for size in each
        ]

    assert order() == list(range(8))
    assert order(mini_batch_groups=1, seed=1) != order(mini_batch_groups=1, seed=2)
    epochs = order(mini_batch_groups=1, num_epochs=2)
    assert epochs[:8] != epochs[8:]


def test_an_empty_batch_and_a_repeated_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        plan([])
    with pytest.raises(ValueError, match="named once"):
        plan(make_sizes([[3]]) * 2)
