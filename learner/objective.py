"""The loss of one micro-batch: policy loss and penalties under token plans, KL term, regularisers; one reduction rule.

Knows no engine: scores come in, a scalar and metrics go out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from learner.collate import Microbatch
from learner.config import CorrectionConfig, KLConfig, LearnerConfig
from learner.importance import importance_metrics
from learner.kl import kl_estimate
from learner.losses.base import LossInputs, PolicyLoss, mean_metrics, token_mean
from learner.regularisers.base import Regulariser, RegulariserInputs
from learner.token_plans.base import Scope, TokenPlan, TokenSignals, TokenWeights
from shaping.components import Component, load
from shaping.errors import RecipeError
from shaping.metrics import Mean, Metric, merge_metrics
from shaping.signals import Signal


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCounts:
    """Of one optimizer update, over all micro-batches and ranks.

    Args:
        num_valid_tokens, num_sequences: trained tokens, and samples with at least one.
        num_hint_tokens: hint tokens, those of a hint that samples of a group share counted once.
        entropy: mean over the trained tokens before the update, nats; None unless a regulariser needs it.
    """

    num_valid_tokens: int
    num_sequences: int
    num_hint_tokens: float
    entropy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The built components of a recipe's objective.

    Args:
        differentiable_entropies: whether any of them needs gradients through entropies.
        needs_update_entropy: whether any of them needs the mean entropy of an update before its gradient.
        recomputes_old: whether importance ratios are against the learner's own log-probs instead of the sampler's.
    """

    loss: PolicyLoss
    token_plans: tuple[TokenPlan, ...]
    regularisers: tuple[tuple[str, Regulariser], ...]
    kl: KLConfig
    differentiable_entropies: bool
    needs_update_entropy: bool
    recomputes_old: bool
    correction: CorrectionConfig

    @property
    def plans_whole_updates(self) -> bool:
        return any(plan.scope is Scope.UPDATE for plan in self.token_plans)


def load_components(config: LearnerConfig) -> tuple[Component, ...]:
    """Loss, token plans and regularisers of a recipe, checked; what they need is theirs to say.

    Raises:
        RecipeError: unknown kind or option.
    """
    specs = [("learner.losses", config.loss, "learner.loss")]
    specs += [("learner.token_plans", spec, "learner.token_plans") for spec in config.token_plans]
    specs += [("learner.regularisers", spec, "learner.regularisers") for spec in config.regularisers]
    return tuple(load(folder, spec, where) for folder, spec, where in specs)


def supplied_signals(config: LearnerConfig) -> frozenset[Signal]:
    """What the learner itself can supply under this recipe."""
    signals = {
        Signal.POLICY_LOGPROBS,
        Signal.POLICY_ENTROPIES,
        Signal.DIFFERENTIABLE_ENTROPIES,
        Signal.UPDATE_ENTROPY,
    }
    if config.kl.coefficient > 0:
        signals.add(Signal.REFERENCE_LOGPROBS)
    return frozenset(signals)


def build_objective(config: LearnerConfig) -> Objective:
    """Build what the recipe names.

    Raises:
        RecipeError: a component that cannot be loaded, or one that needs a reference model that is not loaded.
    """
    components = load_components(config)
    for each in components:
        if Signal.REFERENCE_LOGPROBS in each.needs - supplied_signals(config):
            raise RecipeError(
                f"{each.kind} needs reference log-probs: set learner.kl.coefficient above 0 ({each.folder})"
            )
    built = [(each, each.build()) for each in components]
    return Objective(
        loss=next(item for each, item in built if each.folder == "learner.losses"),
        token_plans=tuple(item for each, item in built if each.folder == "learner.token_plans"),
        regularisers=tuple((each.kind, item) for each, item in built if each.folder == "learner.regularisers"),
        kl=config.kl,
        differentiable_entropies=any(Signal.DIFFERENTIABLE_ENTROPIES in each.needs for each in components),
        needs_update_entropy=any(Signal.UPDATE_ENTROPY in each.needs for each in components),
        recomputes_old=config.old_logprobs == "recompute",
        correction=config.correction,
    )


def trained_signals(batch: Microbatch, scores: torch.Tensor) -> torch.Tensor:
    """[5, N] detached signals of the trained tokens of a micro-batch, in the order of `TokenSignals`."""
    rows = (scores[0], scores[1], batch.behavior_logprobs, batch.old_logprobs, batch.advantages)
    return torch.stack([row.detach()[batch.loss_mask] for row in rows])


def plan_weights(plan: TokenPlan, signals: torch.Tensor, keys: torch.Tensor, loss: PolicyLoss) -> TokenWeights:
    """Ask one plan for the weights of [5, N] signals (see `trained_signals`) with these [N] keys, under this loss."""
    logprobs, entropies, behavior, old, advantages = signals.unbind(0)
    clip_low, clip_high = loss.clip_range
    return plan.plan(
        TokenSignals(
            policy_logprobs=logprobs,
            policy_entropies=entropies,
            behavior_logprobs=behavior,
            old_logprobs=old,
            advantages=advantages,
            keys=keys,
            clip_low=clip_low,
            clip_high=clip_high,
        )
    )


def combine_weights(parts: tuple[TokenWeights, ...], num_tokens: int, device: torch.device) -> TokenWeights:
    """Weights multiply, penalties add; of several clip ranges the last one stands; one plan is enough to unclip."""
    total = TokenWeights(weights=torch.ones(num_tokens, device=device))
    for part in parts:
        total = TokenWeights(
            weights=total.weights * part.weights,
            clip_low=total.clip_low if part.clip_low is None else part.clip_low,
            clip_high=total.clip_high if part.clip_high is None else part.clip_high,
            unclipped=_joined(total.unclipped, part.unclipped, torch.logical_or),
            penalties=_joined(total.penalties, part.penalties, torch.add),
        )
    return total


def _joined(
    left: torch.Tensor | None, right: torch.Tensor | None, join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor | None:
    if left is None or right is None:
        return right if left is None else left
    return join(left, right)


def micro_batch_loss(
    objective: Objective,
    batch: Microbatch,
    scores: torch.Tensor,
    reference_logprobs: torch.Tensor | None,
    token_weights: TokenWeights,
    counts: UpdateCounts,
    step: int,
) -> tuple[torch.Tensor, dict[str, Metric]]:
    """This micro-batch's share of the update's loss, and its metrics.

    Args:
        scores: [2, S], log-probabilities and entropies, with gradient.
        token_weights: of the trained tokens [N] of this micro-batch, N = `batch.loss_mask.sum()`.
    Returns:
        A scalar whose sum over micro-batches and ranks is the loss, and metrics that merge over them.
    """
    logprobs, entropies = scores.unbind(0)
    mask, num_valid = batch.loss_mask, counts.num_valid_tokens
    policy = objective.loss.loss(_loss_inputs(batch, scores, reference_logprobs, token_weights, counts))
    terms, metrics = {"policy": policy.loss}, [policy.metrics]
    if token_weights.penalties is not None:
        # A penalty is part of the token's loss: a weight scales it, and a token of weight 0 is not trained by it.
        penalties = _spread(token_weights.weights * token_weights.penalties, mask)
        drift = torch.where(mask, logprobs - batch.old_logprobs, 0.0).abs()
        terms["drift"] = token_mean(penalties * drift, mask, num_valid)
    if reference_logprobs is not None:
        estimates = kl_estimate(logprobs, reference_logprobs, objective.kl.estimator)
        terms["kl"] = objective.kl.coefficient * token_mean(estimates, mask, num_valid)
        metrics.append(mean_metrics({"learner_kl_nats": estimates}, mask))
    inputs = RegulariserInputs(
        policy_logprobs=logprobs,
        policy_entropies=entropies,
        loss_mask=mask,
        hint_mask=batch.hint_mask,
        hint_weights=batch.hint_weights,
        num_valid_tokens=num_valid,
        num_hint_tokens=counts.num_hint_tokens,
        update_entropy=counts.entropy,
        step=step,
    )
    for kind, regulariser in objective.regularisers:
        output = regulariser.term(inputs)
        terms[kind] = output.loss
        metrics.append(output.metrics)
    # The last term keeps every parameter in the graph where a micro-batch has nothing to train: all ranks must run the
    # same backward hooks.
    total = torch.stack(list(terms.values())).sum() + 0.0 * logprobs.sum()
    weights = _spread(token_weights.weights, mask)
    metrics.append(mean_metrics({"learner_entropy_nats": entropies, "learner_token_weight_mean": weights}, mask))
    metrics += [importance_metrics(batch, logprobs), _term_metrics(terms, total, batch, num_valid)]
    return total, merge_metrics(metrics)


def _loss_inputs(
    batch: Microbatch,
    scores: torch.Tensor,
    reference_logprobs: torch.Tensor | None,
    token_weights: TokenWeights,
    counts: UpdateCounts,
) -> LossInputs:
    mask, unclipped = batch.loss_mask, token_weights.unclipped
    return LossInputs(
        policy_logprobs=scores[0],
        old_logprobs=batch.old_logprobs,
        reference_logprobs=reference_logprobs,
        policy_entropies=scores[1].detach(),
        advantages=batch.advantages,
        loss_mask=mask,
        weights=_spread(token_weights.weights, mask),
        clip_low=None if token_weights.clip_low is None else _spread(token_weights.clip_low, mask),
        clip_high=None if token_weights.clip_high is None else _spread(token_weights.clip_high, mask),
        unclipped=torch.zeros_like(mask) if unclipped is None else _spread(unclipped, mask),
        sequence_ids=batch.sequence_ids,
        num_valid_tokens=counts.num_valid_tokens,
        num_sequences=counts.num_sequences,
    )


def _spread(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """From values of trained tokens [N] to values of scored tokens [S], 0 or False elsewhere."""
    out = torch.zeros(len(mask), dtype=values.dtype, device=values.device)
    out[mask] = values
    return out


def _term_metrics(
    terms: dict[str, torch.Tensor], total: torch.Tensor, batch: Microbatch, num_valid_tokens: int
) -> dict[str, Metric]:
    """Shares of the loss as token means: share x tokens of the update, over the tokens of this micro-batch."""
    values = torch.stack([total, *terms.values(), batch.loss_mask.sum()]).detach().double().tolist()
    names = ["learner_loss", *(f"learner_{name}_loss" for name in terms)]
    return {name: Mean(value * num_valid_tokens, values[-1]) for name, value in zip(names, values[:-1], strict=True)}
