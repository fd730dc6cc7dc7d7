"""What token plans have in common: scopes, covariances and draws. The laws of every plan are in tests/contracts."""

import pytest
import torch
from learner_builders import make_sample
from method_fixture import fixture_batch, fixture_signals, make_signals

from learner.collate import collate
from learner.token_keys import token_keys
from learner.token_plans import clip_cov, forking_tokens, kl_cov, steer
from learner.token_plans.base import Scope, count_of, covariances, draw, first_of

# mean A = 0, mean log pi = -5.25 / 8 = -0.65625; (A - 0)(log pi + 0.65625)
COVARIANCES = [0.55625, -0.54375, 0.15625, 0.60625, 0.24375, 1.34375, -0.35625, -0.45625]


@pytest.mark.parametrize("module", [forking_tokens, clip_cov, kl_cov, steer])
def test_the_scope_is_the_whole_update_unless_said_otherwise(module: object) -> None:
    assert module.build(module.Config()).scope is Scope.UPDATE
    assert module.build(module.Config(scope=Scope.MICRO_BATCH)).scope is Scope.MICRO_BATCH


@pytest.mark.parametrize("module", [forking_tokens, clip_cov, kl_cov, steer])
def test_the_released_codes_take_each_micro_batch(module: object) -> None:
    assert module.build(module.Config(variant="parity")).scope is Scope.MICRO_BATCH
    assert module.build(module.Config(variant="parity", scope=Scope.UPDATE)).scope is Scope.UPDATE


def test_of_equal_values_the_first_stand_first() -> None:
    assert first_of(torch.tensor([1.0, 2, 1, 1]), 2).tolist() == [True, True, False, False]
    assert first_of(torch.zeros(0), 1).tolist() == []


def test_covariances_of_the_fixture() -> None:
    assert covariances(fixture_signals()).tolist() == pytest.approx(COVARIANCES, abs=1e-6)


def test_equal_advantages_covary_with_nothing() -> None:
    assert covariances(fixture_signals(advantages=torch.full((8,), 0.3))).tolist() == [0.0] * 8


def test_a_count_is_rounded_down_and_at_least_one() -> None:
    # 0.29 x 100 is 28.999999999999996 in floating point
    assert [count_of(0.29, 100), count_of(0.25, 11), count_of(2e-4, 8), count_of(1.0, 8)] == [29, 2, 1, 8]


def test_a_draw_takes_exactly_as_many_as_it_is_asked_for() -> None:
    keys = make_signals([0.0] * 100).keys
    candidates = torch.arange(100) % 2 == 0
    for count, drawn in ((0, 0), (1, 1), (17, 17), (50, 50), (60, 50)):
        chosen = draw(candidates, count, keys)
        assert int(chosen.sum()) == drawn
        assert not bool((chosen & ~candidates).any())


def test_a_draw_counts_the_tokens_of_equal_responses_one_by_one() -> None:
    # five responses that are the same, token for token: their tokens have equal keys
    batch = collate([make_sample(num_response=3, seed=1)] * 5, "packed")
    keys = token_keys(batch, step=0, update=0)
    assert len(keys.unique()) == 3
    everything = torch.ones(15, dtype=torch.bool)
    for count in (1, 4, 7, 15):
        assert int(draw(everything, count, keys).sum()) == count


def test_a_draw_is_repeated_by_its_seed_and_its_keys_alone() -> None:
    candidates = torch.ones(1000, dtype=torch.bool)
    drawn = {}
    for step in (0, 1):
        keys = make_signals([0.0] * 1000, step=step).keys
        for seed in (0, 1, 2):
            drawn[step, seed] = draw(candidates, 100, keys, seed=seed)
            assert torch.equal(drawn[step, seed], draw(candidates, 100, keys, seed=seed))
    rows = list(drawn.values())
    assert not any(torch.equal(a, b) for index, a in enumerate(rows) for b in rows[:index])


def test_every_candidate_is_drawn_as_often() -> None:
    # 3 of 8 in each of 4000 updates: 1500 times each, with a standard deviation of sqrt(4000 x 3/8 x 5/8) = 31
    candidates = torch.ones(8, dtype=torch.bool)
    batch = fixture_batch()
    times = sum(draw(candidates, 3, token_keys(batch, step=step, update=0), seed=5).long() for step in range(4000))
    assert int(times.sum()) == 12_000
    assert all(abs(each - 1500) < 4 * 31 for each in times.tolist())
