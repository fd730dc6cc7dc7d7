"""What a policy loss is, and the one rule by which per-token losses become a number."""

from dataclasses import dataclass, field
from typing import Protocol

import torch

from shaping.metrics import Mean, Metric

MAX_LOG_RATIO = 20.0
"""Log ratios are held within this, so that no product of 0 and infinity can arise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """The scored tokens of one micro-batch; every tensor [S], float32 unless said otherwise.

    Args:
        policy_logprobs: of the current policy; the only input with a gradient.
        old_logprobs: what importance ratios are taken against: from the sampler, or the learner's own from before the
            step (learner.old_logprobs).
        reference_logprobs: from the frozen reference model; None without one.
        policy_entropies: nats, detached.
        advantages: 0 outside the loss mask.
        loss_mask: bool, tokens trained.
        weights: from the token plans and the correction, 1 without any.
        clip_low, clip_high: per-token clip ranges of a token plan; None leaves the loss's own.
        unclipped: bool, tokens whose ratio must not be clipped in any way, a dual clip included.
        sequence_ids: int64, which sample a token belongs to, for losses on whole sequences.
        num_valid_tokens: trained tokens of the whole update, over all micro-batches and ranks.
    """

    policy_logprobs: torch.Tensor
    old_logprobs: torch.Tensor
    reference_logprobs: torch.Tensor | None
    policy_entropies: torch.Tensor
    advantages: torch.Tensor
    loss_mask: torch.Tensor
    weights: torch.Tensor
    clip_low: torch.Tensor | None
    clip_high: torch.Tensor | None
    unclipped: torch.Tensor
    sequence_ids: torch.Tensor
    num_valid_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOutput:
    """This micro-batch's share of the update's loss (a scalar with gradient), and what was counted."""

    loss: torch.Tensor
    metrics: dict[str, Metric] = field(default_factory=dict)


class PolicyLoss(Protocol):
    """Scored tokens to a loss. Shares of all micro-batches and ranks add up to the loss of the update."""

    @property
    def clip_range(self) -> tuple[float, float]:
        """(low, high): ratios outside [1 - low, 1 + high] are clipped where that lowers the gain; (inf, inf): none."""
        ...

    def loss(self, inputs: LossInputs) -> LossOutput: ...


def token_mean(values: torch.Tensor, mask: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """This micro-batch's share of a mean over tokens: sum over masked tokens / `num_tokens` of the whole update.

    Values outside the mask are not read, so they may be anything. No tokens at all give 0.
    """
    return torch.where(mask, values, 0.0).sum() / max(num_tokens, 1)


def mean_metrics(values: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[str, Metric]:
    """Per-token tensors [S] to means over the masked tokens; one transfer from the device for all of them."""
    rows = torch.stack([torch.where(mask, value.detach().float(), 0.0) for value in values.values()])
    count = mask.sum()
    *totals, num_tokens = torch.cat([rows.double().sum(1), count[None].double()]).tolist()
    return {name: Mean(total, num_tokens) for name, total in zip(values, totals, strict=True)}
