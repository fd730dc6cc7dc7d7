"""A tiny policy on disk, training samples and step work for tests of the learner."""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from learner.batch_plan import BatchPlan, SampleSize, plan_batch
from learner.config import LearnerConfig, OptimizerConfig
from learner.torch_learner import torch_learner
from learner.work import StepWork, rank_mini_batches
from shaping.records import TokenSource
from shaping.training import StepResult, TrainingSample

VOCAB_SIZE = 300


def write_tiny_policy(path: Path, *, tied: bool = True, seed: int = 0) -> str:
    """A random Qwen2: 2 layers of width 64, grouped queries, 93k parameters."""
    config = Qwen2Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        initializer_range=0.1,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
        dtype="float32",
    )
    torch.manual_seed(seed)
    Qwen2ForCausalLM(config).save_pretrained(path)
    return str(path)


def make_sample(
    *,
    num_prompt: int = 4,
    num_hint: int = 0,
    num_response: int = 6,
    seed: int = 0,
    advantage: float = 1.0,
    rollout_index: int = 0,
    trained: bool = True,
    hint_copies: int = 1,
) -> TrainingSample:
    """Random tokens; behavior log-probs near uniform, so importance ratios of a random policy are near 1."""
    rng = np.random.default_rng(seed)
    sources = np.array(
        [TokenSource.PROMPT] * num_prompt + [TokenSource.HINT] * num_hint + [TokenSource.GENERATED] * num_response,
        dtype=np.uint8,
    )
    generated = sources == TokenSource.GENERATED
    behavior = rng.normal(-math.log(VOCAB_SIZE), 0.3, len(sources)).clip(max=-0.01)
    return TrainingSample(
        group_id="g",
        rollout_index=rollout_index,
        token_ids=rng.integers(1, VOCAB_SIZE, len(sources)).astype(np.int32),
        loss_mask=generated if trained else np.zeros_like(generated),
        behavior_logprobs=np.where(generated, behavior, 0).astype(np.float32),
        advantages=np.where(generated & trained, advantage, 0).astype(np.float32),
        entropies=np.where(generated, rng.uniform(4.0, 5.5, len(sources)), 0).astype(np.float32),
        token_sources=sources,
        min_policy_version=0,
        hint_copies=hint_copies,
    )


def make_batch(
    num_samples: int = 12, *, seed: int = 0, num_hint: int = 0, hint_copies: int = 1
) -> list[TrainingSample]:
    """Samples of unequal length with advantages of both signs; each `hint_copies` neighbours share prompt and hint."""
    rng = np.random.default_rng(seed)
    samples = [
        make_sample(
            num_hint=num_hint,
            num_response=int(rng.integers(3, 17)),
            seed=seed * 1000 + index,
            advantage=float(rng.normal()),
            rollout_index=index,
            hint_copies=hint_copies,
        )
        for index in range(num_samples)
    ]
    if hint_copies > 1:
        for index, sample in enumerate(samples):
            num_given = int((sample.token_sources != TokenSource.GENERATED).sum())
            sample.token_ids[:num_given] = samples[index - index % hint_copies].token_ids[:num_given]
    return samples


def plan_samples(samples: list[TrainingSample], config: LearnerConfig, *, group_size: int = 4) -> BatchPlan:
    """The batch plan of these samples, `group_size` of them per group."""
    sizes = [
        SampleSize(
            group_index=index // group_size,
            sample_index=index % group_size,
            num_tokens=sample.num_tokens,
            num_valid_tokens=sample.num_valid_tokens,
        )
        for index, sample in enumerate(samples)
    ]
    return plan_batch(
        sizes,
        num_ranks=config.num_ranks,
        mini_batch_groups=config.mini_batch_groups,
        num_epochs=config.num_epochs,
        micro_batch_tokens=config.micro_batch_tokens,
        layout=config.layout,
        seed=0,
    )


def make_work(
    samples: list[TrainingSample],
    config: LearnerConfig,
    *,
    rank: int = 0,
    step: int = 0,
    temperature: float = 1.0,
    group_size: int = 4,
) -> StepWork:
    """One step over these samples as `rank` sees it."""
    plan = plan_samples(samples, config, group_size=group_size)
    return StepWork(
        step=step,
        policy_version=step,
        temperature=temperature,
        mini_batches=rank_mini_batches(
            plan, rank, lambda size: samples[size.group_index * group_size + size.sample_index]
        ),
    )


def train_once(
    path: str, folder: Path, samples: list[TrainingSample], *, micro_batch_tokens: int, **options: object
) -> tuple[StepResult, dict[str, torch.Tensor]]:
    """One step of plain torch on these samples: what it reports, and the policy that it leaves.

    A large epsilon makes Adam smooth, so that rounding does not grow.
    """
    config = LearnerConfig(
        engine="torch",
        dtype="float32",
        layout="packed",
        micro_batch_tokens=micro_batch_tokens,
        optimizer=OptimizerConfig(learning_rate=1e-2, epsilon=1e-2),
        **options,
    )
    learner = torch_learner(config, model_path=path, seed=0)
    learner.start()
    result = learner.step(make_work(samples, config))
    learner.export(folder)
    return result, load_file(folder / "model.safetensors")
