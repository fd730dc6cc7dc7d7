"""Importance ratios of trained tokens, whatever the loss."""

import math

import pytest
import torch
from learner_builders import make_batch, make_sample, make_work

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig, OptimizerConfig
from learner.importance import importance_metrics
from learner.torch_learner import torch_learner
from shaping.components import ComponentSpec, kinds
from shaping.histograms import IMPORTANCE_RATIOS, Histogram
from shaping.metrics import merge_metrics, metric_values


def logprobs_with(batch: Microbatch, differences: list[float]) -> torch.Tensor:
    """Log-probs of a policy that has moved by this much on the trained tokens; nan elsewhere."""
    logprobs = torch.full((batch.num_scored,), math.nan)
    logprobs[batch.loss_mask] = batch.old_logprobs[batch.loss_mask] + torch.tensor(differences)
    return logprobs


def test_ratios_of_four_tokens_are_in_their_ranges_and_hints_in_none() -> None:
    # Ratios e^0 = 1, at a bound; 2^-1.5 = 0.35, below the first; 1.15; e^1 = 2.72, above the last.
    batch = collate([make_sample(num_hint=2, num_response=4)], "packed")
    differences = [0.0, -1.5 * math.log(2), math.log(1.15), 1.0]
    found = importance_metrics(batch, logprobs_with(batch, differences))
    histogram = found["learner_importance_ratio"]
    assert isinstance(histogram, Histogram)
    counts = dict(zip((*histogram.bounds, math.inf), histogram.counts, strict=True))
    assert {end: count for end, count in counts.items() if count} == {0.5: 1, 1.0: 1, 1.2: 1, math.inf: 1}
    assert histogram.total == pytest.approx(1 + 2**-1.5 + 1.15 + math.e, rel=1e-6)
    # -(0 - 1.5 log 2 + log 1.15 + 1) / 4
    wanted = -(math.log(1.15) - 1.5 * math.log(2) + 1) / 4
    assert metric_values(found) == {"learner_old_kl_nats": pytest.approx(wanted, abs=1e-6)}


def test_a_token_that_moved_wildly_stays_finite() -> None:
    batch = collate([make_sample(num_response=1)], "packed")
    histogram = importance_metrics(batch, logprobs_with(batch, [90.0]))["learner_importance_ratio"]
    assert isinstance(histogram, Histogram)
    assert histogram.counts[-1] == 1 and histogram.total == pytest.approx(math.exp(20), rel=1e-5)


def test_micro_batches_merge_to_one_of_all_their_tokens() -> None:
    parts = [make_sample(num_response=3), make_sample(num_response=5, seed=1)]
    whole = collate(parts, "packed")
    moved = [0.01 * index for index in range(8)]
    at_once = importance_metrics(whole, logprobs_with(whole, moved))
    batches = [collate([each], "packed") for each in parts]
    apart = merge_metrics(
        importance_metrics(batch, logprobs_with(batch, its))
        for batch, its in zip(batches, (moved[:3], moved[3:]), strict=True)
    )
    left, right = at_once["learner_importance_ratio"], apart["learner_importance_ratio"]
    assert isinstance(left, Histogram) and isinstance(right, Histogram)
    assert left.counts == right.counts and left.total == pytest.approx(right.total)
    assert metric_values(at_once) == pytest.approx(metric_values(apart))


def test_a_micro_batch_with_nothing_to_train_adds_nothing() -> None:
    batch = collate([], "packed")
    found = importance_metrics(batch, torch.zeros(batch.num_scored))
    assert found["learner_importance_ratio"] == Histogram(IMPORTANCE_RATIOS, (0,) * 15, 0.0)
    assert metric_values(found) == {}


@pytest.mark.parametrize("loss", kinds("learner.losses"))
def test_every_loss_counts_each_trained_token_of_each_update_once(tied_policy_path: str, loss: str) -> None:
    samples = make_batch(8)
    config = LearnerConfig(
        engine="torch",
        dtype="float32",
        loss=ComponentSpec(kind=loss),
        micro_batch_tokens=60,
        mini_batch_groups=1,
        num_epochs=2,
        old_logprobs="recompute",
        optimizer=OptimizerConfig(learning_rate=0.0),
    )
    learner = torch_learner(config, model_path=tied_policy_path, seed=0)
    learner.start()
    result = learner.step(make_work(samples, config))
    histogram = result.histograms["learner_importance_ratio"]
    assert histogram.count == result.num_valid_tokens == 2 * sum(each.num_valid_tokens for each in samples)
    # A policy that does not move is its own old one.
    assert histogram.total / histogram.count == pytest.approx(1.0, abs=1e-5)
    assert result.metrics["learner_old_kl_nats"] == pytest.approx(0.0, abs=1e-5)
    assert set(result.histograms) == {"learner_importance_ratio"}
