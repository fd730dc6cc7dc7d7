import pytest
import torch
from learner_builders import make_batch, make_sample

from learner.collate import Microbatch, collate
from learner.config import KLConfig, LearnerConfig
from learner.losses.base import LossInputs, LossOutput
from learner.objective import UpdateCounts, build_objective, combine_weights, micro_batch_loss, trained_signals
from learner.token_plans.base import TokenWeights
from shaping.components import ComponentSpec
from shaping.errors import RecipeError
from shaping.metrics import Metric


def random_scores(batch: Microbatch, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logprobs = -5.7 + 0.3 * torch.randn(batch.num_scored, generator=generator)
    entropies = 4 + torch.rand(batch.num_scored, generator=generator)
    return torch.stack((logprobs, entropies)).requires_grad_()


def loss_of(
    config: LearnerConfig, batch: Microbatch, scores: torch.Tensor, reference: torch.Tensor | None = None
) -> tuple[torch.Tensor, dict[str, Metric]]:
    weights = combine_weights((), int(batch.loss_mask.sum()), torch.device("cpu"))
    counts = UpdateCounts(num_valid_tokens=int(batch.loss_mask.sum()), num_hint_tokens=int(batch.hint_mask.sum()))
    return micro_batch_loss(build_objective(config), batch, scores, reference, weights, counts, 0)


def test_hint_tokens_get_no_gradient_from_the_policy_loss() -> None:
    batch = collate([make_sample(num_hint=3, seed=index) for index in range(3)], "packed")
    scores = random_scores(batch)
    loss, _ = loss_of(LearnerConfig(), batch, scores)
    (gradient,) = torch.autograd.grad(loss, scores)
    assert int(batch.hint_mask.sum()) == 9
    assert gradient[0][batch.hint_mask].abs().max() == 0
    assert (gradient[0][batch.loss_mask] != 0).any()


def test_hint_nll_reads_hint_tokens_alone() -> None:
    # gamma 0.5, 6 hint tokens: gradient -0.5 / 6 on each hint token from this term, nothing elsewhere
    batch = collate([make_sample(num_hint=3, seed=index) for index in range(2)], "padded")
    scores = random_scores(batch)
    plain, _ = loss_of(LearnerConfig(), batch, scores)
    config = LearnerConfig(regularisers=(ComponentSpec(kind="hint_nll", options={"gamma": 0.5}),))
    total, metrics = loss_of(config, batch, scores)
    (gradient,) = torch.autograd.grad(total - plain, scores)
    torch.testing.assert_close(gradient[0][batch.hint_mask], torch.full((6,), -0.5 / 6))
    assert gradient[0][~batch.hint_mask].abs().max() == 0
    assert metrics["learner_hint_nll_nats"].value == pytest.approx(
        float(-scores[0].detach()[batch.hint_mask].mean()), rel=1e-6
    )


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
    counts = UpdateCounts(num_valid_tokens=6, num_hint_tokens=0)
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
    counts = UpdateCounts(num_valid_tokens=sum(sample.num_valid_tokens for sample in samples), num_hint_tokens=12)
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


def test_plans_see_the_trained_tokens_without_gradient() -> None:
    batch = collate([make_sample(num_hint=2, num_response=4)], "packed")
    signals = trained_signals(batch, random_scores(batch))
    assert signals.shape == (4, 4)
    assert not signals.requires_grad


class GradientThroughEntropies:
    """A wrong loss: it tries to send a gradient through the entropies."""

    def loss(self, inputs: LossInputs) -> LossOutput:
        return LossOutput(loss=inputs.policy_entropies.sum())


def test_a_policy_loss_gets_entropies_without_gradient() -> None:
    batch = collate([make_sample()], "packed")
    scores = random_scores(batch)
    objective = build_objective(LearnerConfig())
    objective = type(objective)(
        loss=GradientThroughEntropies(), token_plans=(), regularisers=(), kl=KLConfig(), differentiable_entropies=False
    )
    weights = combine_weights((), 6, torch.device("cpu"))
    counts = UpdateCounts(num_valid_tokens=6, num_hint_tokens=0)
    total, _ = micro_batch_loss(objective, batch, scores, None, weights, counts, 0)
    (gradient,) = torch.autograd.grad(total, scores)
    assert gradient.abs().max() == 0


def test_unknown_options_are_refused_with_a_suggestion() -> None:
    with pytest.raises(RecipeError, match="did you mean 'clip_high'"):
        build_objective(LearnerConfig(loss=ComponentSpec(kind="ppo_clip", options={"clip_hi": 0.3})))
