"""The numbers of a group, worked by hand."""

from itertools import permutations

import numpy as np
import pytest
from containment_oracle import oracle_runs
from group_builders import make_rollout, make_scored, make_segmented
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shaping.groups import DropReason, SegmentedGroup, ShapedGroup, Verdict, VerdictStatus
from shaping.metrics import merge_metrics, metric_values
from shaping.metrics_group import advantage_metrics, outcome_metrics, score_metrics, segment_metrics, verdict_metrics
from shaping.records import StopReason


def segmented_of(rows: list[list[int]], correct: list[bool]) -> SegmentedGroup:
    """Token 9 is a fork of entropy 1, all others have 0; runs of two and more are segments."""
    rollouts = [make_rollout(ids, entropies=[float(token == 9) for token in ids]) for ids in rows]
    return make_segmented(make_scored(correct, rollouts=rollouts))


def test_scores_count_rollouts_and_tokens() -> None:
    rollouts = [
        make_rollout([1, 2], entropies=[0.5, 0.5]),
        make_rollout([1, 2, 3, 4], entropies=[0, 0, 0, 2], stop_reason=StopReason.LENGTH),
    ]
    found = metric_values(score_metrics(make_scored([True, False], rewards=[1.0, 0.5], rollouts=rollouts)))
    assert found == {
        "reward_total_value": 0.75,
        "reward_math_answer_value": 0.75,
        "reward_correct_share": 0.5,
        "groups_all_correct_count": 0,
        "groups_all_incorrect_count": 0,
        "groups_mixed_count": 1,
        "rollout_response_tokens": 3.0,
        "rollout_response_max_tokens": 4,
        "rollout_truncated_share": 0.5,
        "rollout_entropy_nats": 0.5,  # 3 nats over 6 tokens, not the mean of 0.5 and 0.5
    }


@pytest.mark.parametrize(
    ("correct", "name"), [([True, True], "all_correct"), ([False, False], "all_incorrect"), ([True, False], "mixed")]
)
def test_a_group_is_all_correct_all_incorrect_or_mixed(correct: list[bool], name: str) -> None:
    found = metric_values(score_metrics(make_scored(correct)))
    names = ("groups_all_correct_count", "groups_all_incorrect_count", "groups_mixed_count")
    assert {each: found[each] for each in names} == {each: float(each == f"groups_{name}_count") for each in names}


def test_verdicts_are_counted_with_those_that_are_none() -> None:
    statuses = [VerdictStatus.CORRECT, VerdictStatus.CRASHED, VerdictStatus.CRASHED]
    found = metric_values(verdict_metrics([Verdict(status=status) for status in statuses]))
    assert found["verdict_correct_rollouts"] == 1
    assert found["verdict_crashed_rollouts"] == 2
    assert found["verdict_wrong_rollouts"] == 0
    assert len(found) == len(VerdictStatus)


def test_segments_and_their_tokens_are_counted_by_class() -> None:
    # Correct: 1 2 | 3 4; 1 2 | 5 6. Wrong: 3 4 | 7 8. Twelve of 18 tokens are in segments; 1 2 is correct-only (two
    # segments), 3 4 shared (two), 5 6 and 7 8 unique. The threshold is the fork's entropy: six ties, all low.
    segmented = segmented_of([[1, 2, 9, 3, 4, 9], [1, 2, 9, 5, 6, 9], [3, 4, 9, 7, 8, 9]], [True, True, False])
    found = metric_values(segment_metrics(segmented))
    expected = {"correct_only": (2, 4), "incorrect_only": (0, 0), "shared": (2, 4), "unique": (2, 4)}
    for name, (count, tokens) in expected.items():
        assert (found[f"segments_{name}_count"], found[f"segments_{name}_tokens"]) == (count, tokens)
    assert found["segments_low_tokens_share"] == 1.0
    assert found["segments_tie_tokens_share"] == pytest.approx(6 / 18)
    assert found["segments_covered_tokens_share"] == pytest.approx(12 / 18)
    assert found["segments_threshold_nats"] == 1.0
    assert found["segments_length_tokens"] == 2.0
    # Overlap: each response has 4 segment tokens. CC: 2/4 and 2/4. CW: rollout 0 shares 3 4, rollout 1 nothing.
    # WC: 3 4 is in rollout 0 but not in rollout 1. WW: one wrong rollout has no partner.
    assert found["segments_overlap_correct_correct_share"] == 0.5
    assert found["segments_overlap_correct_incorrect_share"] == 0.25
    assert found["segments_overlap_incorrect_correct_share"] == 0.25
    assert "segments_overlap_incorrect_incorrect_share" not in found


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from([1, 2, 9]), max_size=12), st.booleans()), min_size=2, max_size=4))
def test_overlap_is_the_mean_over_ordered_pairs(rows: list[tuple[list[int], bool]]) -> None:
    responses, correct = [ids for ids, _ in rows], [flag for _, flag in rows]
    runs = [
        [ids[a:b] for a, b in oracle_runs([float(t == 9) for t in ids], quantile=0.8, min_length=2, membership="lt")]
        for ids in responses
    ]
    assume(any(runs))
    found = metric_values(segment_metrics(segmented_of(responses, correct)))
    names = {True: "correct", False: "incorrect"}
    for own in names:
        for other in names:
            shares = [
                sum(len(s) for s in runs[i] if any(holds(t, s) for t in runs[j])) / sum(len(s) for s in runs[i])
                for i, j in permutations(range(len(rows)), 2)
                if correct[i] is own and correct[j] is other and runs[i]
            ]
            value = found.get(f"segments_overlap_{names[own]}_{names[other]}_share")
            assert value == (pytest.approx(np.mean(shares)) if shares else None)


def holds(run: list[int], string: list[int]) -> bool:
    return any(run[p : p + len(string)] == string for p in range(len(run) - len(string) + 1))


def make_shaped(base: list[float], after: list[float]) -> ShapedGroup:
    segmented = make_segmented(make_scored([True], rollouts=[make_rollout([1] * len(base))]))
    row = np.array(base, np.float32)
    ones = np.ones(len(base), np.float32)
    return ShapedGroup(
        segmented=segmented,
        base_advantages=(row,),
        multipliers=(ones,),
        advantages=(np.array(after, np.float32),),
    )


def test_advantage_mass_is_measured_before_and_after() -> None:
    found = metric_values(advantage_metrics(make_shaped([1, 1, -2], [1, 0, -1])))
    assert found == {
        "advantage_base_abs_value": pytest.approx(4 / 3),
        "advantage_shaped_abs_value": pytest.approx(2 / 3),
        "advantage_kept_mass_share": 0.5,
        "advantage_net_mass_share": 0.0,
        "groups_without_signal_count": 0,
    }


def test_a_group_without_advantage_has_no_kept_share_and_is_counted() -> None:
    found = metric_values(advantage_metrics(make_shaped([0, 0], [0, 0])))
    assert "advantage_kept_mass_share" not in found
    assert found["groups_without_signal_count"] == 1


def test_an_outcome_is_counted_once_and_zeros_are_shown() -> None:
    parts = [outcome_metrics(None), outcome_metrics(None), outcome_metrics(DropReason.EMPTY)]
    assert metric_values(merge_metrics(parts)) == {
        "groups_trained_count": 2,
        "groups_dropped_empty_count": 1,
        "groups_dropped_no_signal_count": 0,
        "groups_dropped_no_verdict_count": 0,
        "groups_dropped_filtered_count": 0,
    }
