"""Training cases that the ZeRO-3 ranks and plain torch both run, so that their gradients can be compared."""

from dataclasses import dataclass, field
from typing import Any

import torch
from learner_builders import make_batch, make_work

from learner.config import CorrectionConfig, KLConfig, LearnerConfig, LoraConfig, OptimizerConfig, ZeroConfig
from learner.deepspeed_engine import DeepSpeedEngine
from learner.learner import Learner
from learner.torch_engine import TorchEngine
from shaping.components import ComponentSpec
from shaping.training import StepResult, TrainingSample


@dataclass(frozen=True, kw_only=True)
class Case:
    """Options of one learner and the batch that it trains once."""

    policy: str = "tied"
    num_samples: int = 12
    num_hint: int = 0
    hint_copies: int = 1
    temperature: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def config(self, engine: str, num_ranks: int) -> LearnerConfig:
        defaults = {
            "dtype": "float32",
            "logprob_chunk_tokens": 7,
            "bucket_bytes": 50_000,
            "optimizer": OptimizerConfig(learning_rate=1e-3),
            # 0: no parameter stays whole on a rank, so every use goes through a gather.
            "zero": ZeroConfig(persistence_threshold=0),
        }
        return LearnerConfig(engine=engine, num_ranks=num_ranks, **{**defaults, **self.options})

    def samples(self) -> list[TrainingSample]:
        return make_batch(self.num_samples, num_hint=self.num_hint, hint_copies=self.hint_copies)


EVERYTHING = {
    "layout": "packed",
    "micro_batch_tokens": 40,
    "token_plans": (
        ComponentSpec(kind="forking_tokens", options={"top_share": 0.4}),
        ComponentSpec(kind="clip_cov", options={"share": 0.2, "lower": -10.0, "upper": 10.0}),
        ComponentSpec(kind="kl_cov", options={"top_share": 0.2}),
        ComponentSpec(kind="steer"),
    ),
    "regularisers": (
        ComponentSpec(kind="entropy_bonus", options={"coefficient": 0.5}),
        ComponentSpec(kind="hint_nll", options={"gamma": 0.5}),
    ),
}

LORA = {
    "layout": "packed",
    "mini_batch_groups": 1,
    "lora": LoraConfig(rank=4),
    "kl": KLConfig(coefficient=0.5),
    "optimizer": OptimizerConfig(learning_rate=1e-2, epsilon=1e-2),
}

TARGET_NATS = 5.387

CASES = {
    "padded_1": Case(options={"layout": "padded", "micro_batch_tokens": 10_000}),
    "padded_4": Case(options={"layout": "padded", "micro_batch_tokens": 30}),
    "packed_1": Case(options={"layout": "packed", "micro_batch_tokens": 10_000}),
    "packed_4": Case(options={"layout": "packed", "micro_batch_tokens": 30}),
    "untied": Case(policy="untied", options={"layout": "packed", "micro_batch_tokens": 60}),
    "checkpointed": Case(options={"layout": "packed", "micro_batch_tokens": 60, "gradient_checkpointing": True}),
    "everything": Case(num_hint=2, temperature=0.7, options=EVERYTHING),
    # Three updates: at the first one policy and reference are still the same. A large epsilon makes Adam smooth, so
    # that rounding does not grow from update to update.
    "reference": Case(
        options={
            "layout": "packed",
            "mini_batch_groups": 1,
            "kl": KLConfig(coefficient=0.5),
            "optimizer": OptimizerConfig(learning_rate=1e-2, epsilon=1e-2),
        }
    ),
    # As "reference", whose three updates let A move too: at the first one B is zero, and with it the gradient of A.
    "lora": Case(options=LORA),
    "lora_checkpointed": Case(options={**LORA, "gradient_checkpointing": True}),
    # Three updates against the policy before the first, weighted per response; and one update without some tokens.
    "recomputed": Case(
        options={
            "layout": "packed",
            "micro_batch_tokens": 30,
            "mini_batch_groups": 1,
            "old_logprobs": "recompute",
            "correction": CorrectionConfig(mode="clamp", level="sequence", high=5.0),
            "optimizer": OptimizerConfig(learning_rate=1e-2, epsilon=1e-2),
        }
    ),
    "masked": Case(
        options={
            "layout": "packed",
            "micro_batch_tokens": 30,
            "correction": CorrectionConfig(mode="mask", low=0.7, high=1.4),
        }
    ),
    # Responses of unequal length on both ranks, none of them clipped away.
    "gspo": Case(
        options={
            "layout": "packed",
            "micro_batch_tokens": 30,
            "loss": ComponentSpec(kind="gspo", options={"clip_low": 1.0, "clip_high": 9.0}),
        }
    ),
    # The target is near the mean entropy of the update, so that micro-batches lie on both sides of it.
    "ter": Case(
        options={
            "layout": "packed",
            "micro_batch_tokens": 30,
            "regularisers": (ComponentSpec(kind="ter", options={"coefficient": 5.0, "target_nats": TARGET_NATS}),),
        }
    ),
    # Four samples share a hint and lie in micro-batches of both ranks.
    "shared_hints": Case(
        num_hint=3,
        hint_copies=4,
        options={
            "layout": "packed",
            "micro_batch_tokens": 30,
            "regularisers": (ComponentSpec(kind="hint_nll", options={"gamma": 2.0}),),
        },
    ),
    "idle_rank": Case(num_samples=3, options={"layout": "packed", "micro_batch_tokens": 20}),
    "offloaded": Case(
        options={
            "layout": "packed",
            "micro_batch_tokens": 60,
            "zero": ZeroConfig(persistence_threshold=0, offload_optimizer=True),
        }
    ),
}

# One rank alone must give the same gradients; what else a rank does shows on two.
ONE_RANK_CASES = ("padded_1", "padded_4", "packed_1", "packed_4", "recomputed", "lora")


def cases_of(num_ranks: int) -> dict[str, Case]:
    """The cases that a group of this size runs."""
    return {name: CASES[name] for name in ONE_RANK_CASES} if num_ranks == 1 else CASES


class RecordedGradients:
    """Keeps the gradient of the last update, whole and by name, as it was before clipping."""

    gradients: dict[str, torch.Tensor]

    def update(self, learning_rate: float) -> None:
        trained = self.adapter_parameters() or self.parameters()
        self.gradients = {each.name: self.full_gradient(each.name) for each in trained}
        super().update(learning_rate)


class RecordingTorchEngine(RecordedGradients, TorchEngine):
    """Plain torch, with its gradients kept."""


class RecordingDeepSpeedEngine(RecordedGradients, DeepSpeedEngine):
    """ZeRO-3, with its gradients kept."""


def run_case(case: Case, engine: Any, config: LearnerConfig, model_path: str, rank: int) -> StepResult:
    """Start a learner on this engine and train the case's batch once."""
    learner = Learner(config, engine=engine, model_path=model_path, rank=rank)
    learner.start()
    work = make_work(case.samples(), config, rank=rank, temperature=case.temperature)
    return learner.step(work)
