"""How far sampler and learner disagree about the same tokens, measured before the first update of a step."""

import torch

from learner.collate import Microbatch
from learner.losses.base import mean_metrics
from shaping.metrics import Max, Metric


def mismatch_metrics(batch: Microbatch, scores: torch.Tensor) -> dict[str, Metric]:
    """Absolute differences over trained tokens, in nats.

    With version-fresh samples this is numerical mismatch alone; with stale ones it holds the policy's change too.

    Args:
        scores: [2, S], log-probabilities and entropies of the learner.
    """
    differences = {
        "learner_logprob_difference": (scores[0].detach() - batch.behavior_logprobs).abs(),
        "learner_entropy_difference": (scores[1].detach() - batch.sampler_entropies).abs(),
    }
    means = mean_metrics({f"{name}_mean_nats": value for name, value in differences.items()}, batch.loss_mask)
    if not bool(batch.loss_mask.any()):
        return means
    highest = torch.stack([value[batch.loss_mask].max() for value in differences.values()]).tolist()
    return means | {f"{name}_max_nats": Max(value) for name, value in zip(differences, highest, strict=True)}
