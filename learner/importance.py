"""How far the policy has moved from the old log-probs that its updates are taken against, whatever the loss."""

from itertools import pairwise

import torch

from learner.collate import Microbatch
from learner.losses.base import MAX_LOG_RATIO
from shaping.histograms import IMPORTANCE_RATIOS, Histogram
from shaping.metrics import Mean, Metric


def importance_metrics(batch: Microbatch, logprobs: torch.Tensor) -> dict[str, Metric]:
    """Over the trained tokens, with d = policy - old log-prob: the distribution of exp(d), and the mean of -d.

    -d is the k1 estimate of KL(old || policy). In exp(d), d is held within +-20.

    Args:
        logprobs: [S] of the policy.
    """
    mask = batch.loss_mask
    # Outside the mask numbers may be anything.
    difference = torch.where(mask, logprobs.detach() - batch.old_logprobs, 0.0)
    ratios = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    bounds = torch.tensor(IMPORTANCE_RATIOS, dtype=ratios.dtype, device=ratios.device)
    below = ((ratios <= bounds[:, None]) & mask).sum(1)
    sums = torch.stack([mask.sum(), torch.where(mask, ratios, 0.0).double().sum(), difference.double().sum()])
    # One transfer from the device for all of them.
    *so_far, num_tokens, total, moved = torch.cat([below.double(), sums]).tolist()
    ends = [0, *map(int, so_far), int(num_tokens)]
    counts = tuple(high - low for low, high in pairwise(ends))
    return {
        "learner_importance_ratio": Histogram(IMPORTANCE_RATIOS, counts, total),
        "learner_old_kl_nats": Mean(-moved, num_tokens),
    }
