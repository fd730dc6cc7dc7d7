"""Laws of thresholds, runs, segment classes and support counts."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from containment_oracle import oracle_runs
from group_builders import make_rollout, make_scored, make_segmented
from hypothesis import given, settings
from hypothesis import strategies as st

from shaping.groups import SegmentedGroup
from shaping.kernels.base import SegmentRule
from shaping.kernels.choice import Backend
from shaping.less import LessOptions, analyze
from shaping.records import Rollout
from shaping.segments import segment_group
from shaping.support import SHARED, STRAY, GroupSupport, Segment, SegmentClass

A, B = [1, 2], [3, 4]
BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])


def rollout_of(*phrases: list[int]) -> Rollout:
    """Phrases at entropy 0, each closed by a fork token (99) at entropy 1."""
    ids = [token for phrase in phrases for token in (*phrase, 99)]
    nats = [value for phrase in phrases for value in (*[0.0] * len(phrase), 1.0)]
    return make_rollout(ids, entropies=nats)


def segment(phrases: list[list[list[int]]], correct: list[bool]) -> SegmentedGroup:
    return make_segmented(make_scored(correct, rollouts=[rollout_of(*each) for each in phrases]))


def segments_of(phrases: list[list[list[int]]], correct: list[bool]) -> tuple[tuple[Segment, ...], ...]:
    return segment(phrases, correct).segments.by_rollout(np.array(correct))


def support_of(entropies: Sequence[float], backend: Backend = "auto", **options: Any) -> GroupSupport:
    """What is found in a group of one response; tokens are numbered, so that no string occurs twice."""
    row = np.array(entropies, np.float32)
    return analyze([np.arange(len(row))], [row], [True], LessOptions(backend=backend, **options)).support


def ranges(support: GroupSupport) -> list[tuple[int, int]]:
    return list(zip(support.segments.starts.tolist(), support.segments.stops.tolist(), strict=True))


@BACKENDS
def test_threshold_is_the_order_statistic_of_the_response(backend: Backend) -> None:
    # T = 10: entry round(8.0) = 8, the second largest. T = 7: entry min(round(5.6), 6) = 6, the largest.
    entropies = [9, 1, 8, 2, 7, 3, 6, 4, 5, 0]
    assert support_of(entropies, backend).thresholds == [8.0]
    assert support_of(entropies[:7], backend).thresholds == [9.0]
    assert support_of([], backend).thresholds == [0.0]


@BACKENDS
@pytest.mark.parametrize("scale", [1.0, 1e-30, -1.0])
def test_threshold_equals_that_of_a_full_sort(backend: Backend, scale: float) -> None:
    rng = np.random.default_rng(0)
    for num_tokens in (1, 2, 7, 8, 100, 3071):
        for values in (rng.standard_normal(num_tokens), rng.integers(-2, 3, num_tokens), np.zeros(num_tokens)):
            row = (values * scale).astype(np.float32)
            wanted = np.sort(row)[min(round(0.8 * num_tokens), num_tokens - 1)]
            found = support_of(row.tolist(), backend)
            assert found.thresholds == [wanted]
            assert (found.num_low, found.num_ties) == ([(row <= wanted).sum()], [(row == wanted).sum()])


def test_rounding_of_the_default_quantile_is_exact() -> None:
    # less.md 1.2: 0.8 n never ends in .5, so the rounded product is (8 n + 5) div 10 in integers.
    assert all(round(0.8 * n) == (8 * n + 5) // 10 for n in range(200_000))


@BACKENDS
def test_runs_are_maximal_half_open_and_at_least_the_minimum_length(backend: Backend) -> None:
    # Of 8 tokens entry round(6.4) = 6 of the sorted entropies is 1.0.
    entropies = [0, 0, 1, 0, 1, 0, 0, 0]
    assert ranges(support_of(entropies, backend, min_length=2)) == [(0, 2), (5, 8)]
    assert ranges(support_of(entropies, backend, min_length=1)) == [(0, 2), (3, 4), (5, 8)]
    assert ranges(support_of(entropies, backend, min_length=1, membership="le")) == [(0, 8)]
    # Entry round(0.4 * 8) = 3 is 0: no token is below it.
    assert ranges(support_of(entropies, backend, min_length=1, quantile=0.4)) == []


@BACKENDS
@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), max_size=30), st.integers(1, 4), st.sampled_from(["lt", "le"]))
def test_runs_equal_those_found_token_by_token(
    backend: Backend, entropies: list[float], min_length: int, membership: str
) -> None:
    found = support_of(entropies, backend, min_length=min_length, membership=membership)
    assert ranges(found) == oracle_runs(entropies, quantile=0.8, min_length=min_length, membership=membership)


def test_class_of_a_segment_follows_from_who_has_it() -> None:
    # Rollouts: correct A; correct A B; wrong B; wrong C; wrong C; wrong D.
    phrases = [[A], [A, B], [B], [[5, 6]], [[5, 6]], [[7, 8]]]
    rows = segments_of(phrases, [True, True, False, False, False, False])
    classes = [[segment.segment_class for segment in row] for row in rows]
    assert classes == [
        [SegmentClass.CORRECT_ONLY],
        [SegmentClass.CORRECT_ONLY, SegmentClass.SHARED],
        [SegmentClass.SHARED],
        [SegmentClass.INCORRECT_ONLY],
        [SegmentClass.INCORRECT_ONLY],
        [SegmentClass.UNIQUE],
    ]
    # Multipliers: A 2 of 2 correct; B shared; C 2 of 4 wrong; D 1 of 4 wrong.
    assert [[segment.multiplier for segment in row] for row in rows] == [[1.0], [1.0, 0.0], [0.0], [0.5], [0.5], [0.25]]


def test_a_string_twice_in_one_rollout_is_unique() -> None:
    rows = segments_of([[A, A], [B]], [True, True])
    assert [segment.segment_class for segment in rows[0]] == [SegmentClass.UNIQUE, SegmentClass.UNIQUE]


def test_support_counts_rollouts_whose_runs_contain_the_string() -> None:
    # B = 3 4 is inside the run 1 2 3 4 of rollout 0, so it has support 2 there; the long run itself has 1.
    long, short = segments_of([[[*A, *B]], [B]], [True, True])
    assert (long[0].num_correct, short[0].num_correct) == (1, 2)
    assert long[0].segment_class is SegmentClass.UNIQUE
    assert short[0].segment_class is SegmentClass.CORRECT_ONLY


def test_token_support_knows_the_strings_inside_a_segment() -> None:
    segmented = segment([[[*A, *B]], [B], [A]], [True, True, False])
    # Rollout 0 holds 1 2 3 4 and a fork: 1 2 is also in the wrong rollout; 3 4 in two correct ones. The fork is at the
    # threshold (the largest entropy of so short a response), but in no run.
    assert segmented.token_support[0].tolist() == [SHARED, SHARED, 2, 2, STRAY]
    assert segmented.token_support[2].tolist() == [SHARED, SHARED, STRAY]


def test_tokens_above_the_threshold_have_no_support() -> None:
    # 10 tokens: entry round(8.0) = 8 of the sorted entropies is 1.0; only the 2.0 is above it.
    rollout = make_rollout(range(1, 11), entropies=[0.0] * 8 + [1.0, 2.0])
    segmented = make_segmented(make_scored([True], rollouts=[rollout]))
    assert segmented.token_support[0].tolist() == [1] * 8 + [STRAY, 0]


def test_empty_responses_have_no_segments_and_threshold_zero() -> None:
    scored = make_scored([True, False], rollouts=[make_rollout([]), rollout_of(A)])
    segmented = segment_group(scored, SegmentRule(min_length=2))
    assert segmented.segments.by_rollout(scored.correct)[0] == ()
    assert segmented.thresholds[0] == 0.0
    assert segmented.token_support[0].shape == (0,)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.lists(st.integers(1, 3), max_size=12), st.booleans()), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_order_of_rollouts_changes_no_segment(rows: list[tuple[list[int], bool]], rng: random.Random) -> None:
    # Letter 3 is the fork.
    rollouts = [make_rollout(ids, entropies=[float(token == 3) for token in ids]) for ids, _ in rows]
    order = list(range(len(rows)))
    rng.shuffle(order)
    correct = [flag for _, flag in rows]
    straight = make_segmented(make_scored(correct, rollouts=rollouts))
    shuffled = make_segmented(make_scored([correct[i] for i in order], rollouts=[rollouts[i] for i in order]))
    straight_rows = straight.segments.by_rollout(straight.arrays.correct)
    shuffled_rows = shuffled.segments.by_rollout(shuffled.arrays.correct)
    for position, source in enumerate(order):
        assert shuffled_rows[position] == straight_rows[source]
        np.testing.assert_array_equal(shuffled.token_support[position], straight.token_support[source])
