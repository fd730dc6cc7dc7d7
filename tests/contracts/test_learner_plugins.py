"""Laws of every policy loss, token plan and regulariser.

The files are found by themselves: a new one is tested unseen.
"""

import dataclasses
import inspect
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from learner_builders import make_batch, make_sample

from learner.collate import Microbatch, collate
from learner.losses.base import LossInputs, LossOutput
from learner.regularisers.base import RegulariserInputs
from learner.token_keys import token_keys
from learner.token_plans.base import Scope, TokenSignals, TokenWeights
from shaping.components import ComponentSpec, declared_conflicts, kinds, load
from shaping.metrics import Max, Mean, Sum, merge_metrics
from shaping.signals import Signal
from shaping.training import TrainingSample

LOSSES, PLANS, REGULARISERS = "learner.losses", "learner.token_plans", "learner.regularisers"
SEAMS = ("rewards", "transforms", "estimators", "shapers", "schedules", "memories")
ALL_FOLDERS = (LOSSES, PLANS, REGULARISERS, *(f"shaping.{name}" for name in SEAMS))
ALL_KINDS = [(folder, kind) for folder in (LOSSES, PLANS, REGULARISERS) for kind in kinds(folder)]

of_losses = pytest.mark.parametrize("kind", kinds(LOSSES))
of_plans = pytest.mark.parametrize("kind", kinds(PLANS))
of_terms = pytest.mark.parametrize(("folder", "kind"), [each for each in ALL_KINDS if each[0] != PLANS])

UNUSUAL_BATCHES = {
    "all rewards equal": [make_sample(seed=index, advantage=0.0) for index in range(4)],
    "one response": [make_sample(num_hint=2)],
    "one token": [make_sample(num_response=1)],
    "nothing trained": [make_sample(trained=False)],
    "an empty response": [make_sample(num_response=0), make_sample()],
    "no samples": [],
}


def build(folder: str, kind: str) -> Any:
    return load(folder, ComponentSpec(kind=kind), "test").build()


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
    num_valid, num_hint = int(update.loss_mask.sum()), int(update.hint_mask.sum())
    component = build(folder, kind)
    if folder == REGULARISERS:
        inputs = RegulariserInputs(
            policy_logprobs=scores[0],
            policy_entropies=scores[1],
            loss_mask=batch.loss_mask,
            hint_mask=batch.hint_mask,
            num_valid_tokens=num_valid,
            num_hint_tokens=num_hint,
            step=3,
        )
        return component.term(inputs), scores, batch
    return component.loss(loss_inputs(batch, scores, num_valid)), scores, batch


def loss_inputs(batch: Microbatch, scores: torch.Tensor, num_valid: int) -> LossInputs:
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
        num_valid_tokens=num_valid,
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


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_a_kind_declares_what_it_is_and_needs(folder: str, kind: str) -> None:
    component = load(folder, ComponentSpec(kind=kind), "test")
    assert len(inspect.getdoc(component.module) or "") > 80
    assert component.needs <= set(Signal)
    assert dataclasses.is_dataclass(component.config)
    assert component.config.__dataclass_params__.frozen


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_a_kind_contradicts_kinds_that_exist(folder: str, kind: str) -> None:
    module = load(folder, ComponentSpec(kind=kind), "test").module
    declared = declared_conflicts(folder, kind)
    assert declared == getattr(module, "CONFLICTS", {})
    assert declared.keys() <= {name for each in ALL_FOLDERS for name in kinds(each)}


@of_terms
def test_padded_and_packed_are_the_same(folder: str, kind: str) -> None:
    samples = make_batch(5, num_hint=2)
    (packed, packed_scores, _), (padded, padded_scores, _) = (
        term_of(folder, kind, samples, layout=layout) for layout in ("packed", "padded")
    )
    assert torch.equal(packed.loss, padded.loss)
    assert torch.equal(gradient_of(packed, packed_scores), gradient_of(padded, padded_scores))
    assert packed.metrics == padded.metrics


@of_terms
def test_the_order_of_responses_means_nothing(folder: str, kind: str) -> None:
    samples = make_batch(5, num_hint=2)
    first, scores, batch = term_of(folder, kind, samples)
    second, other_scores, other_batch = term_of(folder, kind, samples[::-1])
    torch.testing.assert_close(first.loss, second.loss)
    gradient, other = gradient_of(first, scores), gradient_of(second, other_scores)
    for index in range(5):
        mine, same = batch.sequence_ids == index, other_batch.sequence_ids == 4 - index
        torch.testing.assert_close(gradient[:, mine], other[:, same])


@of_terms
def test_shares_of_micro_batches_add_up_to_the_update(folder: str, kind: str) -> None:
    samples = make_batch(6, num_hint=2)
    whole, _, _ = term_of(folder, kind, samples)
    parts = [term_of(folder, kind, samples[start : start + 2], whole=samples)[0] for start in (0, 2, 4)]
    total = torch.stack([part.loss for part in parts]).sum()
    torch.testing.assert_close(total, whole.loss)
    merged = merge_metrics([part.metrics for part in parts])
    assert merged.keys() == whole.metrics.keys()
    for name, metric in merged.items():
        assert metric.value == pytest.approx(whole.metrics[name].value, rel=1e-5)


@of_terms
@pytest.mark.parametrize("name", UNUSUAL_BATCHES)
@pytest.mark.parametrize("certain", [False, True])
def test_unusual_batches_give_finite_numbers(folder: str, kind: str, name: str, certain: bool) -> None:
    output, scores, _ = term_of(folder, kind, UNUSUAL_BATCHES[name], certain=certain)
    assert output.loss.shape == ()
    assert bool(output.loss.isfinite())
    assert bool(gradient_of(output, scores).isfinite().all())


@of_terms
def test_metrics_are_named_and_mergeable(folder: str, kind: str) -> None:
    output, _, _ = term_of(folder, kind, make_batch(3, num_hint=1))
    for name, metric in output.metrics.items():
        assert name.startswith("learner_")
        assert isinstance(metric, Mean | Sum | Max)


@of_losses
def test_a_policy_loss_trains_trained_tokens_alone(kind: str) -> None:
    output, scores, batch = term_of(LOSSES, kind, make_batch(4, num_hint=2))
    gradient = gradient_of(output, scores)
    assert gradient[0, batch.loss_mask].abs().max() > 0
    assert gradient[0, ~batch.loss_mask].abs().max() == 0
    assert gradient[1].abs().max() == 0


@of_losses
def test_only_policy_logprobs_carry_a_gradient(kind: str) -> None:
    batch = collate(make_batch(3), "packed")
    scores = scores_of(make_batch(3), batch)
    inputs = loss_inputs(batch, scores, int(batch.loss_mask.sum()))
    assert not build(LOSSES, kind).loss(inputs).loss.requires_grad


@of_losses
@pytest.mark.parametrize("log_ratio", [-2.0, 2.0, 4.0])
def test_a_policy_loss_clips_no_token_that_a_plan_leaves_unclipped(kind: str, log_ratio: float) -> None:
    samples = make_batch(4)
    batch = collate(samples, "packed")
    scores = torch.stack((batch.behavior_logprobs + log_ratio, torch.ones(batch.num_scored))).requires_grad_()
    num_valid = int(batch.loss_mask.sum())
    loss = build(LOSSES, kind)
    assert min(loss.clip_range) >= 0
    inputs = dataclasses.replace(loss_inputs(batch, scores, num_valid), unclipped=batch.loss_mask)
    gradient = gradient_of(loss.loss(inputs), scores)
    assert bool((gradient[0, batch.loss_mask] != 0).all())


@of_plans
def test_a_plan_gives_every_token_a_weight_without_gradient(kind: str) -> None:
    signals = signals_of(make_batch(4))
    plan = build(PLANS, kind)
    assert plan.scope in Scope
    decided = plan.plan(signals)
    for value in tensors_of(decided).values():
        assert value.shape == signals.policy_logprobs.shape
        assert not value.requires_grad
        assert bool(value.isfinite().all())
        assert float(value.min()) >= 0


@of_plans
def test_a_plan_permutes_with_its_tokens(kind: str) -> None:
    signals = signals_of(make_batch(4))
    order = torch.randperm(len(signals.advantages), generator=torch.Generator().manual_seed(0))
    plan = build(PLANS, kind)
    straight, permuted = tensors_of(plan.plan(signals)), tensors_of(plan.plan(reordered(signals, order)))
    assert straight.keys() == permuted.keys()
    for name, value in straight.items():
        torch.testing.assert_close(value[order], permuted[name])


@of_plans
@pytest.mark.parametrize("num_tokens", [0, 1, 5])
def test_a_plan_takes_few_equal_and_certain_tokens(kind: str, num_tokens: int) -> None:
    zeros = torch.zeros(num_tokens)
    signals = TokenSignals(
        policy_logprobs=zeros,
        policy_entropies=zeros,
        behavior_logprobs=zeros,
        old_logprobs=zeros,
        advantages=zeros,
        keys=torch.arange(num_tokens),
        clip_low=0.2,
        clip_high=0.2,
    )
    for value in tensors_of(build(PLANS, kind).plan(signals)).values():
        assert value.shape == (num_tokens,)
        assert bool(value.isfinite().all())


@of_plans
def test_a_plan_does_not_change_its_input(kind: str) -> None:
    signals = signals_of(make_batch(3))
    before = {name: value.clone() for name, value in tensors_of(signals).items()}
    build(PLANS, kind).plan(signals)
    assert all(torch.equal(getattr(signals, name), value) for name, value in before.items())
