"""gspo on fixture F and on responses of unequal length; the laws that all losses share are in tests/contracts."""

import math
from pathlib import Path

import pytest
import torch
from learner_builders import make_batch, make_sample, train_once
from method_fixture import ADVANTAGES, BEHAVIOR, POLICY, fixture_inputs, fixture_loss, one_token

from learner.losses import ppo_clip
from learner.losses.base import LossInputs
from learner.losses.gspo import Config, build
from shaping.components import ComponentSpec
from shaping.metrics import Mean

# d_0 = (0.05 + 0.2 + 0 + 0) / 4 = 0.0625, d_1 = (-0.2 + 0.1 + 0 + 0.05) / 4 = -0.0125
RATIOS = [math.exp(0.0625), math.exp(-0.0125)]
WIDE = {"clip_low": 0.5, "clip_high": 0.5}


def gradient_of(inputs: LossInputs, **options: object) -> tuple[float, torch.Tensor]:
    loss = build(Config(**options)).loss(inputs).loss
    (gradient,) = torch.autograd.grad(loss, inputs.policy_logprobs)
    return float(loss.detach()), gradient


def unequal_inputs(**changes: object) -> LossInputs:
    """Fixture F as a response of one token and one of seven."""
    return fixture_inputs(sequence_ids=torch.tensor([0] + [1] * 7), **changes)


def test_fixture_loss_without_a_clipped_response() -> None:
    # (-1.0644945 + 0.9875778) / 2 = -0.0384583
    loss, gradient = gradient_of(fixture_inputs(), **WIDE)
    assert pytest.approx([1.0644945, 0.9875778], abs=1e-7) == RATIOS
    assert loss == pytest.approx(-0.0384583, abs=1e-6)
    # -A s_i / (4 tokens x 2 responses) on every token of response i
    expected = [-RATIOS[0] / 8] * 4 + [RATIOS[1] / 8] * 4
    assert gradient.tolist() == pytest.approx(expected, abs=1e-7)


def test_the_default_range_clips_both_responses_of_the_fixture() -> None:
    # s_0 = 1.06449 > 1.0004 with A = 1, s_1 = 0.98758 < 0.9997 with A = -1: (-1.0004 + 0.9997) / 2
    inputs = fixture_inputs()
    output = build(Config()).loss(inputs)
    assert float(output.loss.detach()) == pytest.approx(-0.00035, abs=1e-7)
    assert output.metrics["learner_clip_high_share"] == Mean(4.0, 8.0)
    assert output.metrics["learner_clip_low_share"] == Mean(4.0, 8.0)
    assert torch.autograd.grad(output.loss, inputs.policy_logprobs)[0].abs().max() == 0


@pytest.mark.parametrize("clip", [(3e-4, 4e-4), (0.01, 0.07), (0.5, 0.5)])
@pytest.mark.parametrize("inputs", [fixture_inputs, unequal_inputs])
def test_equal_advantages_of_a_response_give_the_loss_on_its_ratio_itself(inputs: object, clip: tuple) -> None:
    """The token form against the sequence form, value and gradient."""
    for advantages in ((1.0, -1.0), (-0.5, 2.0)):
        token_form = inputs()
        ids = token_form.sequence_ids
        token_form = inputs(advantages=torch.tensor(advantages)[ids])
        value, gradient = gradient_of(token_form, clip_low=clip[0], clip_high=clip[1])
        logprobs = torch.tensor(POLICY, requires_grad=True)
        total = torch.zeros(())
        for index, advantage in enumerate(advantages):
            ratio = (logprobs - torch.tensor(BEHAVIOR))[ids == index].mean().exp()
            total = total - torch.minimum(advantage * ratio, advantage * ratio.clamp(1 - clip[0], 1 + clip[1])) / 2
        (expected,) = torch.autograd.grad(total, logprobs)
        assert value == pytest.approx(float(total.detach()), abs=1e-6)
        torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-5)


def test_each_token_is_trained_by_its_own_advantage() -> None:
    # as LESS leaves them: -A_t s_i / 8
    advantages = torch.tensor([1.0, 0, 2, 1, -1, 0, -1, -3])
    _, gradient = gradient_of(fixture_inputs(advantages=advantages), **WIDE)
    ratios = torch.tensor(RATIOS).repeat_interleave(4)
    torch.testing.assert_close(gradient, -advantages * ratios / 8, atol=1e-7, rtol=1e-5)


def test_responses_count_alike_or_by_their_tokens() -> None:
    # at ratio 1 with A = 1 for the response of one token and 2 for that of seven: -(1 + 2) / 2, or -(1 + 7 x 2) / 8
    advantages = torch.tensor([1.0] + [2.0] * 7)
    inputs = unequal_inputs(old_logprobs=torch.tensor(POLICY), advantages=advantages)
    assert gradient_of(inputs)[0] == pytest.approx(-1.5)
    assert gradient_of(inputs, mean="token")[0] == pytest.approx(-15 / 8)
    assert gradient_of(inputs)[1].tolist() == pytest.approx([-1 / 2] + [-2 / 14] * 7)


def test_on_policy_the_gradient_of_the_token_mean_is_that_of_ppo() -> None:
    inputs = unequal_inputs(old_logprobs=torch.tensor(POLICY))
    expected = torch.autograd.grad(ppo_clip.build(ppo_clip.Config()).loss(inputs).loss, inputs.policy_logprobs)[0]
    assert torch.equal(gradient_of(inputs, mean="token")[1], expected)


def test_a_response_of_one_token_is_clipped_as_ppo_clips() -> None:
    for log_ratio in (-0.3, -0.1, 0.1, 0.3):
        for advantage in (1.0, -1.0):
            inputs = one_token(log_ratio=log_ratio, advantage=advantage)
            ppo = ppo_clip.build(ppo_clip.Config(clip_low=0.2, clip_high=0.2, dual_clip=0.0)).loss(inputs).loss
            found = build(Config(clip_low=0.2, clip_high=0.2)).loss(inputs).loss
            assert float(found.detach()) == pytest.approx(float(ppo.detach()), rel=1e-6)


def test_weights_ranges_and_unclipped_tokens_of_a_plan_are_the_tokens_own() -> None:
    # token 0 has weight 3, token 1 is unclipped, token 2 has a wide range, the others of response 0 are clipped
    high = torch.tensor([4e-4, 4e-4, 0.5] + [4e-4] * 5)
    inputs = fixture_inputs(
        weights=torch.tensor([3.0, 1, 1, 1, 1, 1, 1, 1]), unclipped=torch.arange(8) == 1, clip_high=high
    )
    loss, gradient = gradient_of(inputs)
    expected = (-3 * 1.0004 - RATIOS[0] - RATIOS[0] - 1.0004 + 4 * 0.9997) / 8
    assert loss == pytest.approx(expected, abs=1e-6)
    assert torch.nonzero(gradient)[:, 0].tolist() == [1, 2]


def test_tokens_outside_the_mask_are_no_part_of_a_response() -> None:
    mask = torch.tensor([True, True, False, True] + [True] * 4)
    old = torch.where(mask, torch.tensor(BEHAVIOR), torch.nan)
    inputs = fixture_inputs(loss_mask=mask, old_logprobs=old, num_valid_tokens=7)
    loss, gradient = gradient_of(inputs, **WIDE)
    # d_0 = 0.25 / 3
    assert loss == pytest.approx((-math.exp(0.25 / 3) + RATIOS[1]) / 2, abs=1e-6)
    assert gradient[2] == 0 and bool(gradient.isfinite().all())


def test_the_range_is_a_hundred_times_narrower_than_ppos_and_reaches_the_plans() -> None:
    assert build(Config()).clip_range == (3e-4, 4e-4)
    loss, _, metrics = fixture_loss(None, loss=ComponentSpec(kind="gspo", options=WIDE))
    assert loss == metrics["learner_policy_loss"] == pytest.approx(-0.0384583, abs=1e-6)


@pytest.mark.parametrize("wrong", [{"clip_low": 1.5}, {"clip_high": -0.1}])
def test_impossible_clip_ranges_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Config(**wrong)


@pytest.mark.parametrize("mean", ["sequence", "token"])
def test_responses_of_an_update_may_lie_in_different_micro_batches(mean: str) -> None:
    whole, gradient = gradient_of(unequal_inputs(), mean=mean, **WIDE)
    found = []
    for rows in (slice(0, 1), slice(1, 8)):
        part = fixture_inputs(
            policy_logprobs=torch.tensor(POLICY[rows], requires_grad=True),
            old_logprobs=torch.tensor(BEHAVIOR[rows]),
            advantages=torch.tensor(ADVANTAGES[rows]),
            loss_mask=torch.ones(len(POLICY[rows]), dtype=torch.bool),
            weights=torch.ones(len(POLICY[rows])),
            unclipped=torch.zeros(len(POLICY[rows]), dtype=torch.bool),
            sequence_ids=torch.zeros(len(POLICY[rows]), dtype=torch.int64),
        )
        found.append(gradient_of(part, mean=mean, **WIDE))
    assert sum(value for value, _ in found) == pytest.approx(whole, abs=1e-6)
    torch.testing.assert_close(torch.cat([each for _, each in found]), gradient, atol=1e-7, rtol=1e-5)


def test_any_division_of_an_update_trains_the_same(tied_policy_path: str, tmp_path: Path) -> None:
    loss = ComponentSpec(kind="gspo", options={"clip_low": 1.0, "clip_high": 9.0})
    trained = make_batch(11)
    # A response that is not trained is none of the responses that the mean is over.
    with_another = [make_sample(trained=False, num_hint=2, rollout_index=11), *trained]
    found = [
        train_once(tied_policy_path, tmp_path / str(index), samples, micro_batch_tokens=tokens, loss=loss)
        for index, (samples, tokens) in enumerate([(trained, 10_000), (trained, 40), (with_another, 40)])
    ]
    (whole, weights), *others = found
    for result, other_weights in others:
        assert result.metrics["learner_policy_loss"] == pytest.approx(whole.metrics["learner_policy_loss"], abs=1e-6)
        for name, weight in weights.items():
            torch.testing.assert_close(other_weights[name], weight, atol=2e-5, rtol=0)
