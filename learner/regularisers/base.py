"""What a regulariser is: an extra loss term on differentiable quantities of the scored tokens."""

from dataclasses import dataclass
from typing import Protocol

import torch

from learner.losses.base import LossOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class RegulariserInputs:
    """The scored tokens of one micro-batch; tensors [S] float32, masks bool.

    Args:
        policy_logprobs: with gradient, hint tokens included.
        policy_entropies: nats; with gradient for a regulariser that needs DIFFERENTIABLE_ENTROPIES.
        loss_mask: tokens of the policy loss.
        hint_mask: tokens of a given hint.
        hint_weights: 1 / samples that share the hint on hint tokens, 0 elsewhere.
        num_valid_tokens: trained tokens of the whole update, over all micro-batches and ranks.
        num_hint_tokens: the sum of `hint_weights` over the same: hint tokens, a hint that samples share counted once.
        update_entropy: nats, mean over the trained tokens of the whole update under the policy before it, detached; 0
            without trained tokens, None unless a regulariser needs UPDATE_ENTROPY.
        step: 0-based learner step, for schedules.
    """

    policy_logprobs: torch.Tensor
    policy_entropies: torch.Tensor
    loss_mask: torch.Tensor
    hint_mask: torch.Tensor
    hint_weights: torch.Tensor
    num_valid_tokens: int
    num_hint_tokens: float
    update_entropy: float | None
    step: int


class Regulariser(Protocol):
    """Scored tokens to this micro-batch's share of one loss term, sign included."""

    def term(self, inputs: RegulariserInputs) -> LossOutput: ...
