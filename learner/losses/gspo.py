"""GSPO: importance ratios and clipping of whole responses instead of single tokens.

With the mean d_i of policy - old log-prob over the trained tokens of response i, s_i = exp(d_i), and per token:

    s_it = sg(s_i) pi / sg(pi),   loss = max(-A s_it, -A clip(s_it, 1 - clip_low, 1 + clip_high))

s_it has the value of s_i, and its gradient reaches token t alone, so that advantages may differ from token to token
(LESS's do). `mean` "sequence" averages over the tokens of each response and then over responses; "token" over all
trained tokens. Where the advantages of a response are equal, "sequence" has the value and the gradient of the loss on
s_i itself.
Source: Zheng et al. 2025 (arXiv:2507.18071), sections 4.1 and 4.3 (GSPO-token), clip ranges of section 5. Needs the old
and the policy log-probs. Deviations: d_i is held in [-20, 20]; token plans act on tokens: a weight scales the token's
share, a clip range and `unclipped` hold for the token's s_it.
"""

from dataclasses import dataclass
from typing import Literal

import torch

from learner.losses.base import (
    MAX_LOG_RATIO,
    LossInputs,
    LossOutput,
    check_clip_range,
    clipped_ratios,
    log_ratios,
    ratio_metrics,
)
from learner.losses.base import token_mean as mean_over_tokens
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    clip_low, clip_high: ratios outside [1 - clip_low, 1 + clip_high] are clipped; those of responses stay near 1, so
        the range is some hundred times narrower than one of tokens.
    mean: over responses of the means over their tokens, or over all tokens.
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4
    mean: Literal["sequence", "token"] = "sequence"

    def __post_init__(self) -> None:
        check_clip_range(self.clip_low, self.clip_high)


NEEDS = frozenset({Signal.BEHAVIOR_LOGPROBS, Signal.POLICY_LOGPROBS})
CONFLICTS = {
    "clip_cov": "Clip-Cov draws among tokens whose own ratio is not clipped; GSPO clips no token by its own ratio",
    "kl_cov": "KL-Cov turns off all clipping and holds single tokens instead; GSPO is the clipping of whole responses",
}


class GSPO:
    """The clipped surrogate of response ratios."""

    def __init__(self, config: Config) -> None:
        self._config = config

    @property
    def clip_range(self) -> tuple[float, float]:
        return self._config.clip_low, self._config.clip_high

    def loss(self, inputs: LossInputs) -> LossOutput:
        mask, advantages = inputs.loss_mask, inputs.advantages
        means, lengths = _of_responses(inputs)
        logprobs = torch.where(mask, inputs.policy_logprobs, 0.0)
        ratios = (means + (logprobs - logprobs.detach())).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
        clipped = clipped_ratios(inputs, ratios, self.clip_range)
        plain_losses, clipped_losses = -advantages * ratios, -advantages * clipped
        is_clipped = clipped_losses > plain_losses
        losses = torch.maximum(plain_losses, clipped_losses) * inputs.weights
        if self._config.mean == "sequence":
            loss = mean_over_tokens(losses / lengths, mask, inputs.num_sequences)
        else:
            loss = mean_over_tokens(losses, mask, inputs.num_valid_tokens)
        metrics = ratio_metrics(
            log_ratios(inputs).exp(),
            mask,
            {
                "learner_clip_low_share": is_clipped & (advantages < 0),
                "learner_clip_high_share": is_clipped & (advantages > 0),
            },
        )
        return LossOutput(loss=loss, metrics=metrics)


def _of_responses(inputs: LossInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """d_i and the number of trained tokens of each token's response, [S] without gradient; 0 and 1 of none."""
    mask, ids = inputs.loss_mask, inputs.sequence_ids
    differences = torch.where(mask, inputs.policy_logprobs.detach() - inputs.old_logprobs, 0.0)
    # One row per response instead of an indexed sum, whose order a GPU does not fix.
    rows = ids == torch.arange(int(ids.max()) + 1, device=ids.device)[:, None]
    lengths = (rows & mask).sum(1).clamp_min(1)
    means = torch.where(rows, differences, 0.0).double().sum(1) / lengths
    return means.to(differences.dtype)[ids], lengths.to(differences.dtype)[ids]


def build(config: Config) -> GSPO:
    return GSPO(config)
