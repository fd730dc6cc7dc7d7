"""hint_nll: a hint counts once, however many samples of its group share it and wherever they are trained."""

from pathlib import Path

import pytest
import torch
from learner_builders import make_batch, make_sample, train_once

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig
from learner.objective import UpdateCounts, build_objective, combine_weights, micro_batch_loss
from learner.regularisers import hint_nll
from shaping.components import ComponentSpec
from shaping.training import TrainingSample

PLAIN = LearnerConfig()


def with_hints(**options: object) -> LearnerConfig:
    return LearnerConfig(regularisers=(ComponentSpec(kind="hint_nll", options=options),))


def make_samples() -> list[TrainingSample]:
    """Two samples that share a hint of 3 tokens, and one with a hint of 2 tokens; 6 trained tokens each."""
    shared = [make_sample(num_hint=3, seed=4, hint_copies=2, rollout_index=index) for index in range(2)]
    return [*shared, make_sample(num_hint=2, seed=5, rollout_index=2)]


def scores_of(batch: Microbatch) -> torch.Tensor:
    """Log-probs -1 - 0.1 x the token's id modulo 7, so that equal tokens have equal ones."""
    return torch.stack((-1 - 0.1 * (batch.targets % 7), torch.ones(batch.num_scored))).requires_grad_()


def term_of(
    config: LearnerConfig, samples: list[TrainingSample], update: list[TrainingSample] | None = None
) -> tuple[float, torch.Tensor, Microbatch, dict]:
    """Value, gradient of log-probs and metrics of the hint's term on these samples as a part of an update."""
    batch, whole = collate(samples, "packed"), collate(update or samples, "packed")
    counts = UpdateCounts(
        num_valid_tokens=int(whole.loss_mask.sum()),
        num_sequences=len(update or samples),
        num_hint_tokens=float(whole.hint_weights.double().sum()),
    )
    weights = combine_weights((), int(batch.loss_mask.sum()), torch.device("cpu"))
    scores = scores_of(batch)
    total, metrics = micro_batch_loss(build_objective(config), batch, scores, None, weights, counts, 0)
    plain, _ = micro_batch_loss(build_objective(PLAIN), batch, scores, None, weights, counts, 0)
    term = total - plain
    (gradient,) = torch.autograd.grad(term, scores)
    return float(term.detach()), gradient[0], batch, metrics


def test_the_mean_is_over_the_tokens_of_distinct_hints() -> None:
    # 3 + 2 distinct tokens, gamma 0.5: -0.1 on each, of which the two samples with a shared hint have half
    value, gradient, batch, metrics = term_of(with_hints(gamma=0.5), make_samples())
    shared = batch.hint_mask & (batch.sequence_ids < 2)
    torch.testing.assert_close(gradient[shared], torch.full((6,), -0.05))
    torch.testing.assert_close(gradient[batch.hint_mask & ~shared], torch.full((2,), -0.1))
    assert gradient[~batch.hint_mask].abs().max() == 0
    once = collate([make_samples()[0], make_samples()[2]], "packed")
    mean = float(-scores_of(once)[0].detach()[once.hint_mask].mean())
    assert value == pytest.approx(0.5 * mean, rel=1e-5)
    assert metrics["learner_hint_nll_nats"].value == pytest.approx(mean, rel=1e-6)
    assert metrics["learner_hint_nll_nats"].count == 5


def test_the_sum_is_divided_as_the_policy_loss_is() -> None:
    # 18 trained tokens: gamma / 18 per distinct hint token
    value, gradient, batch, _ = term_of(with_hints(gamma=0.9, reduction="sum"), make_samples())
    torch.testing.assert_close(gradient[batch.hint_mask & (batch.sequence_ids == 2)], torch.full((2,), -0.05))
    mean, _, _, _ = term_of(with_hints(gamma=0.9), make_samples())
    assert value == pytest.approx(mean * 5 / 18, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_samples_of_one_hint_may_lie_in_different_micro_batches(reduction: str) -> None:
    config, samples = with_hints(gamma=0.5, reduction=reduction), make_samples()
    whole, _, _, _ = term_of(config, samples)
    parts = [term_of(config, part, samples)[0] for part in (samples[:1], samples[1:2], samples[2:])]
    assert sum(parts) == pytest.approx(whole, rel=1e-4)
    assert parts[0] == pytest.approx(parts[1], rel=1e-4) and parts[0] > 0


def test_a_part_of_the_samples_of_a_hint_has_the_mean_of_its_tokens() -> None:
    # one of four samples that share a hint of one token: a quarter of a token, over a quarter of a token
    sample = make_sample(num_hint=1, hint_copies=4)
    value, _, batch, _ = term_of(with_hints(gamma=1.0), [sample])
    assert value == pytest.approx(float(-scores_of(batch)[0].detach()[batch.hint_mask][0]), rel=1e-5)


def test_an_update_without_hints_adds_nothing() -> None:
    value, gradient, _, metrics = term_of(with_hints(), [make_sample()])
    assert value == 0.0 and gradient.abs().max() == 0
    assert metrics["learner_hint_nll_nats"].value is None


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_any_division_of_an_update_trains_the_same(reduction: str, tied_policy_path: str, tmp_path: Path) -> None:
    samples = make_batch(12, num_hint=3, hint_copies=4)
    term = ComponentSpec(kind="hint_nll", options={"gamma": 2.0, "reduction": reduction})
    found = []
    for tokens in (40, 10_000):
        result, weights = train_once(
            tied_policy_path, tmp_path / str(tokens), samples, micro_batch_tokens=tokens, regularisers=(term,)
        )
        found.append((result.metrics["learner_hint_nll_loss"], result.metrics["learner_hint_nll_nats"], weights))
    (small_loss, small_nll, small), (loss, nll, whole) = found
    assert (small_loss, small_nll) == pytest.approx((loss, nll), rel=1e-4)
    if reduction == "mean":
        assert loss == pytest.approx(2.0 * nll, rel=1e-4)
    for name, weight in whole.items():
        torch.testing.assert_close(small[name], weight, atol=2e-5, rtol=0)


def test_gamma_is_the_papers_unless_said_otherwise() -> None:
    assert hint_nll.Config().gamma == 0.001


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="gamma must be >= 0, got -1"):
        hint_nll.Config(gamma=-1.0)
