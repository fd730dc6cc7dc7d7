"""Which rank trains which sample in which forward pass, decided from lengths alone.

Knows no tokens and no tensors: the orchestrator plans, the ranks fetch what the plan names.
"""

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Layout = Literal["padded", "packed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSize:
    """Length of one sample of the batch.

    Args:
        group_index: index of its group within the batch.
        sample_index: index within its group's samples.
        num_tokens: prompt, hint and response.
        num_valid_tokens: tokens with loss.
    """

    group_index: int
    sample_index: int
    num_tokens: int
    num_valid_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatchPlan:
    """One optimizer update.

    Args:
        micro_batches: [rank][micro-batch][sample], every rank with the same number of micro-batches; a rank that has
            nothing left for a micro-batch has an empty tuple there and still takes part in collectives.
        num_valid_tokens: over all ranks: the denominator of the token mean.
    """

    micro_batches: tuple[tuple[tuple[SampleSize, ...], ...], ...]
    num_valid_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """One learner step: its updates in order, epochs included."""

    mini_batches: tuple[MiniBatchPlan, ...]


def plan_batch(
    sizes: Sequence[SampleSize],
    *,
    num_ranks: int,
    mini_batch_groups: int,
    num_epochs: int,
    micro_batch_tokens: int,
    layout: Layout,
    seed: int,
) -> BatchPlan:
    """Divide a batch in mini-batches of whole groups, and those in micro-batches balanced by tokens.

    Groups are shuffled before each epoch, except before the first epoch of a batch that is one mini-batch. The last
    mini-batch is short where groups of the batch were dropped. A sample longer than `micro_batch_tokens` has a
    micro-batch of its own. The same arguments give the same plan.

    Args:
        mini_batch_groups: groups per optimizer update; 0 for the whole batch.
        micro_batch_tokens: most tokens of one rank's forward pass: rows times longest row in the padded layout, the
            sum of lengths in the packed one.
        seed: of the shuffles; the caller derives one per step.
    Raises:
        ValueError: no samples, or a sample named twice.
    """
    keys = [(size.group_index, size.sample_index) for size in sizes]
    if not keys:
        raise ValueError("a batch must hold at least one sample, got none (plan_batch)")
    if len(set(keys)) != len(keys):
        raise ValueError("every sample must be named once, found a repeated group and sample index (plan_batch)")
    by_group: dict[int, list[SampleSize]] = {}
    for size in sorted(sizes, key=_position):
        by_group.setdefault(size.group_index, []).append(size)
    groups_each = mini_batch_groups or len(by_group)
    mini_batches = []
    for epoch in range(num_epochs):
        order = list(by_group)
        if epoch > 0 or len(order) > groups_each:
            random.Random(f"{seed}/{epoch}").shuffle(order)
        for start in range(0, len(order), groups_each):
            members = [size for index in order[start : start + groups_each] for size in by_group[index]]
            mini_batches.append(_plan_mini_batch(members, num_ranks, micro_batch_tokens, layout))
    return BatchPlan(mini_batches=tuple(mini_batches))


def micro_batch_cost(sizes: Sequence[SampleSize], layout: Layout) -> int:
    """Tokens of a forward pass over these samples, padding included."""
    lengths = [size.num_tokens for size in sizes]
    return sum(lengths) if layout == "packed" else len(lengths) * max(lengths, default=0)


def _plan_mini_batch(members: list[SampleSize], num_ranks: int, limit: int, layout: Layout) -> MiniBatchPlan:
    longest_first = sorted(members, key=lambda size: (-size.num_tokens, *_position(size)))
    split = _split_packed if layout == "packed" else _split_padded
    bins = split(longest_first, num_ranks, limit)
    # Ranks wait for one another in every layer, so a micro-batch holds one bin per rank of nearly equal cost; the rank
    # order turns around each time so that no rank always has the dearest one.
    bins.sort(key=lambda each: (-micro_batch_cost(each, layout), [_position(size) for size in each]))
    num_micro_batches = -(-len(bins) // num_ranks)
    bins += [[] for _ in range(num_micro_batches * num_ranks - len(bins))]
    ranks: list[list[tuple[SampleSize, ...]]] = [[] for _ in range(num_ranks)]
    for index in range(num_micro_batches):
        row = bins[index * num_ranks : (index + 1) * num_ranks]
        for rank, each in enumerate(row if index % 2 == 0 else reversed(row)):
            ranks[rank].append(tuple(sorted(each, key=_position)))
    return MiniBatchPlan(
        micro_batches=tuple(tuple(rows) for rows in ranks),
        num_valid_tokens=sum(size.num_valid_tokens for size in members),
    )


def _split_packed(longest_first: list[SampleSize], num_ranks: int, limit: int) -> list[list[SampleSize]]:
    """Fewest rounds of `num_ranks` bins that hold everything, each sample put in the emptiest bin."""
    total = sum(size.num_tokens for size in longest_first)
    num_bins = max(1, -(-total // (limit * num_ranks))) * num_ranks
    while (bins := _fill_emptiest(longest_first, num_bins, limit)) is None:
        num_bins += num_ranks
    return [each for each in bins if each]


def _fill_emptiest(longest_first: list[SampleSize], num_bins: int, limit: int) -> list[list[SampleSize]] | None:
    bins: list[list[SampleSize]] = [[] for _ in range(num_bins)]
    heap = [(0, index) for index in range(num_bins)]
    for size in longest_first:
        tokens, index = heap[0]
        if tokens > 0 and tokens + size.num_tokens > limit:
            return None
        bins[index].append(size)
        heapq.heapreplace(heap, (tokens + size.num_tokens, index))
    return bins


def _split_padded(longest_first: list[SampleSize], num_ranks: int, limit: int) -> list[list[SampleSize]]:
    """Neighbours in length share a bin; the dearest bin is as cheap as the number of rounds allows."""
    fewest = len(_cut_rows(longest_first, limit))
    num_bins = -(-fewest // num_ranks) * num_ranks
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        if len(_cut_rows(longest_first, middle)) <= num_bins:
            high = middle
        else:
            low = middle + 1
    return _cut_rows(longest_first, low)


def _cut_rows(longest_first: list[SampleSize], limit: int) -> list[list[SampleSize]]:
    bins: list[list[SampleSize]] = []
    for size in longest_first:
        if bins and (len(bins[-1]) + 1) * bins[-1][0].num_tokens <= limit:
            bins[-1].append(size)
        else:
            bins.append([size])
    return bins


def _position(size: SampleSize) -> tuple[int, int]:
    return size.group_index, size.sample_index
