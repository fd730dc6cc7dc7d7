"""How far sampler and learner disagree about the same tokens, measured before the first update of a step."""

import torch

from learner.collate import Microbatch
from learner.losses.base import MAX_LOG_RATIO, mean_metrics
from shaping.metrics import EffectiveShare, Max, Metric


def mismatch_metrics(batch: Microbatch, scores: torch.Tensor) -> dict[str, Metric]:
    """Over the trained tokens, with d = learner - sampler log-prob of the sampled token and w = exp(d):

    - mean and largest |d|, and the same of the entropies;
    - KL(sampler || learner) by its estimates -d (k1, signed) and w - 1 - d (k3, Schulman 2020, never negative);
    - the effective sample size of the weights w, as a share of the tokens.

    With version-fresh samples this is numerical mismatch alone; with stale ones it holds the policy's change too. In w
    and k3, d is held within +-20.

    Args:
        scores: [2, S], log-probabilities and entropies of the learner.
    """
    mask = batch.loss_mask
    difference = scores[0].detach().double() - batch.behavior_logprobs
    entropy_difference = (scores[1].detach().double() - batch.sampler_entropies).abs()
    bounded = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    means = mean_metrics(
        {
            "learner_logprob_difference_mean_nats": difference.abs(),
            "learner_entropy_difference_mean_nats": entropy_difference,
            "learner_mismatch_kl_nats": bounded.expm1() - bounded,
            "learner_mismatch_kl_k1_nats": -difference,
        },
        mask,
    )
    if not bool(mask.any()):
        return means
    weights = bounded[mask].exp()
    numbers = (difference[mask].abs().max(), entropy_difference[mask].max(), weights.sum(), weights.square().sum())
    logprob_max, entropy_max, total, squares = torch.stack(numbers).tolist()
    return means | {
        "learner_logprob_difference_max_nats": Max(logprob_max),
        "learner_entropy_difference_max_nats": Max(entropy_max),
        "learner_effective_sample_share": EffectiveShare(total, squares, len(weights)),
    }
