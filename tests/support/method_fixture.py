"""Fixture F of the methods' worked numbers: one group, two responses of four tokens, advantages +1 and -1."""

import dataclasses

import numpy as np
import torch

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig
from learner.losses.base import LossInputs
from learner.objective import (
    UpdateCounts,
    build_objective,
    combine_weights,
    micro_batch_loss,
    plan_weights,
    trained_signals,
)
from learner.token_keys import token_keys
from learner.token_plans.base import TokenSignals
from shaping.components import ComponentSpec
from shaping.records import TokenSource
from shaping.training import TrainingSample

ENTROPIES = [0.2, 1.0, 0.5, 0.1, 0.8, 1.6, 0.4, 0.3]
POLICY = [-0.10, -1.2, -0.5, -0.05, -0.90, -2.0, -0.3, -0.20]
BEHAVIOR = [-0.15, -1.4, -0.5, -0.05, -0.70, -2.1, -0.3, -0.25]
ADVANTAGES = [1.0, 1, 1, 1, -1, -1, -1, -1]


def make_signals(
    policy: list[float] = POLICY,
    *,
    entropies: list[float] | None = None,
    behavior: list[float] | None = None,
    advantages: list[float] | None = None,
    clip: float = 0.2,
    step: int = 0,
) -> TokenSignals:
    """What is not given is as the policy's log-probs; keys follow from the step."""
    rows = [torch.tensor(policy if row is None else row) for row in (entropies, behavior, advantages)]
    keys = torch.randint(-(2**63), 2**63 - 1, (len(policy),), generator=torch.Generator().manual_seed(step))
    return TokenSignals(
        policy_logprobs=torch.tensor(policy),
        policy_entropies=rows[0],
        behavior_logprobs=torch.full_like(rows[1], torch.nan),
        old_logprobs=rows[1],
        advantages=rows[2],
        keys=keys,
        clip_low=clip,
        clip_high=clip,
    )


def fixture_signals(**changes: object) -> TokenSignals:
    return dataclasses.replace(
        make_signals(POLICY, entropies=ENTROPIES, behavior=BEHAVIOR, advantages=ADVANTAGES), **changes
    )


def fixture_inputs(**changes: object) -> LossInputs:
    """Fixture F as a policy loss reads it."""
    values = {
        "policy_logprobs": torch.tensor(POLICY, requires_grad=True),
        "old_logprobs": torch.tensor(BEHAVIOR),
        "reference_logprobs": None,
        "policy_entropies": torch.zeros(8),
        "advantages": torch.tensor(ADVANTAGES),
        "loss_mask": torch.ones(8, dtype=torch.bool),
        "weights": torch.ones(8),
        "clip_low": None,
        "clip_high": None,
        "unclipped": torch.zeros(8, dtype=torch.bool),
        "sequence_ids": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]),
        "num_valid_tokens": 8,
        "num_sequences": 2,
    }
    return LossInputs(**{**values, **changes})


def one_token(*, log_ratio: float, advantage: float) -> LossInputs:
    return fixture_inputs(
        policy_logprobs=torch.tensor([log_ratio - 3.0], requires_grad=True),
        old_logprobs=torch.tensor([-3.0]),
        policy_entropies=torch.zeros(1),
        advantages=torch.tensor([advantage]),
        loss_mask=torch.ones(1, dtype=torch.bool),
        weights=torch.ones(1),
        unclipped=torch.zeros(1, dtype=torch.bool),
        sequence_ids=torch.zeros(1, dtype=torch.int64),
        num_valid_tokens=1,
        num_sequences=1,
    )


def fixture_batch() -> Microbatch:
    """Fixture F as training samples, one prompt token before each response."""
    samples = []
    for index in range(2):
        part = slice(4 * index, 4 * index + 4)
        samples.append(
            TrainingSample(
                group_id="g",
                rollout_index=index,
                token_ids=np.array([7, 1, 2, 3, 4], np.int32),
                loss_mask=np.array([False] + [True] * 4),
                behavior_logprobs=np.array([0, *BEHAVIOR[part]], np.float32),
                advantages=np.array([0, *ADVANTAGES[part]], np.float32),
                entropies=np.array([0, *ENTROPIES[part]], np.float32),
                token_sources=np.array([TokenSource.PROMPT] + [TokenSource.GENERATED] * 4, np.uint8),
                min_policy_version=0,
            )
        )
    return collate(samples, "padded")


def fixture_loss(
    plan: ComponentSpec | None, *, loss: ComponentSpec | None = None, regularisers: tuple[ComponentSpec, ...] = ()
) -> tuple[float, list[list[float]], dict[str, float | None]]:
    """Loss, gradient by score [2, 8] and metrics of F, under PPO clipped at 0.2/0.2 unless another loss is given."""
    narrow = ComponentSpec(kind="ppo_clip", options={"clip_low": 0.2, "clip_high": 0.2})
    plans = (plan,) if plan else ()
    objective = build_objective(LearnerConfig(loss=loss or narrow, token_plans=plans, regularisers=regularisers))
    batch = fixture_batch()
    scores = torch.tensor([POLICY, ENTROPIES], requires_grad=True)
    signals, keys = trained_signals(batch, scores), token_keys(batch, step=0, update=0)
    decided = [plan_weights(each, signals, keys, objective.loss) for each in objective.token_plans]
    weights = combine_weights(tuple(decided), 8, torch.device("cpu"))
    counts = UpdateCounts(num_valid_tokens=8, num_sequences=2, num_hint_tokens=0, entropy=sum(ENTROPIES) / 8)
    total, metrics = micro_batch_loss(objective, batch, scores, None, weights, counts, 0)
    (gradient,) = torch.autograd.grad(total, scores)
    return float(total.detach()), gradient.tolist(), {name: each.value for name, each in metrics.items()}


def ratios() -> list[float]:
    return (torch.tensor(POLICY) - torch.tensor(BEHAVIOR)).exp().tolist()
