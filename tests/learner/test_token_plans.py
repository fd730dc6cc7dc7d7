"""What is particular to one token plan; the laws that all share are in tests/contracts."""

import dataclasses

import numpy as np
import pytest
import torch

from learner.collate import Microbatch, collate
from learner.config import LearnerConfig
from learner.objective import (
    UpdateCounts,
    build_objective,
    combine_weights,
    micro_batch_loss,
    plan_weights,
    trained_signals,
)
from learner.token_keys import token_keys
from learner.token_plans import clip_cov, forking_tokens, kl_cov
from learner.token_plans.base import Scope, TokenSignals, count_of, covariances, draw
from shaping.components import ComponentSpec
from shaping.records import TokenSource
from shaping.training import TrainingSample

# Fixture F: one group, two responses of four tokens, advantages +1 and -1.
ENTROPIES = [0.2, 1.0, 0.5, 0.1, 0.8, 1.6, 0.4, 0.3]
POLICY = [-0.10, -1.2, -0.5, -0.05, -0.90, -2.0, -0.3, -0.20]
BEHAVIOR = [-0.15, -1.4, -0.5, -0.05, -0.70, -2.1, -0.3, -0.25]
ADVANTAGES = [1.0, 1, 1, 1, -1, -1, -1, -1]
# mean A = 0, mean log pi = -5.25 / 8 = -0.65625; (A - 0)(log pi + 0.65625)
COVARIANCES = [0.55625, -0.54375, 0.15625, 0.60625, 0.24375, 1.34375, -0.35625, -0.45625]


def make_signals(
    policy: list[float] = POLICY,
    *,
    entropies: list[float] | None = None,
    behavior: list[float] | None = None,
    advantages: list[float] | None = None,
    clip: float = 0.2,
    step: int = 0,
) -> TokenSignals:
    rows = [torch.tensor(policy if row is None else row) for row in (entropies, behavior, advantages)]
    keys = torch.randint(-(2**63), 2**63 - 1, (len(policy),), generator=torch.Generator().manual_seed(step))
    return TokenSignals(
        policy_logprobs=torch.tensor(policy),
        policy_entropies=rows[0],
        behavior_logprobs=torch.full_like(rows[1], torch.nan),
        old_logprobs=rows[1],
        advantages=rows[2],
        keys=keys,
        clip_low=clip,
        clip_high=clip,
    )


def fixture_signals(**changes: object) -> TokenSignals:
    return dataclasses.replace(
        make_signals(POLICY, entropies=ENTROPIES, behavior=BEHAVIOR, advantages=ADVANTAGES), **changes
    )


def fixture_batch() -> Microbatch:
    """Fixture F as training samples, one prompt token before each response."""
    samples = []
    for index in range(2):
        part = slice(4 * index, 4 * index + 4)
        samples.append(
            TrainingSample(
                group_id="g",
                rollout_index=index,
                token_ids=np.array([7, 1, 2, 3, 4], np.int32),
                loss_mask=np.array([False] + [True] * 4),
                behavior_logprobs=np.array([0, *BEHAVIOR[part]], np.float32),
                advantages=np.array([0, *ADVANTAGES[part]], np.float32),
                entropies=np.array([0, *ENTROPIES[part]], np.float32),
                token_sources=np.array([TokenSource.PROMPT] + [TokenSource.GENERATED] * 4, np.uint8),
                min_policy_version=0,
            )
        )
    return collate(samples, "padded")


def fixture_loss(
    plan: ComponentSpec | None, *, loss: ComponentSpec | None = None
) -> tuple[float, list[float], dict[str, float | None]]:
    """Loss, gradient by token and metrics of fixture F, under PPO clipped at 0.2/0.2 unless another loss is given."""
    narrow = ComponentSpec(kind="ppo_clip", options={"clip_low": 0.2, "clip_high": 0.2})
    objective = build_objective(LearnerConfig(loss=loss or narrow, token_plans=(plan,) if plan else ()))
    batch = fixture_batch()
    scores = torch.tensor([POLICY, ENTROPIES], requires_grad=True)
    signals, keys = trained_signals(batch, scores), token_keys(batch, step=0, update=0)
    decided = [plan_weights(each, signals, keys, objective.loss) for each in objective.token_plans]
    weights = combine_weights(tuple(decided), 8, torch.device("cpu"))
    counts = UpdateCounts(num_valid_tokens=8, num_hint_tokens=0)
    total, metrics = micro_batch_loss(objective, batch, scores, None, weights, counts, 0)
    (gradient,) = torch.autograd.grad(total, scores)
    return float(total.detach()), gradient[0].tolist(), {name: each.value for name, each in metrics.items()}


def ratios() -> list[float]:
    return (torch.tensor(POLICY) - torch.tensor(BEHAVIOR)).exp().tolist()


# -- forking tokens


def forking_weights(entropies: list[float], **options: object) -> list[float]:
    plan = forking_tokens.build(forking_tokens.Config(**options))
    return plan.plan(make_signals(entropies)).weights.tolist()


def test_the_top_share_by_entropy_is_selected() -> None:
    # 0.2 of 8 tokens: k = ceil(1.6) = 2, tokens 1 and 5; mean over selected: 8 / 2 = 4 each
    assert forking_weights(ENTROPIES) == [0, 4, 0, 0, 0, 4, 0, 0]
    assert forking_weights(ENTROPIES, mean_over="all") == [0, 1, 0, 0, 0, 1, 0, 0]


def test_the_loss_of_forking_tokens_is_the_mean_over_them() -> None:
    # with the fixture's own clip range of 0.28: (-1.22140 + 1.10517) / 2
    wide = ComponentSpec(kind="ppo_clip", options={"clip_high": 0.28})
    loss, gradient, _ = fixture_loss(ComponentSpec(kind="forking_tokens"), loss=wide)
    assert loss == pytest.approx(-0.0581159, abs=1e-6)
    assert [index for index, value in enumerate(gradient) if value] == [1, 5]


def test_share_one_changes_nothing() -> None:
    assert forking_weights(ENTROPIES, top_share=1.0) == [1.0] * 8


def test_at_least_one_token_is_selected_and_none_of_none() -> None:
    assert forking_weights([0.5], top_share=0.01) == [1.0]
    assert forking_weights([]) == []


def test_a_share_that_is_a_whole_number_of_tokens_is_not_rounded_up() -> None:
    # 0.2 x 15 is 3.0000000000000004 in floating point
    assert sum(weight > 0 for weight in forking_weights([float(i) for i in range(15)])) == 3


def test_tokens_that_tie_are_selected_together() -> None:
    # k = 2 of 8, but three tokens share the second place: 4 selected, 8 / 4 = 2 each
    assert forking_weights([2.0, 1, 1, 1, 0, 0, 0, 0]) == [2, 2, 2, 2, 0, 0, 0, 0]
    assert forking_weights([0.0] * 5) == [1.0] * 5


@pytest.mark.parametrize("module", [forking_tokens, clip_cov, kl_cov])
def test_the_scope_is_the_whole_update_unless_said_otherwise(module: object) -> None:
    assert module.build(module.Config()).scope is Scope.UPDATE
    assert module.build(module.Config(scope=Scope.MICRO_BATCH)).scope is Scope.MICRO_BATCH


# -- covariances and draws


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


# -- KL-Cov


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
    assert gradient == pytest.approx(expected, abs=1e-6)


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


# -- Clip-Cov


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
    assert [index for index, value in enumerate(gradient) if not value] == [0, 1, 3]


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


@pytest.mark.parametrize(
    ("module", "options", "words"),
    [
        (forking_tokens, {"top_share": 0.0}, "top_share must be in"),
        (forking_tokens, {"top_share": 1.1}, "top_share must be in"),
        (kl_cov, {"top_share": 0.0}, "top_share must be in"),
        (kl_cov, {"beta": -1.0}, "beta must be >= 0"),
        (clip_cov, {"share": 0.0}, "share must be in"),
        (clip_cov, {"lower": 2.0, "upper": 1.0}, "lower must be <= upper, got 2.0 and 1.0"),
        (clip_cov, {"seed": -1}, "seed must be >= 0"),
    ],
)
def test_impossible_options_are_refused(module: object, options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        module.Config(**options)
