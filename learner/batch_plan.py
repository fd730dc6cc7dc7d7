"""Which rank trains which sample in which forward pass, decided from lengths alone.

Knows no tokens and no tensors: the orchestrator plans, the ranks fetch what the plan names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


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
    layout: Literal["padded", "packed"],
    seed: int,
) -> BatchPlan:
    """Divide a batch in mini-batches of whole groups, and those in micro-batches balanced by tokens."""
    raise NotImplementedError
