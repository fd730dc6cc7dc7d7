"""The learner on one process with plain torch; ZeRO-3 is compared with it in test_zero3.py."""

import dataclasses
import math
import pickle
from pathlib import Path

import pytest
import torch
import xxhash
from learner_builders import make_batch, make_sample, make_work
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from learner.config import KLConfig, LearnerConfig, OptimizerConfig
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from learner.torch_learner import torch_learner
from rollout.weight_staging import receive_all, unpack
from shaping.bucket_header import HEADER_BYTES, transfer_headers
from shaping.components import ComponentSpec
from shaping.errors import ChannelBroken, RecipeError, RunFailed
from shaping.memory_channel import MemoryChannel
from shaping.training import TrainingSample, WeightChannel


def make_config(**options: object) -> LearnerConfig:
    defaults = {
        "engine": "torch",
        "dtype": "float32",
        "layout": "packed",
        "micro_batch_tokens": 60,
        "logprob_chunk_tokens": 16,
        "bucket_bytes": 50_000,
        "optimizer": OptimizerConfig(learning_rate=1e-3),
    }
    return LearnerConfig(**{**defaults, **options})


def make_learner(path: str, config: LearnerConfig | None = None) -> Learner:
    learner = torch_learner(config or make_config(), model_path=path, seed=0)
    learner.start()
    return learner


def train(path: str, config: LearnerConfig, samples: list[TrainingSample], num_steps: int = 1) -> tuple:
    learner = make_learner(path, config)
    results = [learner.step(make_work(samples, config, step=step)) for step in range(num_steps)]
    return learner, results


def weights_of(learner: Learner, directory: Path) -> dict[str, torch.Tensor]:
    learner.export(directory)
    return load_file(directory / "model.safetensors")


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_makes_the_next_version_and_reports_its_numbers(tied_policy_path: str) -> None:
    samples = make_batch(8)
    config = make_config(mini_batch_groups=1, num_epochs=2)
    _, (result,) = train(tied_policy_path, config, samples)
    num_valid = sum(sample.num_valid_tokens for sample in samples)
    assert result.policy_version == 1
    assert result.num_updates == 4  # 2 groups one at a time, twice
    assert result.num_valid_tokens == 2 * num_valid
    assert result.metrics["learner_tokens"] == 2 * sum(sample.num_tokens for sample in samples)
    assert result.metrics["learner_padding_share"] == 0.0
    assert result.metrics["learner_learning_rate"] == 1e-3
    assert result.metrics["learner_loss"] == pytest.approx(result.metrics["learner_policy_loss"])
    assert all(math.isfinite(value) for value in result.metrics.values())
    for phase in ("forward", "backward", "optimizer"):
        assert result.metrics[f"learner_{phase}_s"] > 0


def test_padding_is_counted_in_tokens(tied_policy_path: str) -> None:
    samples = [make_sample(num_response=3), make_sample(num_response=7, seed=1), make_sample(num_response=5, seed=2)]
    _, (result,) = train(tied_policy_path, make_config(layout="padded", micro_batch_tokens=1000), samples)
    # All in one micro-batch, as long as the longest: 4 and 2 positions hold nothing.
    assert result.metrics["learner_padding_tokens"] == 6
    _, (packed,) = train(tied_policy_path, make_config(micro_batch_tokens=1000), samples)
    assert packed.metrics["learner_padding_tokens"] == 0


def test_mismatch_is_measured_against_the_policy_before_the_first_update(tied_policy_path: str) -> None:
    samples = make_batch(8)
    config = make_config()
    learner = make_learner(tied_policy_path, config)
    probe = learner.step(make_work(samples, make_config(optimizer=OptimizerConfig(learning_rate=0.0)), step=0))
    model = AutoModelForCausalLM.from_pretrained(tied_policy_path)
    differences, entropy_differences = [], []
    for sample in samples:
        ids = torch.from_numpy(sample.token_ids).long()
        logits = model(ids[None]).logits[0, :-1].detach()
        logprobs = logits.log_softmax(-1).gather(1, ids[1:, None])[:, 0]
        entropies = torch.distributions.Categorical(logits=logits).entropy()
        mask = torch.from_numpy(sample.loss_mask[1:])
        differences.append((logprobs - torch.from_numpy(sample.behavior_logprobs[1:]))[mask].abs())
        entropy_differences.append((entropies - torch.from_numpy(sample.entropies[1:]))[mask].abs())
    for name, values in (("logprob", differences), ("entropy", entropy_differences)):
        joined = torch.cat(values)
        found = probe.metrics
        assert found[f"learner_{name}_difference_mean_nats"] == pytest.approx(float(joined.mean()), abs=1e-5)
        assert found[f"learner_{name}_difference_max_nats"] == pytest.approx(float(joined.max()), abs=1e-5)


def test_two_runs_of_one_seed_give_the_same_bits(tied_policy_path: str, tmp_path: Path) -> None:
    config = make_config(mini_batch_groups=1)
    runs = [train(tied_policy_path, config, make_batch(8), num_steps=2)[0] for _ in range(2)]
    assert_same(weights_of(runs[0], tmp_path / "a"), weights_of(runs[1], tmp_path / "b"))


def test_an_export_is_a_checkpoint_that_transformers_reads(untied_policy_path: str, tmp_path: Path) -> None:
    learner, _ = train(untied_policy_path, make_config(), make_batch(4))
    learner.export(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not model.config.tie_word_embeddings
    layout = learner.weight_layout()
    assert [name for bucket in layout.buckets for name in bucket.names] == [n for n, _ in model.named_parameters()]
    before = AutoModelForCausalLM.from_pretrained(untied_policy_path)
    assert not torch.equal(model.lm_head.weight, before.lm_head.weight)


def test_sent_weights_arrive_as_the_manifest_says(tied_policy_path: str, tmp_path: Path) -> None:
    learner, _ = train(tied_policy_path, make_config(), make_batch(4))
    memory = MemoryChannel()
    port = memory.open(1)
    learner.connect_weights(WeightChannel(backend="memory", address="", port=port, world_size=2), memory)
    manifest = learner.send_weights(1)
    assert len(manifest.layout.buckets) > 1
    assert manifest.layout == learner.weight_layout()
    received = {}
    receiver = memory.receiver(port, 1)
    for header, bucket, checksum in zip(
        transfer_headers(manifest.layout, 1), manifest.layout.buckets, manifest.checksums, strict=False
    ):
        assert receiver.receive(HEADER_BYTES, 1.0).tobytes() == header.pack()
        data = receiver.receive(bucket.num_bytes, 1.0)
        assert xxhash.xxh3_64_hexdigest(data) == checksum
        flat = torch.from_numpy(data.copy()).view(torch.float32)
        start = 0
        for name, shape in zip(bucket.names, bucket.shapes, strict=True):
            received[name] = flat[start : start + math.prod(shape)].view(shape)
            start += math.prod(shape)
        assert start == len(flat)
    assert_same(received, weights_of(learner, tmp_path))


def test_weights_are_sent_only_as_the_version_that_they_are(tied_policy_path: str) -> None:
    learner, _ = train(tied_policy_path, make_config(), make_batch(4))
    with pytest.raises(RunFailed, match="learner: weights of version 2 were asked for, the last step made 1"):
        learner.send_weights(2)


def test_weights_without_a_channel_are_refused(tied_policy_path: str) -> None:
    with pytest.raises(ChannelBroken, match="before a channel was connected"):
        make_learner(tied_policy_path).send_weights(1)


def test_a_learning_rate_may_be_a_schedule_over_steps(tied_policy_path: str) -> None:
    schedule = ComponentSpec(kind="linear", options={"start": 0.0, "stop": 1e-3, "steps": 2})
    config = make_config(optimizer=OptimizerConfig(learning_rate=schedule))
    _, results = train(tied_policy_path, config, make_batch(4), num_steps=3)
    assert [result.metrics["learner_learning_rate"] for result in results] == pytest.approx([0.0, 5e-4, 1e-3])


def test_gradients_are_clipped_by_their_global_norm(tied_policy_path: str) -> None:
    config = make_config(optimizer=OptimizerConfig(max_grad_norm=0.01))
    engine = TorchEngine(config, model_path=tied_policy_path, seed=0)
    engine.start()
    loss = sum(parameter.square().sum() for parameter in engine._policy.parameters())
    engine.backward(loss, is_last=True)
    before = engine.grad_norm()
    torch.nn.utils.clip_grad_norm_(engine._policy.parameters(), config.optimizer.max_grad_norm)
    assert before > 1
    assert engine.grad_norm() == pytest.approx(0.01, rel=1e-3)


def test_the_reference_stays_where_the_policy_started(tied_policy_path: str) -> None:
    config = make_config(kl=KLConfig(coefficient=0.1, estimator="k3"))
    _, results = train(tied_policy_path, config, make_batch(8), num_steps=3)
    values = [result.metrics["learner_kl_nats"] for result in results]
    assert values[0] == pytest.approx(0.0, abs=1e-7)
    assert 0 < values[1] < values[2]


TOKEN_PLANS = {
    "forking_tokens": {},
    "clip_cov": {"share": 0.2, "lower": -10.0, "upper": 10.0},
    "kl_cov": {"top_share": 0.2},
}


@pytest.mark.parametrize("kind", TOKEN_PLANS)
@pytest.mark.parametrize("scope", ["update", "micro_batch"])
def test_a_token_plan_of_scope_update_does_not_see_micro_batches(scope: str, kind: str, tied_policy_path: str) -> None:
    plan = ComponentSpec(kind=kind, options={"scope": scope, **TOKEN_PLANS[kind]})
    norms = [
        train(tied_policy_path, make_config(token_plans=(plan,), micro_batch_tokens=tokens), make_batch(12))[1][0]
        for tokens in (40, 10_000)
    ]
    small, whole = (result.metrics["learner_grad_norm"] for result in norms)
    if scope == "update":
        assert small == pytest.approx(whole, rel=1e-5)
    else:
        assert small != pytest.approx(whole, rel=1e-3)


def test_clip_cov_drops_its_share_of_the_whole_update(tied_policy_path: str) -> None:
    samples = make_batch(12)
    plan = ComponentSpec(kind="clip_cov", options=TOKEN_PLANS["clip_cov"])
    config = make_config(token_plans=(plan,), micro_batch_tokens=40)
    _, (result,) = train(tied_policy_path, config, samples)
    num_valid = result.num_valid_tokens
    assert result.metrics["learner_token_weight_mean"] == pytest.approx(1 - num_valid // 5 / num_valid, abs=1e-9)


def test_an_update_without_trained_tokens_changes_no_metric_into_zero(tied_policy_path: str) -> None:
    config = make_config(optimizer=OptimizerConfig(learning_rate=0.0))
    _, (result,) = train(tied_policy_path, config, [make_sample(trained=False)])
    assert result.num_valid_tokens == 0
    assert result.metrics["learner_grad_norm"] == 0.0
    for name in ("learner_loss", "learner_entropy_nats", "learner_importance_ratio_max"):
        assert name not in result.metrics


def test_samples_that_are_not_the_planned_ones_are_refused(tied_policy_path: str) -> None:
    config = make_config()
    work = make_work(make_batch(4), config)
    wrong = dataclasses.replace(work.mini_batches[0], num_valid_tokens=1)
    with pytest.raises(RunFailed, match="the plan says 1"):
        make_learner(tied_policy_path, config).step(dataclasses.replace(work, mini_batches=(wrong,)))


def test_gradient_checkpointing_changes_no_gradient(tied_policy_path: str, tmp_path: Path) -> None:
    samples = make_batch(8)
    learners = [
        train(tied_policy_path, make_config(mini_batch_groups=1, gradient_checkpointing=on), samples)[0]
        for on in (False, True)
    ]
    weights = [weights_of(learner, tmp_path / str(index)) for index, learner in enumerate(learners)]
    assert_same(*weights)


@pytest.mark.parametrize("options", [{"num_ranks": 2}, {"dtype": "bfloat16"}])
def test_plain_torch_refuses_what_it_cannot_train(options: dict, tied_policy_path: str) -> None:
    with pytest.raises(RecipeError, match="engine torch trains"):
        torch_learner(make_config(**options), model_path=tied_policy_path, seed=0)


def test_training_raises_the_probability_of_good_tokens(tied_policy_path: str) -> None:
    # one response with A = +1 and one with A = -1: 20 small steps must lower the loss of the pair
    samples = [make_sample(seed=1, advantage=1.0), make_sample(seed=2, advantage=-1.0)]
    _, results = train(tied_policy_path, make_config(), samples, num_steps=20)
    losses: list[float] = [result.metrics["learner_policy_loss"] for result in results]
    assert losses[-1] < losses[0] - 0.1


def test_step_types_cross_a_process_border(tied_policy_path: str) -> None:
    learner = make_learner(tied_policy_path)
    work = make_work(make_batch(4), make_config())
    for record in (work, learner.step(work), learner.weight_layout()):
        assert type(pickle.loads(pickle.dumps(record))) is type(record)


def test_received_buckets_unpack_under_checkpoint_names(tied_policy_path: str, tmp_path: Path) -> None:
    learner, _ = train(tied_policy_path, make_config(), make_batch(4))
    memory = MemoryChannel()
    port = memory.open(1)
    learner.connect_weights(WeightChannel(backend="memory", address="", port=port, world_size=2), memory)
    manifest = learner.send_weights(1)
    staged = receive_all(memory.receiver(port, 1), manifest.layout, policy_version=1, timeout_s=1.0)
    assert staged.checksums == manifest.checksums
    assert_same(dict(unpack(staged)), weights_of(learner, tmp_path))
