"""kl_cov; the laws that all token plans share are in tests/contracts."""

import pytest
import torch
from method_fixture import ADVANTAGES, fixture_loss, fixture_signals, make_signals, ratios

from learner.token_plans import kl_cov
from learner.token_plans.base import Scope, covariances
from shaping.components import ComponentSpec


def test_kl_cov_penalises_the_tokens_of_highest_covariance_and_clips_nothing() -> None:
    # 0.25 of 8 tokens: k = 2, covariances 1.34375 (token 5) and 0.60625 (token 3)
    decided = kl_cov.build(kl_cov.Config(top_share=0.25, beta=0.5)).plan(fixture_signals())
    assert decided.weights.tolist() == [1.0] * 8
    assert decided.penalties is not None and decided.penalties.tolist() == [0, 0, 0, 0.5, 0, 0.5, 0, 0]
    assert decided.unclipped is not None and bool(decided.unclipped.all())


def test_kl_cov_loss_of_the_fixture() -> None:
    # token 5: 1.10517 + |-2.0 + 2.1| = 1.20517; token 3 has not drifted; token 1 is not clipped to 1.2:
    # (-1.05127 - 1.22140 - 1 - 1 + 0.81873 + 1.20517 + 1 + 1.05127) / 8
    loss, gradient, metrics = fixture_loss(ComponentSpec(kind="kl_cov", options={"top_share": 0.25}))
    assert loss == pytest.approx(-0.0246876, abs=1e-6)
    assert metrics["learner_drift_loss"] == pytest.approx(0.1 / 8, abs=1e-7)
    assert metrics["learner_clip_high_share"] == 0.0
    # d/d log pi: -A rho, and beta sign(drift) for token 5; token 3 stands where it was, so nothing pulls it
    expected = [-advantage * ratio / 8 for advantage, ratio in zip(ADVANTAGES, ratios(), strict=True)]
    expected[5] += 1 / 8
    assert gradient[0] == pytest.approx(expected, abs=1e-6)


def test_kl_cov_without_beta_is_the_loss_without_clipping() -> None:
    off = ComponentSpec(kind="ppo_clip", options={"clip_low": 1.0, "clip_high": 1e9, "dual_clip": 0.0})
    plan = ComponentSpec(kind="kl_cov", options={"beta": 0.0})
    assert fixture_loss(plan)[:2] == fixture_loss(None, loss=off)[:2]
    # and the loss as it is where no ratio leaves its range
    wide = ComponentSpec(kind="ppo_clip", options={"clip_low": 0.2, "clip_high": 0.28})
    assert fixture_loss(plan, loss=wide)[:2] == fixture_loss(None, loss=wide)[:2]


def test_kl_cov_selects_exactly_its_share_of_tokens_that_tie() -> None:
    # all covariances are 0: k = 5 of 20, drawn by key, others in another update
    found = []
    for step in range(2):
        signals = make_signals([-0.5] * 20, advantages=[1.0] * 10 + [0.0] * 10, step=step)
        penalties = kl_cov.build(kl_cov.Config(top_share=0.25)).plan(signals).penalties
        assert penalties is not None and float(penalties.sum()) == 5
        found.append(penalties)
    assert not torch.equal(*found)


def test_kl_cov_draws_only_what_the_tokens_above_a_tie_leave_over() -> None:
    # mean A = 0.2, mean log pi = -1.7: covariances 0.8 x 1.2 = 0.96 for token 0, -1.2 x -0.3 = 0.36 for tokens 3 and 4,
    # 0.8 x -0.3 = -0.24 for tokens 1 and 2. k = floor(0.4 x 5) = 2: token 0 and one of 3 and 4
    advantages, policy = [1.0, 1.0, 1.0, -1.0, -1.0], [-0.5, -2.0, -2.0, -2.0, -2.0]
    found = set()
    for step in range(20):
        signals = make_signals(policy, advantages=advantages, step=step)
        penalties = kl_cov.build(kl_cov.Config(top_share=0.4)).plan(signals).penalties
        assert penalties is not None
        found.add(tuple(torch.nonzero(penalties)[:, 0].tolist()))
    assert found == {(0, 3), (0, 4)}


def test_kl_cov_selects_at_least_one_token_and_none_of_none() -> None:
    plan = kl_cov.build(kl_cov.Config())
    for policy, wanted in (([], []), ([-0.5], [1.0])):
        penalties = plan.plan(make_signals(policy)).penalties
        assert penalties is not None and penalties.tolist() == wanted


def penalised(signals: object, **options: object) -> list[int]:
    penalties = kl_cov.build(kl_cov.Config(**options)).plan(signals).penalties
    return torch.nonzero(penalties)[:, 0].tolist()


def test_parity_takes_the_first_of_tokens_that_tie_in_each_micro_batch() -> None:
    # all covariances are 0: k = int(0.25 x 20) = 5, the first five in whatever update
    for step in range(3):
        signals = make_signals([-0.5] * 20, advantages=[1.0] * 10 + [0.0] * 10, step=step)
        assert penalised(signals, top_share=0.25, variant="parity") == [0, 1, 2, 3, 4]
    assert kl_cov.build(kl_cov.Config(variant="parity")).scope is Scope.MICRO_BATCH
    assert kl_cov.build(kl_cov.Config(variant="parity", scope=Scope.UPDATE)).scope is Scope.UPDATE


def test_the_share_is_that_of_the_authors_for_7b_under_parity() -> None:
    # 1500 tokens: floor(2e-3 x 1500) = 3; 2e-4 x 1500 = 0.3, so one
    signals = make_signals([-index / 1000 for index in range(1500)], advantages=[1.0] * 700 + [-1.0] * 800)
    assert [len(penalised(signals, variant=each)) for each in ("parity", "recommended")] == [3, 1]
    assert len(penalised(signals, variant="parity", top_share=0.01)) == 15


def test_parity_cuts_the_share_of_tokens_off() -> None:
    # 0.29 x 100 is 28.999999999999996 in floating point
    signals = make_signals([-index / 100 for index in range(100)], advantages=[1.0] * 50 + [-1.0] * 50)
    assert len(penalised(signals, top_share=0.29, variant="parity")) == 28
    assert len(penalised(signals, top_share=0.29)) == 29


def test_parity_is_the_same_choice_where_nothing_ties() -> None:
    chosen = penalised(fixture_signals(), top_share=0.25, variant="parity")
    assert chosen == penalised(fixture_signals(), top_share=0.25) == [3, 5]


def test_covariances_of_the_curricula_card() -> None:
    # A = [1, 1, -1, -1], log pi = [-.1, -2, -.2, -3]: mean -1.325, covariances [1.225, -.675, -1.125, 1.675]; half of
    # four tokens: the first and the last
    signals = make_signals([-0.1, -2.0, -0.2, -3.0], advantages=[1.0, 1, -1, -1])
    assert covariances(signals).tolist() == pytest.approx([1.225, -0.675, -1.125, 1.675], abs=1e-6)
    assert penalised(signals, top_share=0.5) == [0, 3]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"top_share": 0.0}, "top_share must be in"),
        ({"beta": -1.0}, "beta must be >= 0"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        kl_cov.Config(**options)
