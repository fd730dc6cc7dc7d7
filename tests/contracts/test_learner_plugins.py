"""Laws of every policy loss, token plan and regulariser.

The files are found by themselves: a new one is tested unseen.
"""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import torch
from learner_builders import make_batch, make_sample, train_once, write_tiny_policy
from learner_kinds import (
    LOSSES,
    PLANS,
    REGULARISERS,
    build,
    counts_of,
    gradient_of,
    loss_inputs,
    module_of,
    reordered,
    scores_of,
    signals_of,
    tensors_of,
    term_of,
    update_of,
)

from learner.collate import collate
from learner.config import LearnerConfig
from learner.token_plans.base import Scope, TokenSignals
from shaping.components import ComponentSpec, declared_conflicts, kinds, load
from shaping.errors import RecipeError
from shaping.metrics import Max, Mean, Sum, merge_metrics
from shaping.signals import Signal

SEAMS = ("rewards", "transforms", "estimators", "shapers", "schedules", "memories")
ALL_FOLDERS = (LOSSES, PLANS, REGULARISERS, *(f"shaping.{name}" for name in SEAMS))
ALL_KINDS = [(folder, kind) for folder in (LOSSES, PLANS, REGULARISERS) for kind in kinds(folder)]

of_losses = pytest.mark.parametrize("kind", kinds(LOSSES))
of_plans = pytest.mark.parametrize("kind", kinds(PLANS))
of_terms = pytest.mark.parametrize(("folder", "kind"), [each for each in ALL_KINDS if each[0] != PLANS])


IDENTITIES = [each for each in ALL_KINDS if hasattr(module_of(*each), "IDENTITY")]
OF_TWO_VARIANTS = [
    each for each in ALL_KINDS if "variant" in {item.name for item in dataclasses.fields(module_of(*each).Config)}
]

UNUSUAL_BATCHES = {
    "all rewards equal": [make_sample(seed=index, advantage=0.0) for index in range(4)],
    "one response": [make_sample(num_hint=2)],
    "one token": [make_sample(num_response=1)],
    "nothing trained": [make_sample(trained=False)],
    "an empty response": [make_sample(num_response=0), make_sample()],
    "no samples": [],
}


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
    samples = make_batch(6, num_hint=2, hint_copies=3)
    whole, scores, batch = term_of(folder, kind, samples)
    found = [term_of(folder, kind, samples[start : start + 2], whole=samples) for start in (0, 2, 4)]
    parts = [part for part, _, _ in found]
    total = torch.stack([part.loss for part in parts]).sum()
    torch.testing.assert_close(total, whole.loss)
    gradient = gradient_of(whole, scores)
    for index, (part, its_scores, _) in enumerate(found):
        mine = (batch.sequence_ids // 2) == index
        torch.testing.assert_close(gradient_of(part, its_scores), gradient[:, mine])
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
    inputs = loss_inputs(batch, scores, counts_of(batch, scores))
    assert not build(LOSSES, kind).loss(inputs).loss.requires_grad


@of_losses
@pytest.mark.parametrize("log_ratio", [-2.0, 2.0, 4.0])
def test_a_policy_loss_clips_no_token_that_a_plan_leaves_unclipped(kind: str, log_ratio: float) -> None:
    samples = make_batch(4)
    batch = collate(samples, "packed")
    scores = torch.stack((batch.behavior_logprobs + log_ratio, torch.ones(batch.num_scored))).requires_grad_()
    loss = build(LOSSES, kind)
    assert min(loss.clip_range) >= 0
    inputs = dataclasses.replace(loss_inputs(batch, scores, counts_of(batch, scores)), unclipped=batch.loss_mask)
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


@pytest.mark.parametrize(("folder", "kind"), OF_TWO_VARIANTS)
def test_a_variant_is_named_and_the_recommended_one_is_the_default(folder: str, kind: str) -> None:
    component = load(folder, ComponentSpec(kind=kind), "test")
    assert component.config.variant == "recommended"
    assert "parity" in (inspect.getdoc(component.module) or "")
    with pytest.raises(RecipeError, match="must be one of recommended, parity"):
        build(folder, kind, variant="faithful")


@pytest.mark.parametrize("kind", [kind for folder, kind in OF_TWO_VARIANTS if folder == PLANS])
@pytest.mark.parametrize("num_samples", [0, 1, 4])
def test_the_parity_variant_of_a_plan_gives_every_token_a_weight(kind: str, num_samples: int) -> None:
    signals = signals_of(make_batch(num_samples))
    plan = build(PLANS, kind, variant="parity")
    assert plan.scope is Scope.MICRO_BATCH
    for value in tensors_of(plan.plan(signals)).values():
        assert value.shape == signals.policy_logprobs.shape
        assert bool(value.isfinite().all()) and bool((value >= 0).all())


SLOTS = {LOSSES: "loss", PLANS: "token_plans", REGULARISERS: "regularisers"}


@pytest.mark.parametrize(("folder", "kind"), IDENTITIES)
def test_a_kind_under_its_identity_is_the_kind_that_it_names(folder: str, kind: str) -> None:
    """Bit for bit; no kind at all is a recipe without the file."""
    identity = module_of(folder, kind).IDENTITY
    assert identity.keys() == {"kind", "options"}
    slot = SLOTS[folder]

    def config_of(*specs: ComponentSpec) -> LearnerConfig:
        return LearnerConfig(**{slot: specs[0] if folder == LOSSES else specs})

    same = [ComponentSpec(kind=identity["kind"])] if identity["kind"] else []
    assert same or folder != LOSSES, "a recipe always has a loss"
    loss, gradient = update_of(config_of(ComponentSpec(kind=kind, options=identity["options"])))
    wanted, wanted_gradient = update_of(config_of(*same))
    assert torch.equal(loss, wanted)
    assert torch.equal(gradient, wanted_gradient)


@pytest.mark.parametrize(("folder", "kind"), IDENTITIES)
def test_an_identity_is_a_literal_that_can_be_read_without_running_the_file(folder: str, kind: str) -> None:
    module = module_of(folder, kind)
    found = [
        ast.literal_eval(node.value)
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Assign) and [ast.unparse(each) for each in node.targets] == ["IDENTITY"]
    ]
    assert found == [module.IDENTITY]


@pytest.mark.parametrize("kind", kinds(REGULARISERS))
def test_a_regulariser_sends_no_gradient_through_what_it_does_not_declare(kind: str) -> None:
    output, scores, _ = term_of(REGULARISERS, kind, make_batch(4, num_hint=2))
    gradient = gradient_of(output, scores)
    needs = load(REGULARISERS, ComponentSpec(kind=kind), "test").needs
    for row, signal in ((0, Signal.POLICY_LOGPROBS), (1, Signal.DIFFERENTIABLE_ENTROPIES)):
        assert (gradient[row].abs().max() > 0) == (signal in needs)


@pytest.fixture(scope="module")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.mark.parametrize(("folder", "kind"), ALL_KINDS)
def test_any_division_of_an_update_trains_the_same(folder: str, kind: str, policy_path: str, tmp_path: Path) -> None:
    """In the learner itself, with all that it measures of the update."""
    spec = ComponentSpec(kind=kind)
    options = {SLOTS[folder]: spec if folder == LOSSES else (spec,)}
    samples = make_batch(8, num_hint=2, hint_copies=4)
    (small, small_weights), (whole, weights) = (
        train_once(policy_path, tmp_path / str(tokens), samples, micro_batch_tokens=tokens, **options)
        for tokens in (40, 10_000)
    )
    assert small.metrics["learner_loss"] == pytest.approx(whole.metrics["learner_loss"], abs=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(small_weights[name], weight, atol=2e-5, rtol=0)


@of_plans
def test_a_plan_does_not_change_its_input(kind: str) -> None:
    signals = signals_of(make_batch(3))
    before = {name: value.clone() for name, value in tensors_of(signals).items()}
    build(PLANS, kind).plan(signals)
    assert all(torch.equal(getattr(signals, name), value) for name, value in before.items())
