"""Laws of scoring: weights, who decides, and rollouts without a verdict."""

import logging
from dataclasses import dataclass

import pytest
from group_builders import make_group, make_rollout

from shaping.config import RewardConfig
from shaping.errors import RecipeError
from shaping.groups import Drop, DropReason, ScoredGroup, Verdict, VerdictStatus
from shaping.records import Prompt, Rollout
from shaping.rewards.base import RewardResult
from shaping.scoring import RewardSum, WeightedReward, build_rewards, load_rewards, score_group


@dataclass(frozen=True)
class ScriptedReward:
    """Reads its verdict from the response: a status, or "raise"; its value is the number of response tokens."""

    decides_correctness: bool = True

    def score(self, rollout: Rollout, prompt: Prompt) -> RewardResult:
        del prompt
        if rollout.response_text == "raise":
            raise ZeroDivisionError("inside the reward")
        return RewardResult(value=rollout.num_tokens, verdict=Verdict(status=VerdictStatus(rollout.response_text)))


@dataclass(frozen=True)
class One:
    """Always 1, decides nothing."""

    decides_correctness: bool = False

    def score(self, rollout: Rollout, prompt: Prompt) -> RewardResult:
        del rollout, prompt
        return RewardResult(value=1.0, verdict=Verdict(status=VerdictStatus.CORRECT))


def make_sum(weight: float = 2.0, bonus: float = 0.5) -> RewardSum:
    scripted = WeightedReward(name="scripted", weight=weight, reward=ScriptedReward())
    return RewardSum(parts=(WeightedReward(name="one", weight=bonus, reward=One()), scripted))


def score_texts(*texts: str) -> ScoredGroup | Drop:
    rollouts = [make_rollout([1] * (index + 1), text=text) for index, text in enumerate(texts)]
    return score_group(make_group(rollouts), make_sum())


def test_the_reward_is_the_weighted_sum_and_parts_are_kept_unweighted() -> None:
    scored = score_texts("correct", "wrong", "unparsable")
    assert isinstance(scored, ScoredGroup)
    # 0.5 * 1 + 2 * number of tokens (1, 2, 3)
    assert scored.rewards.tolist() == [2.5, 4.5, 6.5]
    assert scored.reward_parts["scripted"].tolist() == [1, 2, 3]
    assert scored.reward_parts["one"].tolist() == [1, 1, 1]


def test_the_deciding_reward_alone_decides_who_is_correct() -> None:
    scored = score_texts("correct", "wrong", "unparsable")
    assert isinstance(scored, ScoredGroup)
    assert scored.correct.tolist() == [True, False, False]


@pytest.mark.parametrize("status", ["timed_out", "crashed", "too_long"])
def test_a_rollout_without_a_verdict_is_left_out_and_counted(status: str) -> None:
    scored = score_texts("correct", status, "wrong")
    assert isinstance(scored, ScoredGroup)
    assert [len(rollout.response_ids) for rollout in scored.group.rollouts] == [1, 3]
    assert scored.rewards.tolist() == [2.5, 6.5]
    assert [verdict.status for verdict in scored.excluded] == [status]


def test_a_reward_that_raises_is_a_crashed_verdict(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        scored = score_texts("correct", "raise")
    assert isinstance(scored, ScoredGroup)
    assert scored.excluded[0].status is VerdictStatus.CRASHED
    assert scored.excluded[0].detail == "scripted: ZeroDivisionError: inside the reward"
    assert "group g" in caplog.text


def test_a_group_without_any_verdict_is_dropped_with_its_verdicts() -> None:
    drop = score_texts("timed_out", "crashed", "crashed")
    assert isinstance(drop, Drop)
    assert drop.reason is DropReason.NO_VERDICT
    assert drop.detail == "no rollout was decided: crashed 2, timed_out 1"
    assert len(drop.excluded) == 3


def build(*configs: RewardConfig) -> RewardSum:
    return build_rewards(configs, load_rewards(configs, "shaping.rewards"), "shaping.rewards")


def test_two_deciding_rewards_are_refused_by_name() -> None:
    with pytest.raises(RecipeError, match="math_answer, exact_match do; set `decides: false` on all but one"):
        build(RewardConfig(kind="math_answer"), RewardConfig(kind="exact_match"))


def test_no_deciding_reward_is_refused_by_name() -> None:
    with pytest.raises(RecipeError, match=r"none of format does; add one that does.*\(shaping.rewards\)"):
        build(RewardConfig(kind="format"))


def test_decides_false_resolves_two_deciding_rewards() -> None:
    rewards = build(
        RewardConfig(kind="math_answer"), RewardConfig(kind="exact_match", options={"decides": False}, weight=0.1)
    )
    assert rewards.deciding_name == "math_answer"


def test_a_kind_used_twice_has_two_names() -> None:
    rewards = build(
        RewardConfig(kind="math_answer"),
        RewardConfig(kind="format"),
        RewardConfig(kind="format", options={"pattern": "x"}),
    )
    assert [part.name for part in rewards.parts] == ["math_answer", "format", "format_2"]


def test_an_unknown_reward_or_option_names_where_it_was_written() -> None:
    with pytest.raises(RecipeError, match=r"did you mean 'math_answer'\? \(shaping.rewards\[1\]\)"):
        build(RewardConfig(kind="format"), RewardConfig(kind="math_anser"))
    with pytest.raises(RecipeError, match=r"did you mean 'pattern'\? \(shaping.rewards\[0\].format\)"):
        build(RewardConfig(kind="format", options={"patern": "x"}))
