"""Laws of scoring: weights, who decides, and rollouts without a verdict."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from group_builders import make_group, make_rollout

from shaping.config import RewardConfig
from shaping.errors import RecipeError
from shaping.groups import Drop, DropReason, ScoredGroup, Verdict, VerdictStatus
from shaping.rewards.base import RewardResult
from shaping.scoring import RewardSum, build_rewards, load_rewards, score_again, score_group
from shaping.verification.judge import ScoreTask

DECIDING = RewardConfig(kind="exact_match", weight=2.0)
BONUS = RewardConfig(kind="format", weight=0.5)


class ScriptedJudge:
    """Reads the deciding verdict from the response, a status; its value is the number of tokens. The bonus is 1."""

    def score(self, tasks: Sequence[ScoreTask]) -> list[RewardResult]:
        return [self._score(task) for task in tasks]

    def _score(self, task: ScoreTask) -> RewardResult:
        if task.reward is BONUS:
            return RewardResult(value=1.0, verdict=Verdict(status=VerdictStatus.CORRECT))
        verdict = Verdict(status=VerdictStatus(task.request.response_text))
        return RewardResult(value=task.request.num_tokens, verdict=verdict)


def build(*configs: RewardConfig) -> RewardSum:
    return build_rewards(configs, load_rewards(configs, "shaping.rewards"), "shaping.rewards")


def score_texts(*texts: str, no_verdict: Literal["rollout", "group"] = "rollout") -> ScoredGroup | Drop:
    rollouts = [make_rollout([1] * (index + 1), text=text) for index, text in enumerate(texts)]
    return score_group(make_group(rollouts), build(BONUS, DECIDING), ScriptedJudge(), no_verdict=no_verdict)


def test_the_reward_is_the_weighted_sum_and_parts_are_kept_unweighted() -> None:
    scored = score_texts("correct", "wrong", "unparsable")
    assert isinstance(scored, ScoredGroup)
    # 0.5 * 1 + 2 * number of tokens (1, 2, 3)
    assert scored.rewards.tolist() == [2.5, 4.5, 6.5]
    assert scored.reward_parts["exact_match"].tolist() == [1, 2, 3]
    assert scored.reward_parts["format"].tolist() == [1, 1, 1]


def test_the_deciding_reward_alone_decides_who_is_correct() -> None:
    scored = score_texts("correct", "wrong", "unparsable")
    assert isinstance(scored, ScoredGroup)
    assert scored.correct.tolist() == [True, False, False]


@pytest.mark.parametrize("status", ["timed_out", "crashed"])
def test_a_rollout_without_a_verdict_is_left_out_and_counted(status: str) -> None:
    scored = score_texts("correct", status, "wrong")
    assert isinstance(scored, ScoredGroup)
    assert [len(rollout.response_ids) for rollout in scored.group.rollouts] == [1, 3]
    assert scored.rewards.tolist() == [2.5, 6.5]
    assert [verdict.status for verdict in scored.excluded] == [status]


@pytest.mark.parametrize("status", ["unparsable", "too_long"])
def test_an_answer_that_cannot_be_read_is_scored_and_not_correct(status: str) -> None:
    scored = score_texts("correct", status)
    assert isinstance(scored, ScoredGroup)
    assert scored.correct.tolist() == [True, False]
    assert scored.excluded == ()


def test_the_whole_group_goes_with_a_missing_verdict_where_the_recipe_says_so() -> None:
    drop = score_texts("correct", "timed_out", "wrong", no_verdict="group")
    assert isinstance(drop, Drop)
    assert drop.reason is DropReason.NO_VERDICT
    assert drop.detail == "some rollouts were not decided: timed_out 1"
    assert isinstance(score_texts("correct", "wrong", no_verdict="group"), ScoredGroup)


def test_a_group_without_any_verdict_is_dropped_with_its_verdicts() -> None:
    drop = score_texts("timed_out", "crashed", "crashed")
    assert isinstance(drop, Drop)
    assert drop.reason is DropReason.NO_VERDICT
    assert drop.detail == "no rollout was decided: crashed 2, timed_out 1"
    assert len(drop.excluded) == 3


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
    assert rewards.deciding.name == "math_answer"


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


# -- scored again


def score_changed(
    *changes: tuple[int, int, str], no_verdict: Literal["rollout", "group"] = "rollout"
) -> tuple[ScoredGroup, ScoredGroup | Drop]:
    """Three correct rollouts of 1, 2 and 3 tokens, and what becomes of them with others: (place, tokens, text)."""
    scored = score_texts("correct", "correct", "correct")
    assert isinstance(scored, ScoredGroup)
    rollouts = list(scored.group.rollouts)
    for place, num_tokens, text in changes:
        rollouts[place] = make_rollout([1] * num_tokens, text=text)
    places = [place for place, *_ in changes]
    rewards, group = build(BONUS, DECIDING), make_group(rollouts)
    return scored, score_again(scored, group, places, rewards, ScriptedJudge(), no_verdict=no_verdict)


def test_only_the_changed_rollouts_are_judged_again() -> None:
    scored, again = score_changed((2, 1, "wrong"), (0, 4, "unparsable"))
    assert isinstance(again, ScoredGroup)
    assert again.rewards.tolist() == [0.5 + 2 * 4, scored.rewards[1], 0.5 + 2 * 1]
    assert again.reward_parts["exact_match"].tolist() == [4, 2, 1]
    assert [str(verdict.status) for verdict in again.verdicts] == ["unparsable", "correct", "wrong"]
    # The group that it was is not touched.
    assert scored.rewards.tolist() == [2.5, 4.5, 6.5]
    assert scored.correct.all()


def test_a_rollout_judged_again_has_the_reward_it_would_have_had_at_first_bit_for_bit() -> None:
    weights = [0.1, 0.7, 1e-3]
    configs = (DECIDING, *(RewardConfig(kind="format", weight=weight) for weight in weights))
    rewards, judge = build(*configs), ScriptedJudge()
    texts = ["correct", "wrong", "correct", "wrong", "correct"]
    group = make_group([make_rollout([1] * (3 + place), text=text) for place, text in enumerate(texts)])
    straight = score_group(group, rewards, judge)
    other = score_group(make_group([make_rollout([1], text="wrong")] * 5), rewards, judge)
    assert isinstance(straight, ScoredGroup) and isinstance(other, ScoredGroup)
    for places in ([3], [0, 4], [0, 1, 2, 3, 4]):
        rollouts = [group.rollouts[place] if place in places else other.group.rollouts[place] for place in range(5)]
        again = score_again(other, make_group(rollouts), places, rewards, judge)
        assert isinstance(again, ScoredGroup)
        assert again.rewards[places].tobytes() == straight.rewards[places].tobytes()


def test_what_a_transform_added_stays_with_a_rollout_that_is_judged_again() -> None:
    scored, _ = score_changed((0, 1, "correct"))
    added = np.array([0.25, 0.5, -0.5], np.float32)
    paid = replace(scored, rewards=scored.rewards + added, reward_parts={**scored.reward_parts, "added": added})
    rollouts = [*scored.group.rollouts[:2], make_rollout([1], text="wrong")]
    again = score_again(paid, make_group(rollouts), [2], build(BONUS, DECIDING), ScriptedJudge())
    assert isinstance(again, ScoredGroup)
    assert again.rewards.tolist() == [2.75, 5.0, 0.5 + 2 * 1 - 0.5]
    assert again.reward_parts["added"].tolist() == added.tolist()


def test_a_rollout_that_has_no_verdict_when_judged_again_is_left_out_and_counted() -> None:
    scored, again = score_changed((1, 1, "timed_out"), (2, 5, "wrong"))
    assert isinstance(again, ScoredGroup)
    assert again.rewards.tolist() == [scored.rewards[0], 10.5]
    assert [rollout.num_tokens for rollout in again.group.rollouts] == [1, 5]
    assert [str(verdict.status) for verdict in again.excluded] == ["timed_out"]


def test_a_group_goes_with_it_where_the_recipe_says_so_or_nothing_is_left() -> None:
    _, dropped = score_changed((1, 1, "timed_out"), no_verdict="group")
    assert isinstance(dropped, Drop) and dropped.detail == "some rollouts were not decided: timed_out 1"
    _, empty = score_changed(*((place, 1, "crashed") for place in range(3)))
    assert isinstance(empty, Drop) and empty.detail == "no rollout was decided: crashed 3"
    assert (empty.reason, len(empty.excluded)) == (DropReason.NO_VERDICT, 3)
