"""clip_cov; the laws that all token plans share are in tests/contracts."""

import pytest
import torch
from method_fixture import fixture_loss, fixture_signals, make_signals

from learner.token_plans import clip_cov
from learner.token_plans.base import Scope, TokenSignals
from shaping.components import ComponentSpec


def dropped_tokens(signals: TokenSignals, **options: object) -> list[int]:
    weights = clip_cov.build(clip_cov.Config(**options)).plan(signals).weights
    assert set(weights.tolist()) <= {0.0, 1.0}
    return torch.nonzero(weights == 0)[:, 0].tolist()


def test_clip_cov_loss_of_the_fixture() -> None:
    # covariances in (0.3, 0.7): tokens 0 and 3; k = 2, so both are dropped, and all 8 stay in the denominator:
    # (-1.2 - 1 + 0.81873 + 1.10517 + 1 + 1.05127) / 8
    options = {"lower": 0.3, "upper": 0.7, "share": 0.25}
    assert dropped_tokens(fixture_signals(), **options) == [0, 3]
    loss, gradient, metrics = fixture_loss(ComponentSpec(kind="clip_cov", options=options))
    assert loss == pytest.approx(0.2218966, abs=1e-6)
    assert metrics["learner_token_weight_mean"] == 6 / 8
    assert [index for index, value in enumerate(gradient[0]) if not value] == [0, 1, 3]


def test_clip_cov_draws_no_token_that_the_loss_has_clipped() -> None:
    everything = {"lower": -10.0, "upper": 10.0, "share": 1.0}
    # token 1 has ratio 1.2214 and A = 1, clipped above; token 4 has ratio 0.81873 and A = -1, clipped below; token 5
    # has ratio 1.10517, but A = -1: never clipped
    clipped = {(0.2, 0.2): {1}, (0.2, 0.28): set(), (0.2, 0.1): {1}, (0.15, 0.28): {4}, (0.15, 0.1): {1, 4}}
    for (low, high), wanted in clipped.items():
        signals = fixture_signals(clip_low=low, clip_high=high)
        assert set(range(8)) - set(dropped_tokens(signals, **everything)) == wanted


def test_clip_cov_draws_its_share_of_all_tokens_out_of_few_candidates() -> None:
    # candidates are tokens 0 and 3; max(1, floor(0.2 x 8)) = 1 of them is dropped, in some updates the one
    window = {"lower": 0.3, "upper": 0.7, "share": 0.2}
    found = {
        tuple(dropped_tokens(fixture_signals(keys=make_signals([0.0] * 8, step=step).keys), **window))
        for step in range(20)
    }
    assert found == {(0,), (3,)}


def test_clip_cov_draws_others_for_another_seed() -> None:
    options = {"lower": -10.0, "upper": 10.0, "share": 0.25}
    drawn = {tuple(dropped_tokens(fixture_signals(clip_high=0.28), seed=seed, **options)) for seed in range(10)}
    assert len(drawn) > 3
    assert all(len(each) == 2 for each in drawn)


def test_clip_cov_without_candidates_drops_nothing() -> None:
    assert dropped_tokens(fixture_signals(), lower=2.0, upper=3.0, share=1.0) == []
    # bounds are excluded: an empty window is the loss itself
    off = ComponentSpec(kind="clip_cov", options={"lower": 0.0, "upper": 0.0, "share": 1.0})
    assert fixture_loss(off)[:2] == fixture_loss(None)[:2]
    assert dropped_tokens(make_signals([])) == []


def test_parity_takes_each_micro_batch_and_cuts_the_share_of_tokens_off() -> None:
    # 0.29 x 100 is 28.999999999999996 in floating point
    everything = {"lower": -10.0, "upper": 10.0, "share": 0.29}
    signals = make_signals([-index / 100 for index in range(100)], advantages=[1.0] * 50 + [-1.0] * 50, clip=1e9)
    assert len(dropped_tokens(signals, variant="parity", **everything)) == 28
    assert len(dropped_tokens(signals, **everything)) == 29
    assert clip_cov.build(clip_cov.Config(variant="parity")).scope is Scope.MICRO_BATCH
    window = {"lower": 0.3, "upper": 0.7, "share": 0.25}
    assert dropped_tokens(fixture_signals(), variant="parity", **window) == [0, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 0.0}, "share must be in"),
        ({"lower": 2.0, "upper": 1.0}, "lower must be <= upper, got 2.0 and 1.0"),
        ({"seed": -1}, "seed must be >= 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clip_cov.Config(**options)
