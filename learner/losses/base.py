"""What a policy loss is, and the one rule by which per-token losses become a number."""

from dataclasses import dataclass, field
from typing import Protocol

import torch

from shaping.metrics import Max, Mean, Metric

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
        num_valid_tokens, num_sequences: trained tokens of the whole update, over all micro-batches and ranks, and
            samples with at least one.
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
    num_sequences: int


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


def log_ratios(inputs: LossInputs) -> torch.Tensor:
    """policy - old log-prob of each token [S], held within +-MAX_LOG_RATIO; 0 outside the loss mask."""
    difference = torch.where(inputs.loss_mask, inputs.policy_logprobs - inputs.old_logprobs, 0.0)
    return difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def clipped_ratios(inputs: LossInputs, ratios: torch.Tensor, clip_range: tuple[float, float]) -> torch.Tensor:
    """Ratios [S] held within a token plan's clip range or else the loss's own; unclipped tokens keep theirs."""
    low = clip_range[0] if inputs.clip_low is None else inputs.clip_low
    high = clip_range[1] if inputs.clip_high is None else inputs.clip_high
    clipped = torch.maximum(torch.minimum(ratios, torch.as_tensor(1 + high)), torch.as_tensor(1 - low))
    return torch.where(inputs.unclipped, ratios, clipped)


def check_clip_range(low: float, high: float) -> None:
    """Raises: ValueError: not the clip range of a loss, as its options `clip_low` and `clip_high` give it."""
    if not 0 <= low <= 1:
        raise ValueError(f"clip_low must be in [0, 1], got {low}")
    if high < 0:
        raise ValueError(f"clip_high must be >= 0, got {high}")


def token_mean(values: torch.Tensor, mask: torch.Tensor, num_tokens: float) -> torch.Tensor:
    """This micro-batch's share of a mean over tokens: sum over masked tokens / `num_tokens` of the whole update.

    Values outside the mask are not read, so they may be anything. No tokens at all give 0.
    """
    return torch.where(mask, values, 0.0).sum() / (num_tokens or 1)


def mean_metrics(values: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[str, Metric]:
    """Per-token tensors [S] to means over the masked tokens; one transfer from the device for all of them."""
    rows = torch.stack([torch.where(mask, value.detach().float(), 0.0) for value in values.values()])
    count = mask.sum()
    *totals, num_tokens = torch.cat([rows.double().sum(1), count[None].double()]).tolist()
    return {name: Mean(total, num_tokens) for name, total in zip(values, totals, strict=True)}


def ratio_metrics(ratios: torch.Tensor, mask: torch.Tensor, values: dict[str, torch.Tensor]) -> dict[str, Metric]:
    """Mean and largest importance ratio of trained tokens, and the means of `values`; no largest one of no tokens."""
    metrics = mean_metrics({**values, "learner_importance_ratio_mean": ratios}, mask)
    if bool(mask.any()):
        metrics["learner_importance_ratio_max"] = Max(float(torch.where(mask, ratios.detach(), 0.0).max()))
    return metrics
