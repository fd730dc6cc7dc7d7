"""cispo on fixture F; the laws that all losses share are in tests/contracts."""

import math

import pytest
import torch
from method_fixture import ADVANTAGES, POLICY, fixture_inputs, one_token, ratios

from learner.losses import ppo_clip
from learner.losses.base import LossInputs
from learner.losses.cispo import Config, build
from shaping.metrics import Mean


def gradient_of(inputs: LossInputs, **options: object) -> tuple[float, list[float]]:
    loss = build(Config(**options)).loss(inputs).loss
    (gradient,) = torch.autograd.grad(loss, inputs.policy_logprobs)
    return float(loss.detach()), gradient.tolist()


def test_fixture_loss_without_a_bounded_weight() -> None:
    # -rho A log pi: [.1051271, 1.4656833, .5, .05, -.7368577, -2.2103418, -.3, -.2102542], sum -1.3366433
    loss, gradient = gradient_of(fixture_inputs())
    assert loss == pytest.approx(-1.3366433 / 8, abs=1e-6)
    assert gradient == pytest.approx([-a * rho / 8 for a, rho in zip(ADVANTAGES, ratios(), strict=True)], abs=1e-7)


def test_a_bounded_weight_keeps_its_gradient() -> None:
    # rho = 1.2214 of token 1 is held at 1.2: 1.44 instead of 1.4656833. PPO would give it no gradient
    output = build(Config(clip_high=0.2)).loss(fixture_inputs())
    loss, gradient = gradient_of(fixture_inputs(), clip_high=0.2)
    assert loss == pytest.approx((-1.3366433 - 0.0256833) / 8, abs=1e-6)
    assert gradient[1] == pytest.approx(-1.2 / 8)
    assert output.metrics["learner_clip_high_share"] == Mean(1.0, 8.0)
    assert output.metrics["learner_clip_low_share"] == Mean(0.0, 8.0)


def test_the_lower_bound_is_off_unless_it_is_set() -> None:
    # rho = e^-5 = 0.0067 stays; with clip_low 0.1 it is held at 0.9, whatever the sign of the advantage
    for advantage in (1.0, -1.0):
        inputs = one_token(log_ratio=-5.0, advantage=advantage)
        assert gradient_of(inputs)[1] == pytest.approx([-advantage * math.exp(-5)])
        assert gradient_of(inputs, clip_low=0.1)[1] == pytest.approx([-advantage * 0.9])
    assert build(Config()).clip_range == (1.0, 4.0)


def test_weights_are_bounded_on_both_sides_of_the_advantage() -> None:
    # e^3 = 20.1 is held at 1 + 4
    for advantage in (1.0, -1.0):
        assert gradient_of(one_token(log_ratio=3.0, advantage=advantage))[1] == pytest.approx([-advantage * 5.0])


def test_an_unclipped_token_and_a_plans_range_have_their_way() -> None:
    free = fixture_inputs(unclipped=torch.arange(8) == 1, clip_high=torch.full((8,), 0.01))
    _, gradient = gradient_of(free)
    expected = [min(rho, 1.01) for rho in ratios()]
    expected[1] = ratios()[1]
    assert gradient == pytest.approx([-a * rho / 8 for a, rho in zip(ADVANTAGES, expected, strict=True)], abs=1e-7)


def test_on_policy_the_gradient_is_that_of_ppo() -> None:
    inputs = fixture_inputs(old_logprobs=torch.tensor(POLICY), weights=torch.linspace(0, 2, 8))
    ppo = ppo_clip.build(ppo_clip.Config()).loss(inputs).loss
    assert gradient_of(inputs)[1] == torch.autograd.grad(ppo, inputs.policy_logprobs)[0].tolist()


def test_tokens_outside_the_mask_are_never_read() -> None:
    mask = torch.tensor([True] * 4 + [False] * 4)
    logprobs = torch.where(mask, torch.tensor(POLICY), torch.nan).requires_grad_()
    loss, gradient = gradient_of(fixture_inputs(policy_logprobs=logprobs, loss_mask=mask, num_valid_tokens=4))
    assert loss == pytest.approx((0.1051271 + 1.4656833 + 0.55) / 4, abs=1e-6)
    assert gradient[4:] == [0.0] * 4


@pytest.mark.parametrize("wrong", [{"clip_low": 1.5}, {"clip_high": -0.1}])
def test_impossible_bounds_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Config(**wrong)
