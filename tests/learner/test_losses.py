"""Numbers of fixture F: one group, two responses of four tokens, advantages +1 and -1."""

import dataclasses
import math

import pytest
import torch
from method_fixture import ADVANTAGES as ADVANTAGE_LIST
from method_fixture import BEHAVIOR as BEHAVIOR_LIST
from method_fixture import POLICY as POLICY_LIST
from method_fixture import fixture_inputs, one_token

from learner.kl import kl_estimate
from learner.losses.base import mean_metrics, token_mean
from learner.losses.ppo_clip import Config, build
from shaping.metrics import Max, Mean, merge_metrics

ADVANTAGES, POLICY, BEHAVIOR = (torch.tensor(each) for each in (ADVANTAGE_LIST, POLICY_LIST, BEHAVIOR_LIST))


def test_fixture_loss_with_clip_higher() -> None:
    # ratios [[1.05127, 1.22140, 1, 1], [.81873, 1.10517, 1, 1.05127]], none outside [.8, 1.28]:
    # mean of [-1.05127, -1.22140, -1, -1, .81873, 1.10517, 1, 1.05127] = -0.0371876
    output = build(Config(clip_low=0.2, clip_high=0.28)).loss(fixture_inputs())
    assert float(output.loss.detach()) == pytest.approx(-0.0371876, abs=1e-6)
    assert output.metrics["learner_clip_high_share"] == Mean(0.0, 8.0)


def test_fixture_loss_with_symmetric_clip() -> None:
    # token 1 has ratio 1.22140 > 1.2 and A = +1: its loss is -1.2 and its gradient 0
    inputs = fixture_inputs()
    output = build(Config(clip_low=0.2, clip_high=0.2)).loss(inputs)
    assert float(output.loss.detach()) == pytest.approx(-0.0345123, abs=1e-6)
    assert output.metrics["learner_clip_high_share"] == Mean(1.0, 8.0)
    (gradient,) = torch.autograd.grad(output.loss, inputs.policy_logprobs)
    expected = -ADVANTAGES * (POLICY - BEHAVIOR).exp() / 8
    expected[1] = 0
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


def test_clip_low_stops_a_falling_token_of_negative_advantage() -> None:
    # ratio 0.5 < 0.8, A = -2: max(1, 1.6) = 1.6; with A = +2 it is -1 and not clipped
    low = build(Config()).loss(one_token(log_ratio=math.log(0.5), advantage=-2.0))
    assert float(low.loss.detach()) == pytest.approx(1.6)
    assert low.metrics["learner_clip_low_share"] == Mean(1.0, 1.0)
    free = build(Config()).loss(one_token(log_ratio=math.log(0.5), advantage=2.0))
    assert float(free.loss.detach()) == pytest.approx(-1.0)
    assert free.metrics["learner_clip_low_share"] == Mean(0.0, 1.0)


def test_dual_clip_bounds_a_rising_token_of_negative_advantage() -> None:
    # ratio 50, A = -1: 50 without, 10 with the dual clip at 10, and then no gradient
    inputs = one_token(log_ratio=math.log(50.0), advantage=-1.0)
    bounded = build(Config(dual_clip=10.0)).loss(inputs)
    assert float(bounded.loss.detach()) == pytest.approx(10.0)
    assert bounded.metrics["learner_clip_dual_share"] == Mean(1.0, 1.0)
    assert float(torch.autograd.grad(bounded.loss, inputs.policy_logprobs)[0]) == 0.0
    assert bounded.metrics["learner_importance_ratio_max"].value == pytest.approx(50.0, rel=1e-5)
    open_ended = build(Config(dual_clip=0.0)).loss(inputs)
    assert float(open_ended.loss.detach()) == pytest.approx(50.0, rel=1e-5)


def test_per_token_clip_ranges_replace_the_losss_own() -> None:
    # a range of 0.05 clips tokens 0 (1.05127 > 1.05) and 1 (1.2214) of positive advantage, and 4 (0.81873 < 0.95)
    inputs = fixture_inputs(clip_low=torch.full((8,), 0.05), clip_high=torch.full((8,), 0.05))
    output = build(Config()).loss(inputs)
    assert output.metrics["learner_clip_high_share"] == Mean(2.0, 8.0)
    assert output.metrics["learner_clip_low_share"] == Mean(1.0, 8.0)


def test_unclipped_tokens_have_the_plain_loss_whatever_the_ranges_are() -> None:
    # tokens 1 (A = 1, ratio 1.2214) and 4 (A = -1, ratio 0.81873) leave a range of 0.05, and so does token 0 (1.05127)
    narrow = Config(clip_low=0.05, clip_high=0.05)
    inputs = fixture_inputs(unclipped=torch.arange(8) != 0)
    output = build(narrow).loss(inputs)
    assert output.metrics["learner_clip_high_share"] == Mean(1.0, 8.0)
    assert output.metrics["learner_clip_low_share"] == Mean(0.0, 8.0)
    # -1.05 instead of -1.05127 for token 0
    assert float(output.loss.detach()) == pytest.approx(-0.0371876 + 0.00127 / 8, abs=1e-6)
    (gradient,) = torch.autograd.grad(output.loss, inputs.policy_logprobs)
    expected = -ADVANTAGES * (POLICY - BEHAVIOR).exp() / 8
    expected[0] = 0
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


def test_an_unclipped_token_escapes_the_dual_clip_too() -> None:
    inputs = dataclasses.replace(one_token(log_ratio=math.log(50.0), advantage=-1.0), unclipped=torch.ones(1).bool())
    output = build(Config(dual_clip=10.0)).loss(inputs)
    assert float(output.loss.detach()) == pytest.approx(50.0, rel=1e-5)
    assert output.metrics["learner_clip_dual_share"] == Mean(0.0, 1.0)
    assert float(torch.autograd.grad(output.loss, inputs.policy_logprobs)[0]) == pytest.approx(50.0, rel=1e-5)


def test_the_loss_says_what_it_clips() -> None:
    assert build(Config(clip_low=0.1, clip_high=0.3)).clip_range == (0.1, 0.3)


def test_weights_scale_token_losses() -> None:
    weights = torch.tensor([0.0, 4, 0, 0, 0, 4, 0, 0])
    # the two forking tokens of the fixture: 4 (-1.22140 + 1.10517) / 8 = -0.0581159
    output = build(Config()).loss(fixture_inputs(weights=weights))
    assert float(output.loss.detach()) == pytest.approx(-0.0581159, abs=1e-6)


def test_tokens_outside_the_mask_are_never_read() -> None:
    mask = torch.tensor([True] * 4 + [False] * 4)
    inputs = fixture_inputs(loss_mask=mask, num_valid_tokens=4)
    poisoned = dataclasses.replace(
        inputs, old_logprobs=torch.where(mask, BEHAVIOR, torch.nan), advantages=torch.where(mask, ADVANTAGES, 1e30)
    )
    clean, found = (build(Config()).loss(each) for each in (inputs, poisoned))
    assert torch.equal(clean.loss, found.loss)
    (gradient,) = torch.autograd.grad(found.loss, inputs.policy_logprobs)
    assert gradient[4:].tolist() == [0.0] * 4


def test_an_enormous_ratio_keeps_loss_and_gradient_finite() -> None:
    # exp(200) overflows float32; the clipped side wins and its gradient is 0, not 0 x infinity
    for advantage in (1.0, -1.0):
        inputs = one_token(log_ratio=200.0, advantage=advantage)
        output = build(Config()).loss(inputs)
        (gradient,) = torch.autograd.grad(output.loss, inputs.policy_logprobs)
        assert bool(output.loss.isfinite()) and float(gradient) == 0.0


def test_no_tokens_have_no_ratio_rather_than_zero() -> None:
    output = build(Config()).loss(fixture_inputs(loss_mask=torch.zeros(8, dtype=torch.bool), num_valid_tokens=0))
    assert float(output.loss.detach()) == 0.0
    assert "learner_importance_ratio_max" not in output.metrics
    assert output.metrics["learner_importance_ratio_mean"].value is None


@pytest.mark.parametrize("wrong", [{"clip_low": 1.5}, {"clip_high": -0.1}, {"dual_clip": 0.5}])
def test_impossible_clip_ranges_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Config(**wrong)


def test_kl_estimators() -> None:
    # d = log pi - log ref = 0.5 and -0.5: k1 = d; k2 = 0.125; k3 = exp(-d) - 1 + d = 0.106531 and 0.148721
    policy, reference = torch.tensor([-1.0, -1.5]), torch.tensor([-1.5, -1.0])
    assert kl_estimate(policy, reference, "k1").tolist() == [0.5, -0.5]
    assert kl_estimate(policy, reference, "k2").tolist() == [0.125, 0.125]
    torch.testing.assert_close(kl_estimate(policy, reference, "k3"), torch.tensor([0.106531, 0.148721]))


def test_kl_gradients() -> None:
    # d/d log pi at d = 0.5: k1 1, k2 d = 0.5, k3 1 - exp(-d) = 0.393469
    expected = {"k1": 1.0, "k2": 0.5, "k3": 1 - math.exp(-0.5)}
    for estimator, wanted in expected.items():
        policy = torch.tensor(-1.0, requires_grad=True)
        (gradient,) = torch.autograd.grad(kl_estimate(policy, torch.tensor(-1.5), estimator), policy)
        assert float(gradient) == pytest.approx(wanted, rel=1e-5)


def test_shares_of_micro_batches_add_up_to_the_mean_over_the_update() -> None:
    values, mask = torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([True, False, True, True, True])
    whole = token_mean(values, mask, 4)
    assert float(whole) == pytest.approx(13 / 4)
    parts = token_mean(values[:1], mask[:1], 4) + token_mean(values[1:], mask[1:], 4)
    assert float(parts) == pytest.approx(13 / 4)


def test_metric_means_merge_by_tokens() -> None:
    first = mean_metrics({"x": torch.tensor([1.0, 9.0])}, torch.tensor([True, False]))
    second = mean_metrics({"x": torch.tensor([2.0, 3.0])}, torch.tensor([True, True]))
    assert merge_metrics([first, second])["x"] == Mean(6.0, 3.0)
    assert merge_metrics([{"m": Max(1.0)}, {"m": Max(3.0)}])["m"].value == 3.0
