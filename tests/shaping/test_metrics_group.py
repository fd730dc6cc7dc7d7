"""The numbers of a group, worked by hand."""

from itertools import permutations

import numpy as np
import pytest
from containment_oracle import oracle_runs
from group_builders import make_rollout, make_scored, make_segmented
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shaping.groups import DropReason, SegmentedGroup, ShapedGroup, Verdict, VerdictStatus
from shaping.histograms import MULTIPLIERS, Histogram
from shaping.metrics import Metrics, histograms_of, merge_metrics, metric_values
from shaping.metrics_group import (
    OUTSIDE,
    advantage_metrics,
    multiplier_metrics,
    outcome_metrics,
    score_metrics,
    segment_metrics,
    verdict_metrics,
)
from shaping.records import StopReason
from shaping.support import SegmentClass


def segmented_of(rows: list[list[int]], correct: list[bool]) -> SegmentedGroup:
    """Token 9 is a fork of entropy 1, all others have 0; runs of two and more are segments."""
    rollouts = [make_rollout(ids, entropies=[float(token == 9) for token in ids]) for ids in rows]
    return make_segmented(make_scored(correct, rollouts=rollouts))


def ranges_of(metrics: Metrics, name: str) -> dict[float, int]:
    """How many values lie up to which bound; ranges without any are left out, and inf is above the last."""
    histogram = histograms_of(metrics)[name]
    ends = (*histogram.bounds, float("inf"))
    return {end: count for end, count in zip(ends, histogram.counts, strict=True) if count}


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
        "rollout_prompt_tokens": 4,  # two of the prompt, for each rollout
        "rollout_eos_rollouts": 1,
        "rollout_stop_string_rollouts": 0,
        "rollout_length_rollouts": 1,
    }


def test_rewards_and_lengths_are_spread_over_the_rollouts_of_their_verdict() -> None:
    rollouts = [make_rollout(range(1, 1 + size)) for size in (3, 4, 5, 9)]
    scored = make_scored([True, True, False, False], rewards=[1.0, 1.0, 0.1, -0.2], rollouts=rollouts)
    found = score_metrics(scored)
    assert ranges_of(found, "reward_value") == {0.0: 1, 0.1: 1, 1.0: 2}
    assert ranges_of(found, "rollout_correct_response_tokens") == {4: 2}
    assert ranges_of(found, "rollout_incorrect_response_tokens") == {8: 1, 16: 1}
    histograms = histograms_of(found)
    assert histograms["rollout_correct_response_tokens"].total == 7
    assert histograms["reward_value"].total == pytest.approx(1.9)


def test_a_verdict_that_no_rollout_has_is_an_empty_distribution() -> None:
    found = histograms_of(score_metrics(make_scored([True, True])))
    assert found["rollout_incorrect_response_tokens"].count == 0
    assert found["rollout_correct_response_tokens"].count == 2


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
    # The same as one value of the group each, where there is one.
    metrics = segment_metrics(segmented)
    assert ranges_of(metrics, "segments_correct_correct_overlap_share") == {0.5: 1}
    assert ranges_of(metrics, "segments_correct_incorrect_overlap_share") == {0.3: 1}
    assert ranges_of(metrics, "segments_incorrect_correct_overlap_share") == {0.3: 1}
    assert ranges_of(metrics, "segments_incorrect_incorrect_overlap_share") == {}


def test_segments_are_spread_by_length_and_tokens_by_entropy() -> None:
    # Correct: 1 2 3 | 4 5. Wrong: 4 5 | 6 7 8 9... with forks of entropy 1 between: 1 2 3 is unique, 4 5 shared.
    segmented = segmented_of([[1, 2, 3, 9, 4, 5, 9], [4, 5, 9, 6, 7, 8, 1, 9]], [True, False])
    found = segment_metrics(segmented)
    assert ranges_of(found, "segments_shared_length_tokens") == {2: 2}
    assert ranges_of(found, "segments_unique_length_tokens") == {3: 1, 4: 1}
    assert ranges_of(found, "segments_correct_only_length_tokens") == {}
    assert histograms_of(found)["segments_unique_length_tokens"].total == 7
    # Eleven tokens of entropy 0 and four forks. All are low: the threshold is the forks' entropy.
    assert ranges_of(found, "shaping_token_entropy_nats") == {0.0: 11, 1.0: 4}
    values = metric_values(found)
    assert (values["shaping_low_tokens"], values["shaping_high_tokens"]) == (15, 0)


def test_multipliers_are_spread_by_the_class_of_the_segment_that_a_token_lies_in() -> None:
    # Correct: 1 2 | 3 4; 1 2 | 5 6. Wrong: 3 4 | 7 8. As above: 1 2 is correct-only, 3 4 shared, 5 6 and 7 8 unique.
    segmented = segmented_of([[1, 2, 9, 3, 4, 9], [1, 2, 9, 5, 6, 9], [3, 4, 9, 7, 8, 9]], [True, True, False])
    rows = [[1.2, 1.2, 1, 0, 0, 1], [1, 1, 1, 0.5, 0.5, 1], [0, 0, 1, 2, 1, 1]]
    found = multiplier_metrics(shaped_by(segmented, rows))
    assert ranges_of(found, "shaping_correct_only_multiplier") == {1.0: 2, 1.25: 2}
    assert ranges_of(found, "shaping_shared_multiplier") == {0.0: 4}
    assert ranges_of(found, "shaping_unique_multiplier") == {0.5: 2, 1.0: 1, 2.0: 1}
    assert ranges_of(found, "shaping_incorrect_only_multiplier") == {}
    assert ranges_of(found, "shaping_outside_multiplier") == {1.0: 6}
    assert histograms_of(found)["shaping_unique_multiplier"].total == 4.0
    values = metric_values(found)
    names = ("shaping_up_tokens", "shaping_down_tokens", "shaping_unchanged_tokens")
    assert [values[name] for name in names] == [3, 6, 9]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from([1, 2, 9]), max_size=12), st.booleans()), min_size=1, max_size=4),
    st.data(),
)
def test_every_token_is_in_the_distribution_of_one_class(
    rows: list[tuple[list[int], bool]], data: st.DataObject
) -> None:
    assume(any(ids for ids, _ in rows))
    segmented = segmented_of([ids for ids, _ in rows], [flag for _, flag in rows])
    values = st.sampled_from([0.0, 0.1, 0.3, 1.0, 1.1, 5.0])
    multipliers = [data.draw(st.lists(values, min_size=len(ids), max_size=len(ids))) for ids, _ in rows]
    found = histograms_of(multiplier_metrics(shaped_by(segmented, multipliers)))
    # Token by token: the segment that holds it, or none.
    of_class: dict[str, list[float]] = {each: [] for each in (*SegmentClass, OUTSIDE)}
    segments = segmented.segments.by_rollout(segmented.arrays.correct)
    for row, its in zip(multipliers, segments, strict=True):
        for position, value in enumerate(row):
            kinds = [each.segment_class for each in its if each.start <= position < each.stop]
            of_class[kinds[0] if kinds else OUTSIDE].append(value)
    for kind, expected in of_class.items():
        histogram = found[f"shaping_{kind}_multiplier"]
        assert histogram.counts == Histogram.of(np.array(expected, np.float32), MULTIPLIERS).counts
        assert histogram.total == pytest.approx(sum(expected), abs=1e-5)


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


def shaped_by(segmented: SegmentedGroup, multipliers: list[list[float]]) -> ShapedGroup:
    rows = tuple(np.array(row, np.float32) for row in multipliers)
    ones = tuple(np.ones(len(row), np.float32) for row in rows)
    return ShapedGroup(segmented=segmented, base_advantages=ones, multipliers=rows, advantages=rows)


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
        # 1, 1, -2: mean 0, mean square 2. 1, 0, -1: mean 0, mean square 2/3.
        "advantage_base_mean_value": 0.0,
        "advantage_base_std_value": pytest.approx(2**0.5),
        "advantage_shaped_mean_value": 0.0,
        "advantage_shaped_std_value": pytest.approx((2 / 3) ** 0.5),
    }


def test_shaped_advantages_are_spread_and_their_deviation_is_of_all_tokens_together() -> None:
    parts = [advantage_metrics(make_shaped([2, 2], [1, 3])), advantage_metrics(make_shaped([2, -2], [0, 0]))]
    merged = merge_metrics(parts)
    assert ranges_of(merged, "advantage_value") == {0.0: 2, 1.0: 1, 4.0: 1}
    # Base 2, 2, 2, -2: mean 1, mean square 4, so the root of 3; not the mean of 0 and 2.
    assert metric_values(merged)["advantage_base_mean_value"] == 1.0
    assert metric_values(merged)["advantage_base_std_value"] == pytest.approx(3**0.5)


def test_a_group_without_advantage_has_no_kept_share_and_is_counted() -> None:
    found = metric_values(advantage_metrics(make_shaped([0, 0], [0, 0])))
    assert "advantage_kept_mass_share" not in found
    assert found["groups_without_signal_count"] == 1


def test_an_outcome_is_counted_once_and_zeros_are_shown() -> None:
    parts = [outcome_metrics(None), outcome_metrics(None, num_response_tokens=7), outcome_metrics(DropReason.EMPTY)]
    parts.append(outcome_metrics(DropReason.FILTERED, num_response_tokens=5))
    assert metric_values(merge_metrics(parts)) == {
        "groups_trained_count": 2,
        "groups_dropped_empty_count": 1,
        "groups_dropped_no_signal_count": 0,
        "groups_dropped_no_verdict_count": 0,
        "groups_dropped_filtered_count": 1,
        # Tokens of a group that is trained are not discarded.
        "rollout_discarded_empty_tokens": 0,
        "rollout_discarded_no_signal_tokens": 0,
        "rollout_discarded_no_verdict_tokens": 0,
        "rollout_discarded_filtered_tokens": 5,
    }
