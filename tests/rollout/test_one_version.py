"""What follows a round, by the policy versions that sampled it and those before it."""

import numpy as np
import pytest

from rollout.one_version import NextMove, after_round
from rollout.plans.base import FinishedRound, Round
from rollout.worker import GroupSummary
from shaping.records import StopReason


def sampled(*versions: tuple[int, int], lengths: tuple[int, ...] = (3, 3)) -> list[GroupSummary]:
    """Rounds by the oldest and the newest version in them."""
    return [
        GroupSummary(
            group_id="g",
            round_index=index,
            num_rollouts=len(lengths),
            response_lengths=lengths,
            stop_reasons=(StopReason.EOS,) * len(lengths),
            min_policy_version=oldest,
            max_policy_version=newest,
            entropy_total=1.0,
            num_response_tokens=sum(lengths),
            generation_s=0.1,
        )
        for index, (oldest, newest) in enumerate(versions)
    ]


def finished(*rewards: tuple[float, ...]) -> list[FinishedRound]:
    return [
        FinishedRound(round=Round(num_rollouts=2), rewards=np.array(each, np.float32), num_correct=0)
        for each in rewards
    ]


def test_rounds_of_one_version_go_on() -> None:
    assert after_round(sampled((4, 4)), []) is NextMove.GO_ON
    assert after_round(sampled((4, 4), (4, 4), (4, 4)), finished((1, 1), (0, 1))) is NextMove.GO_ON


@pytest.mark.parametrize("last", [(5, 5), (4, 5)])
def test_a_newer_version_closes_a_group_with_two_outcomes(last: tuple[int, int]) -> None:
    assert after_round(sampled((4, 4), last), finished((0, 1))) is NextMove.CLOSE
    # One outcome in each round, two in the group.
    assert after_round(sampled((4, 4), (4, 4), last), finished((1, 1), (0, 0))) is NextMove.CLOSE


@pytest.mark.parametrize("last", [(5, 5), (4, 5)])
@pytest.mark.parametrize("before", [((1.0, 1.0),), ((0.0, 0.0), (0.0, 0.0)), ((),)])
def test_a_newer_version_begins_a_group_of_one_outcome_again(
    last: tuple[int, int], before: tuple[tuple[float, ...], ...]
) -> None:
    versions = [(4, 4)] * len(before)
    assert after_round(sampled(*versions, last), finished(*before)) is NextMove.BEGIN_AGAIN


def test_a_first_round_that_mixes_versions_is_begun_again() -> None:
    assert after_round(sampled((4, 5)), []) is NextMove.BEGIN_AGAIN


def test_a_response_without_a_token_has_no_version_of_its_own() -> None:
    assert after_round(sampled((0, 5), lengths=(0, 3)), []) is NextMove.GO_ON


def test_a_round_without_any_token_has_no_version() -> None:
    # The same seeds and weights would give it again: a group that was begun again for it would never end.
    (empty,), (before, after) = sampled((0, 0), lengths=(0, 0)), sampled((5, 5), (5, 5))
    assert after_round([empty], []) is NextMove.GO_ON
    assert after_round([empty, after], finished((0, 0))) is NextMove.GO_ON
    assert after_round([before, empty], finished((0, 1))) is NextMove.GO_ON
