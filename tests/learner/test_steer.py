"""steer on fixture F; the laws that all token plans share are in tests/contracts."""

import math

import pytest
import torch
from method_fixture import fixture_loss, fixture_signals, make_signals

from learner.token_plans.steer import Config, build, entropy_changes
from shaping.components import ComponentSpec

# Token 5: pi = e^-2 = 0.135335, pi_old = e^-2.1 = 0.122456, H = 1.6, A = -1:
# -1 / 0.122456 x 0.135335 x 0.864665 x (-2 + 1.6) = 0.38224
CHANGES = [0.01000, -0.17070, 0, 0.00244, 0.04859, 0.38224, -0.02592, -0.01906]
WIDE = ComponentSpec(kind="ppo_clip", options={"clip_low": 0.2, "clip_high": 0.28})


def weights_of(signals: object = None, **options: object) -> list[float]:
    return build(Config(**options)).plan(signals or fixture_signals()).weights.tolist()


def test_changes_of_entropy_of_the_fixture() -> None:
    assert entropy_changes(fixture_signals(), 1.0).tolist() == pytest.approx(CHANGES, abs=1e-5)


def test_the_exponential_map_on_the_fixture() -> None:
    # -ln(0.8) / 0.38224 = 0.583777; weight exp(-0.583777 |Omega|), 0.8 for the largest
    assert -math.log(0.8) / 0.38224 == pytest.approx(0.583777, abs=1e-5)
    expected = [0.99418, 0.90515, 1, 0.99858, 0.97204, 0.8, 0.98498, 0.98894]
    assert weights_of() == pytest.approx(expected, abs=1e-5)


def test_the_linear_map_on_the_fixture() -> None:
    # from 1.2 at |Omega| = 0 to 0.8 at the largest: 1.2 - 0.4 |Omega| / 0.38224
    expected = [1.18953, 1.02136, 1.2, 1.19745, 1.14916, 0.8, 1.17288, 1.18006]
    assert weights_of(map="linear") == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("kind", "loss"), [("exponential", -0.0555856), ("linear", -0.0821299)])
def test_losses_of_the_fixture(kind: str, loss: float) -> None:
    # sum of -A rho lambda over 8 tokens / 8, with the PPO losses of the fixture
    found, _, _ = fixture_loss(ComponentSpec(kind="steer", options={"map": kind}), loss=WIDE)
    assert found == pytest.approx(loss, abs=1e-6)


def test_the_exponent_is_that_of_the_probability_of_other_tokens() -> None:
    # token 5: 0.864665 once more
    squared = entropy_changes(fixture_signals(), 2.0).tolist()
    assert squared[5] == pytest.approx(0.38224 * 0.864665, abs=1e-5)
    assert weights_of(exponent=2.0) != weights_of()


def test_small_changes_are_left_alone_by_the_floor() -> None:
    # the largest |Omega| of 0.001 x the fixture is 0.000382: exp(ln(0.8) 0.000382 / 0.02) = 0.99574; without floor 0.8
    small = fixture_signals(advantages=0.001 * fixture_signals().advantages)
    assert min(weights_of(small)) == pytest.approx(math.exp(math.log(0.8) * 0.00038224 / 0.02), abs=1e-6)
    assert min(weights_of(small, floor=0.0)) == pytest.approx(0.8)
    assert weights_of(small, floor=0.0) == pytest.approx(weights_of(), abs=1e-6)


def test_tokens_that_change_entropy_alike_weigh_alike() -> None:
    even = make_signals([-0.5] * 4, entropies=[0.5] * 4, advantages=[1.0] * 4)
    assert weights_of(even) == [1.0] * 4
    assert weights_of(even, floor=0.0) == [1.0] * 4
    assert weights_of(even, map="linear") == [1.0] * 4
    assert weights_of(even, map="linear", lambda_max=1.4) == pytest.approx([1.1] * 4)
    assert weights_of(make_signals([])) == []


def test_certain_and_impossible_tokens_have_a_finite_change() -> None:
    # pi is held in [1e-8, 1 - 1e-8]: 1e-8 x (0 + 0.1); pi_old is at least 1e-8: 1e-8 / 1e-8 x (-40 + 3)
    signals = make_signals([0.0, -40.0], entropies=[0.1, 3.0], behavior=[0.0, -50.0], advantages=[1.0, 1.0])
    assert entropy_changes(signals, 1.0).tolist() == pytest.approx([1e-9, -37.0], rel=1e-6)


def test_lambda_min_of_one_changes_nothing() -> None:
    assert weights_of(lambda_min=1.0) == [1.0] * 8
    off = ComponentSpec(kind="steer", options={"lambda_min": 1.0})
    assert fixture_loss(off)[:2] == fixture_loss(None)[:2]
    assert weights_of(map="linear", lambda_min=1.0, lambda_max=1.0) == [1.0] * 8


def test_the_ratio_is_taken_against_the_old_policy() -> None:
    doubled = fixture_signals(old_logprobs=fixture_signals().old_logprobs - math.log(2))
    found = entropy_changes(doubled, 1.0)
    torch.testing.assert_close(found, 2 * entropy_changes(fixture_signals(), 1.0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lambda_min": 0.0}, "lambda_min must be in"),
        ({"lambda_min": 1.1}, "lambda_min must be in"),
        ({"lambda_max": 0.5}, "lambda_max must be >= lambda_min, got 0.5 and 0.8"),
        ({"exponent": -1.0}, "exponent must be >= 0"),
        ({"floor": -0.1}, "floor must be >= 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Config(**options)
