"""The train/rollout mismatch, and that a wrongly declared sampler shows in it."""

import math

import numpy as np
import pytest
import torch
from learner_builders import make_batch, make_sample, make_work
from transformers import AutoModelForCausalLM

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig, OptimizerConfig
from learner.mismatch import mismatch_metrics
from learner.torch_learner import torch_learner
from shaping.metrics import EffectiveShare, merge_metrics, metric_values
from shaping.records import TokenSource
from shaping.training import TrainingSample

CONFIG = LearnerConfig(
    engine="torch", dtype="float32", micro_batch_tokens=120, optimizer=OptimizerConfig(learning_rate=0.0)
)


def scores_with(batch: Microbatch, differences: list[float]) -> torch.Tensor:
    """Scores of a learner that differs by this much on the trained tokens, and by 0.5 nats of entropy."""
    scores = torch.stack((torch.full((batch.num_scored,), -3.0), batch.sampler_entropies + 0.5))
    scores[0, batch.loss_mask] = batch.behavior_logprobs[batch.loss_mask] + torch.tensor(differences)
    return scores


def test_mismatch_of_three_tokens() -> None:
    # d = log 2, 0, -log 2: k3 = (2 - 1 - log 2 + 0 + 1/2 - 1 + log 2) / 3 = 1/6, k1 = 0;
    # w = 2, 1, 1/2: (3.5)^2 / (3 x 5.25) = 7/9
    batch = collate([make_sample(num_hint=2, num_response=3)], "packed")
    found = metric_values(mismatch_metrics(batch, scores_with(batch, [math.log(2), 0.0, -math.log(2)])))
    wanted = {
        "learner_logprob_difference_mean_nats": 2 * math.log(2) / 3,
        "learner_logprob_difference_max_nats": math.log(2),
        "learner_entropy_difference_mean_nats": 0.5,
        "learner_entropy_difference_max_nats": 0.5,
        "learner_mismatch_kl_nats": 1 / 6,
        "learner_mismatch_kl_k1_nats": 0.0,
        "learner_effective_sample_share": 7 / 9,
    }
    assert found == pytest.approx(wanted, abs=1e-6)


def test_small_differences_do_not_drown_in_rounding() -> None:
    # k3 of d = 1e-4 is d^2 / 2 = 5e-9, far below what is left of exp(d) - 1 in float32
    batch = collate([make_sample(num_response=2)], "packed")
    batch.behavior_logprobs.fill_(-1.0)
    scores = torch.stack((torch.full((2,), -1.0 + 2**-13), batch.sampler_entropies))
    found = metric_values(mismatch_metrics(batch, scores))["learner_mismatch_kl_nats"]
    assert found == pytest.approx(2**-27, rel=1e-3)


def test_one_wild_token_of_many_takes_the_effective_sample_away_and_stays_finite() -> None:
    # w = e^20, where 90 nats are held, beside 999 of 1: the effective sample is one token
    batch = collate([make_sample(num_response=1000)], "packed")
    found = metric_values(mismatch_metrics(batch, scores_with(batch, [90.0, *([0.0] * 999)])))
    assert found["learner_effective_sample_share"] == pytest.approx(1 / 1000, rel=1e-3)
    assert found["learner_logprob_difference_max_nats"] == pytest.approx(90.0, rel=1e-5)
    assert all(math.isfinite(value) for value in found.values())


def test_micro_batches_and_ranks_merge_to_the_whole() -> None:
    samples = make_batch(9)
    random = np.random.default_rng(3)
    differences = [random.normal(0, 0.7, sample.num_valid_tokens).tolist() for sample in samples]

    def measure(start: int, stop: int) -> dict:
        batch = collate(samples[start:stop], "packed")
        values = [each for part in differences[start:stop] for each in part]
        return mismatch_metrics(batch, scores_with(batch, values))

    whole = metric_values(measure(0, 9))
    assert whole["learner_effective_sample_share"] < 0.8
    ranks = [merge_metrics([measure(0, 2), measure(2, 3)]), merge_metrics([measure(3, 9), measure(0, 0)])]
    assert metric_values(merge_metrics(ranks)) == pytest.approx(whole, rel=1e-6)


def test_the_effective_share_of_nothing_does_not_exist() -> None:
    assert EffectiveShare(0.0, 0.0, 0).value is None
    names = mismatch_metrics(collate([], "packed"), torch.zeros(2, 1))
    assert metric_values(names) == {}


def sample_responses(path: str, *, temperature: float = 1.0, top_p: float = 1.0) -> list[TrainingSample]:
    """64 responses of 16 tokens from a policy, with the log-probs of the distribution that they are drawn from."""
    model = AutoModelForCausalLM.from_pretrained(path)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 300, (64, 4), generator=generator)
    logprobs, entropies = [torch.zeros(64)] * 4, [torch.zeros(64)] * 4
    for _ in range(16):
        with torch.no_grad():
            raw = model(ids).logits[:, -1].float()
        probs = (raw / temperature).softmax(-1)
        ordered, order = probs.sort(descending=True)
        outside = ordered.cumsum(-1) - ordered >= top_p
        kept = torch.zeros_like(probs).scatter(-1, order, ordered.masked_fill(outside, 0.0))
        kept = kept / kept.sum(-1, keepdim=True)
        token = torch.multinomial(kept, 1, generator=generator)
        ids = torch.cat([ids, token], dim=1)
        logprobs.append(kept.gather(1, token)[:, 0].log())
        entropies.append(torch.distributions.Categorical(logits=raw).entropy())
    rows = zip(ids, torch.stack(logprobs, dim=1), torch.stack(entropies, dim=1), strict=True)
    sources = np.array([TokenSource.PROMPT] * 4 + [TokenSource.GENERATED] * 16, dtype=np.uint8)
    return [
        TrainingSample(
            group_id="g",
            rollout_index=index,
            token_ids=row.numpy().astype(np.int32),
            loss_mask=sources == TokenSource.GENERATED,
            behavior_logprobs=logprob.numpy(),
            advantages=np.zeros(20, np.float32),
            entropies=entropy.numpy(),
            token_sources=sources,
            min_policy_version=0,
        )
        for index, (row, logprob, entropy) in enumerate(rows)
    ]


def measured(path: str, samples: list[TrainingSample], *, declared_temperature: float) -> dict[str, float]:
    learner = torch_learner(CONFIG, model_path=path, seed=0)
    learner.start()
    metrics = learner.step(make_work(samples, CONFIG, temperature=declared_temperature, group_size=8)).metrics
    return {name.removeprefix("learner_"): value for name, value in metrics.items()}


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_a_sampler_that_is_declared_as_it_is_agrees(temperature: float, untied_policy_path: str) -> None:
    samples = sample_responses(untied_policy_path, temperature=temperature)
    found = measured(untied_policy_path, samples, declared_temperature=temperature)
    assert found["logprob_difference_max_nats"] < 1e-4
    assert abs(found["mismatch_kl_nats"]) < 1e-8
    assert found["effective_sample_share"] == pytest.approx(1.0, abs=1e-6)


def test_a_temperature_that_is_not_declared_shows(untied_policy_path: str) -> None:
    samples = sample_responses(untied_policy_path, temperature=0.7)
    found = measured(untied_policy_path, samples, declared_temperature=1.0)
    assert found["logprob_difference_mean_nats"] > 0.1
    assert found["mismatch_kl_nats"] > 0.02
    assert found["mismatch_kl_k1_nats"] == pytest.approx(found["mismatch_kl_nats"], rel=0.5)
    assert found["effective_sample_share"] < 0.97


def test_a_nucleus_that_is_not_declared_shows(untied_policy_path: str) -> None:
    # The kept tokens' probabilities were divided by what they summed up to, 0.9 or a little more: a shift of up to
    # log(1 / 0.9) = 0.105 nats on every token, the same sign everywhere.
    samples = sample_responses(untied_policy_path, top_p=0.9)
    found = measured(untied_policy_path, samples, declared_temperature=1.0)
    assert 0.09 < found["mismatch_kl_k1_nats"] <= math.log(1 / 0.9)
    assert found["logprob_difference_mean_nats"] == pytest.approx(found["mismatch_kl_k1_nats"], rel=1e-5)
    assert found["mismatch_kl_nats"] > 0.004
