"""Correction of the train/rollout mismatch: factors on the losses of trained tokens.

The tokens were sampled by one policy, the sampler's, and the loss counts them under another: same weights in other
kernels and number formats, or newer weights. With rho = policy / sampler probability of a token, or of a whole
response, a factor rho makes the expectation right again. Bounds keep its variance finite.

Source: truncated weights, Yao et al. 2025 ("Your Efficient RL Framework Secretly Brings You Off-Policy RL Training")
after Espeholt et al. 2018 (IMPALA, arXiv:1802.01561); masked ones, Ling Team 2025 (IcePop in Ring-1T,
arXiv:2510.18855); weight and clipped ratio kept apart, Hilton et al. 2021 (arXiv:2110.00641).
"""

import torch

from learner.collate import Microbatch
from learner.config import CorrectionConfig
from learner.losses.base import mean_metrics
from shaping.metrics import Metric


def correction(
    config: CorrectionConfig, batch: Microbatch, logprobs: torch.Tensor, *, is_weighted: bool
) -> tuple[torch.Tensor, dict[str, Metric]]:
    """Factors of the trained tokens of a micro-batch.

    Args:
        logprobs: [S] without gradient, the numerators of rho: the old log-probs where the learner recomputes them,
            otherwise those of the current policy.
        is_weighted: tokens that are kept are multiplied by rho; False where the loss's own ratio holds it already.
    Returns:
        [N] float32 factors, N = `batch.loss_mask.sum()`, and metrics. A mode "none" has ones and no metrics.
    """
    mask = batch.loss_mask
    if config.mode == "none":
        return torch.ones(int(mask.sum()), device=mask.device), {}
    ratios = _ratios(config, batch, logprobs)
    if config.mode == "clamp":
        is_changed, kept = ratios > config.high, ratios.clamp_max(config.high)
    else:
        is_changed = (ratios < config.low) | (ratios > config.high)
        kept = ratios.masked_fill(is_changed, 0.0)
    factors = kept if is_weighted else (~is_changed).to(kept.dtype)
    share = {"clamp": "learner_correction_clamped_share", "mask": "learner_correction_masked_share"}[config.mode]
    return factors[mask], mean_metrics({share: is_changed, "learner_correction_weight_mean": factors}, mask)


def _ratios(config: CorrectionConfig, batch: Microbatch, logprobs: torch.Tensor) -> torch.Tensor:
    """rho of each scored token, [S]; 1 outside the loss mask."""
    differences = torch.where(batch.loss_mask, logprobs - batch.behavior_logprobs, 0.0)
    if config.level == "sequence":
        # One row per response instead of an indexed sum, whose order a GPU does not fix.
        samples = torch.arange(int(batch.sequence_ids.max()) + 1, device=differences.device)
        rows = torch.where(batch.sequence_ids == samples[:, None], differences, 0.0)
        differences = rows.sum(1)[batch.sequence_ids]
    return differences.exp()
