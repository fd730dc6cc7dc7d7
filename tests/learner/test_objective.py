import pytest
import torch
from group_builders import make_group, make_rollout
from learner_builders import make_batch, make_sample

from learner.collate import Microbatch, collate
from learner.config import CorrectionConfig, KLConfig, LearnerConfig
from learner.losses.base import LossInputs, LossOutput
from learner.objective import (
    UpdateCounts,
    build_objective,
    combine_weights,
    micro_batch_loss,
    plan_weights,
    trained_signals,
)
from learner.token_keys import token_keys
from learner.token_plans.base import Scope, TokenSignals, TokenWeights
from shaping.components import ComponentSpec
from shaping.config import ShapingConfig
from shaping.errors import RecipeError
from shaping.kernels.base import SegmentRule
from shaping.metrics import Metric
from shaping.pipeline import ShapingPipeline, TrainableGroup


def random_scores(batch: Microbatch, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logprobs = -5.7 + 0.3 * torch.randn(batch.num_scored, generator=generator)
    entropies = 4 + torch.rand(batch.num_scored, generator=generator)
    return torch.stack((logprobs, entropies)).requires_grad_()


def loss_of(
    config: LearnerConfig, batch: Microbatch, scores: torch.Tensor, reference: torch.Tensor | None = None
) -> tuple[torch.Tensor, dict[str, Metric]]:
    weights = combine_weights((), int(batch.loss_mask.sum()), torch.device("cpu"))
    counts = UpdateCounts(
        num_valid_tokens=int(batch.loss_mask.sum()),
        num_sequences=len(batch.sequence_ids[batch.loss_mask].unique()),
        num_hint_tokens=float(batch.hint_weights.sum()),
    )
    return micro_batch_loss(build_objective(config), batch, scores, reference, weights, counts, 0)


def test_hint_tokens_get_no_gradient_from_the_policy_loss() -> None:
    batch = collate([make_sample(num_hint=3, seed=index) for index in range(3)], "packed")
    scores = random_scores(batch)
    loss, _ = loss_of(LearnerConfig(), batch, scores)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert int(batch.hint_mask.sum()) == 9
    assert gradient[0][batch.hint_mask].abs().max() == 0
    assert (gradient[0][batch.loss_mask] != 0).any()


def test_entropy_bonus_has_the_gradient_of_minus_the_mean_entropy() -> None:
    batch = collate([make_sample(num_response=5)], "packed")
    scores = random_scores(batch)
    config = LearnerConfig(regularisers=(ComponentSpec(kind="entropy_bonus", options={"coefficient": 0.1}),))
    total, _ = loss_of(config, batch, scores)
    (gradient,) = torch.autograd.grad(total, scores)
    torch.testing.assert_close(gradient[1], torch.full((5,), -0.1 / 5))


def test_the_coefficient_of_a_regulariser_may_be_a_schedule() -> None:
    linear = {"kind": "linear", "start": 0.0, "stop": 1.0, "steps": 10}
    config = LearnerConfig(regularisers=(ComponentSpec(kind="entropy_bonus", options={"coefficient": linear}),))
    batch = collate([make_sample()], "packed")
    scores = random_scores(batch)
    counts = UpdateCounts(num_valid_tokens=6, num_sequences=1, num_hint_tokens=0)
    weights = combine_weights((), 6, torch.device("cpu"))
    terms = [
        micro_batch_loss(build_objective(config), batch, scores, None, weights, counts, step)[1] for step in (0, 5)
    ]
    mean = float(scores[1].detach().mean())
    assert terms[0]["learner_entropy_bonus_loss"].value == pytest.approx(0.0)
    assert terms[1]["learner_entropy_bonus_loss"].value == pytest.approx(-0.5 * mean, rel=1e-5)


def test_kl_term_is_the_coefficient_times_the_mean_estimate() -> None:
    batch = collate([make_sample(num_response=4)], "packed")
    scores = random_scores(batch)
    reference = scores[0].detach() - 0.5  # d = 0.5 everywhere: k2 = 0.125
    config = LearnerConfig(kl=KLConfig(coefficient=0.2, estimator="k2"))
    total, metrics = loss_of(config, batch, scores, reference)
    plain, _ = loss_of(LearnerConfig(), batch, scores)
    assert float((total - plain).detach()) == pytest.approx(0.2 * 0.125, abs=1e-6)
    assert metrics["learner_kl_nats"].value == pytest.approx(0.125, rel=1e-5)


def test_loss_shares_add_up_over_any_division_of_the_batch() -> None:
    config = LearnerConfig(
        regularisers=(ComponentSpec(kind="entropy_bonus"), ComponentSpec(kind="hint_nll")),
    )
    samples = make_batch(6, num_hint=2)
    objective = build_objective(config)
    num_valid = sum(sample.num_valid_tokens for sample in samples)
    counts = UpdateCounts(num_valid_tokens=num_valid, num_sequences=6, num_hint_tokens=12)
    whole = collate(samples, "packed")
    scores = random_scores(whole)

    def share(start: int, stop: int) -> float:
        rows = torch.nonzero((whole.sequence_ids >= start) & (whole.sequence_ids < stop))[:, 0]
        batch = collate(samples[start:stop], "packed")
        weights = combine_weights((), int(batch.loss_mask.sum()), torch.device("cpu"))
        return float(micro_batch_loss(objective, batch, scores[:, rows], None, weights, counts, 0)[0].detach())

    assert share(0, 2) + share(2, 5) + share(5, 6) == pytest.approx(share(0, 6), abs=1e-6)


def test_weights_multiply_and_the_last_clip_range_stands() -> None:
    first = TokenWeights(weights=torch.tensor([1.0, 2.0]), clip_low=torch.tensor([0.1, 0.1]))
    second = TokenWeights(weights=torch.tensor([3.0, 0.0]), clip_low=torch.tensor([0.2, 0.2]))
    third = TokenWeights(weights=torch.ones(2))
    combined = combine_weights((first, second, third), 2, torch.device("cpu"))
    assert combined.weights.tolist() == [3.0, 0.0]
    assert combined.clip_low is not None and combined.clip_low.tolist() == pytest.approx([0.2, 0.2])
    assert combined.clip_high is None
    assert combined.unclipped is None and combined.penalties is None


def test_penalties_add_and_one_plan_is_enough_to_unclip() -> None:
    ones = torch.ones(2)
    first = TokenWeights(weights=ones, unclipped=torch.tensor([True, False]), penalties=torch.tensor([0.5, 0.0]))
    second = TokenWeights(weights=ones, clip_high=ones, penalties=torch.tensor([0.25, 1.0]))
    third = TokenWeights(weights=ones, unclipped=torch.tensor([False, False]))
    for parts in ((first, second, third), (third, second, first)):
        combined = combine_weights(parts, 2, torch.device("cpu"))
        assert combined.penalties is not None and combined.penalties.tolist() == [0.75, 1.0]
        assert combined.unclipped is not None and combined.unclipped.tolist() == [True, False]
        assert combined.clip_high is ones


def test_a_part_of_the_weights_is_that_of_its_tokens() -> None:
    whole = TokenWeights(weights=torch.arange(4.0), unclipped=torch.tensor([True, False, True, False]))
    part = whole.part(1, 3)
    assert part.weights.tolist() == [1.0, 2.0]
    assert part.unclipped is not None and part.unclipped.tolist() == [False, True]
    assert part.penalties is None and part.clip_low is None


def test_penalties_pull_trained_tokens_back_to_the_sampler() -> None:
    # drift +0.5 on all of 4 trained tokens, coefficients 1, 2, 0, 3, weights 1, 1, 1, 0.5:
    # (1 + 2 + 0 + 1.5) x 0.5 / 4, and gradient coefficient x weight x sign / 4; 2 hint tokens are left alone
    batch = collate([make_sample(num_hint=2, num_response=4, advantage=0.0)], "packed")
    scores = torch.stack((batch.behavior_logprobs + 0.5, torch.ones(6))).requires_grad_()
    weights = TokenWeights(weights=torch.tensor([1, 1, 1, 0.5]), penalties=torch.tensor([1.0, 2, 0, 3]))
    counts = UpdateCounts(num_valid_tokens=4, num_sequences=1, num_hint_tokens=2)
    for sign in (1, -1):
        moved = torch.stack((batch.behavior_logprobs + 0.5 * sign, torch.ones(6))).requires_grad_()
        total, metrics = micro_batch_loss(build_objective(LearnerConfig()), batch, moved, None, weights, counts, 0)
        (gradient,) = torch.autograd.grad(total, moved)
        assert float(total.detach()) == pytest.approx(4.5 * 0.5 / 4)
        assert metrics["learner_drift_loss"].value == pytest.approx(4.5 * 0.5 / 4)
        assert gradient[0].tolist() == pytest.approx([0, 0, 0.25 * sign, 0.5 * sign, 0, 0.375 * sign])
    plain = TokenWeights(weights=torch.ones(4))
    _, metrics = micro_batch_loss(build_objective(LearnerConfig()), batch, scores, None, plain, counts, 0)
    assert "learner_drift_loss" not in metrics


def test_plans_see_the_trained_tokens_without_gradient() -> None:
    batch = collate([make_sample(num_hint=2, num_response=4)], "packed")
    signals = trained_signals(batch, random_scores(batch))
    assert signals.shape == (5, 4)
    assert not signals.requires_grad


class RememberedSignals:
    """A plan that changes nothing and keeps what it was asked."""

    scope = Scope.MICRO_BATCH

    def plan(self, signals: TokenSignals) -> TokenWeights:
        self.signals = signals
        return TokenWeights(weights=torch.ones_like(signals.advantages))


def test_plans_see_the_advantages_that_less_has_shaped_and_the_clip_range_of_the_loss() -> None:
    # one correct and one wrong response; 1 2 is shared: 0; everything else keeps +-0.70711 (see test_pipeline.py)
    responses = {5: [1, 2, 9, 3, 4, 9], 6: [1, 2, 9, 7, 8, 9]}
    rollouts = [
        make_rollout(ids, entropies=[float(token == 9) for token in ids], text=f"\\boxed{{{value}}}")
        for value, ids in responses.items()
    ]
    pipeline = ShapingPipeline(ShapingConfig(segments=SegmentRule(min_length=2)))
    shaped = pipeline.shape((make_group(rollouts),))
    assert isinstance(shaped, TrainableGroup)
    batch = collate(list(shaped.samples), "packed")
    plan, signals = RememberedSignals(), trained_signals(batch, random_scores(batch))
    loss = build_objective(
        LearnerConfig(loss=ComponentSpec(kind="ppo_clip", options={"clip_low": 0.1, "clip_high": 0.3}))
    ).loss
    plan_weights(plan, signals, token_keys(batch, step=0, update=0), loss)
    wanted = 0.70711 * torch.tensor([0.0, 0, 1, 1, 1, 1, 0, 0, -1, -1, -1, -1])
    torch.testing.assert_close(plan.signals.advantages, wanted, atol=1e-5, rtol=0)
    assert (plan.signals.clip_low, plan.signals.clip_high) == (0.1, 0.3)


class GradientThroughEntropies:
    """A wrong loss: it tries to send a gradient through the entropies."""

    def loss(self, inputs: LossInputs) -> LossOutput:
        return LossOutput(loss=inputs.policy_entropies.sum())


def test_a_policy_loss_gets_entropies_without_gradient() -> None:
    batch = collate([make_sample()], "packed")
    scores = random_scores(batch)
    objective = build_objective(LearnerConfig())
    objective = type(objective)(
        loss=GradientThroughEntropies(),
        token_plans=(),
        regularisers=(),
        kl=KLConfig(),
        differentiable_entropies=False,
        needs_update_entropy=False,
        recomputes_old=False,
        correction=CorrectionConfig(),
    )
    weights = combine_weights((), 6, torch.device("cpu"))
    counts = UpdateCounts(num_valid_tokens=6, num_sequences=1, num_hint_tokens=0)
    total, _ = micro_batch_loss(objective, batch, scores, None, weights, counts, 0)
    (gradient,) = torch.autograd.grad(total, scores)
    assert gradient.abs().max() == 0


def test_unknown_options_are_refused_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean 'clip_high'"):
        build_objective(LearnerConfig(loss=ComponentSpec(kind="ppo_clip", options={"clip_hi": 0.3})))
