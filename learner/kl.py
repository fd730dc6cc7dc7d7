"""Estimators of the KL from policy to reference, per sampled token."""

from typing import Literal

import torch

MAX_LOG_RATIO = 20.0


def kl_estimate(
    policy_logprobs: torch.Tensor, reference_logprobs: torch.Tensor, estimator: Literal["k1", "k2", "k3"]
) -> torch.Tensor:
    """Per-token estimates, same shape as the inputs, in nats; differentiable in `policy_logprobs`.

    With d = log pi - log ref: k1 = d, k2 = d^2 / 2, k3 = exp(-d) - 1 + d. As a loss term the gradient of k1 has mean
    zero under the policy; k2's is the gradient of the KL.
    Source: Schulman 2020 (joschu.net/blog/kl-approx.html). Deviation: d is held in [-20, 20] for k3.
    """
    difference = policy_logprobs - reference_logprobs
    if estimator == "k1":
        return difference
    if estimator == "k2":
        return difference.square() / 2
    difference = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.exp(-difference) - 1 + difference
