"""Any policy loss, token plan or regulariser on training samples, as the contract tests run it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from learner_builders import make_batch

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig
from learner.losses.base import LossInputs, LossOutput
from learner.objective import (
    UpdateCounts,
    build_objective,
    combine_weights,
    micro_batch_loss,
    plan_weights,
    trained_signals,
)
from learner.regularisers.base import RegulariserInputs
from learner.token_keys import token_keys
from learner.token_plans.base import TokenSignals, TokenWeights
from shaping.components import ComponentSpec, load
from shaping.training import TrainingSample

LOSSES, PLANS, REGULARISERS = "learner.losses", "learner.token_plans", "learner.regularisers"


def module_of(folder: str, kind: str) -> Any:
    return load(folder, ComponentSpec(kind=kind), "test").module


def build(folder: str, kind: str, **options: object) -> Any:
    return load(folder, ComponentSpec(kind=kind, options=options), "test").build()


def scores_of(samples: Sequence[TrainingSample], batch: Microbatch, *, certain: bool = False) -> torch.Tensor:
    """[2, S] log-probs and entropies that depend on the sample and the token alone, not on where they lie."""
    keys = torch.tensor([samples[int(index)].rollout_index for index in batch.sequence_ids] if samples else [0])
    wave = torch.sin(batch.targets.double() * 12.9898 + keys * 78.233).float()
    if certain:
        return torch.zeros(2, batch.num_scored)
    return torch.stack((-5.7 + 0.4 * wave, 4.0 + torch.cos(5 * wave)))


def term_of(
    folder: str,
    kind: str,
    samples: Sequence[TrainingSample],
    *,
    layout: str = "packed",
    whole: Sequence[TrainingSample] | None = None,
    certain: bool = False,
) -> tuple[LossOutput, torch.Tensor, Microbatch]:
    """One loss or regulariser on these samples as part of an update over `whole`; the scores it read, the batch."""
    batch = collate(samples, layout)
    update = collate(samples if whole is None else whole, "packed")
    scores = scores_of(samples, batch, certain=certain).requires_grad_()
    counts = counts_of(update, scores_of(samples if whole is None else whole, update, certain=certain))
    component = build(folder, kind)
    if folder == REGULARISERS:
        inputs = RegulariserInputs(
            policy_logprobs=scores[0],
            policy_entropies=scores[1],
            loss_mask=batch.loss_mask,
            hint_mask=batch.hint_mask,
            hint_weights=batch.hint_weights,
            num_valid_tokens=counts.num_valid_tokens,
            num_hint_tokens=counts.num_hint_tokens,
            update_entropy=counts.entropy,
            step=3,
        )
        return component.term(inputs), scores, batch
    return component.loss(loss_inputs(batch, scores, counts)), scores, batch


def counts_of(update: Microbatch, scores: torch.Tensor) -> UpdateCounts:
    """Of an update that is this one micro-batch."""
    entropies = scores[1, update.loss_mask].detach()
    return UpdateCounts(
        num_valid_tokens=len(entropies),
        num_sequences=len(update.sequence_ids[update.loss_mask].unique()),
        num_hint_tokens=float(update.hint_weights.double().sum()),
        entropy=float(entropies.mean()) if len(entropies) else 0.0,
    )


def loss_inputs(batch: Microbatch, scores: torch.Tensor, counts: UpdateCounts) -> LossInputs:
    return LossInputs(
        policy_logprobs=scores[0],
        old_logprobs=batch.old_logprobs,
        reference_logprobs=scores[0].detach() - 0.1,
        policy_entropies=scores[1].detach(),
        advantages=batch.advantages,
        loss_mask=batch.loss_mask,
        weights=batch.loss_mask.float(),
        clip_low=None,
        clip_high=None,
        unclipped=torch.zeros_like(batch.loss_mask),
        sequence_ids=batch.sequence_ids,
        num_valid_tokens=counts.num_valid_tokens,
        num_sequences=counts.num_sequences,
    )


def gradient_of(output: LossOutput, scores: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(output.loss + 0.0 * scores.sum(), scores)[0]


def signals_of(samples: Sequence[TrainingSample]) -> TokenSignals:
    batch = collate(samples, "packed")
    logprobs, entropies = scores_of(samples, batch)[:, batch.loss_mask]
    return TokenSignals(
        policy_logprobs=logprobs,
        policy_entropies=entropies,
        behavior_logprobs=batch.behavior_logprobs[batch.loss_mask],
        old_logprobs=batch.old_logprobs[batch.loss_mask],
        advantages=batch.advantages[batch.loss_mask],
        keys=token_keys(batch, step=3, update=1),
        clip_low=0.2,
        clip_high=0.2,
    )


def reordered(signals: TokenSignals, order: torch.Tensor) -> TokenSignals:
    return dataclasses.replace(signals, **{name: value[order] for name, value in tensors_of(signals).items()})


def tensors_of(record: TokenSignals | TokenWeights) -> dict[str, torch.Tensor]:
    found = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}


def update_of(config: LearnerConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of the scores of an update that is one micro-batch."""
    samples = make_batch(6, num_hint=2, hint_copies=2)
    batch = collate(samples, "packed")
    scores = scores_of(samples, batch).requires_grad_()
    objective = build_objective(config)
    signals, keys = trained_signals(batch, scores), token_keys(batch, step=3, update=1)
    parts = [plan_weights(plan, signals, keys, objective.loss) for plan in objective.token_plans]
    weights = combine_weights(tuple(parts), signals.shape[1], signals.device)
    total, _ = micro_batch_loss(objective, batch, scores, None, weights, counts_of(batch, scores), 3)
    return total.detach(), torch.autograd.grad(total, scores)[0]
