"""Laws of the LESS multipliers: hand-worked groups, the golden groups and a brute-force oracle."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containment_oracle import oracle_multipliers
from hypothesis import given, settings
from hypothesis import strategies as st

from shaping.less import multipliers

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "less_golden.npz"

# Two alphabets of phrases: low tokens at entropy 0, a fork token of entropy 1 behind each phrase.
PHRASE_A, PHRASE_B, PHRASE_C = [1, 2, 3], [4, 5, 6], [7, 8, 9]


def respond(*phrases: list[int]) -> tuple[list[int], list[float]]:
    """Phrases of low entropy, each closed by a fork token (99) of high entropy."""
    ids = [token for phrase in phrases for token in (*phrase, 99)]
    nats = [value for phrase in phrases for value in (*[0.0] * len(phrase), 1.0)]
    return ids, nats


def group_multipliers(group: list[tuple[list[int], list[float]]], correct: list[bool], **options: Any) -> list[Any]:
    """The rows, rounded to four digits for comparison with numbers worked by hand."""
    arguments = {"min_length": 3, "quantile": 0.8} | options
    rows = multipliers(
        [np.array(ids, np.int64) for ids, _ in group], [np.array(h) for _, h in group], correct, **arguments
    )
    return [row.astype(np.float64).round(4).tolist() for row in rows]


def test_a_string_of_one_class_gets_the_share_of_its_class_that_has_it() -> None:
    # Three correct rollouts: A in all of them (3/3), B in two (2/3), C in one (1/3). Of 8 tokens the threshold is the
    # entry round(6.4) = 6 of the sorted entropies: 1.0, the forks, which are low themselves (<=) and outside: 1/3.
    group = [respond(PHRASE_A, PHRASE_B), respond(PHRASE_A, PHRASE_B), respond(PHRASE_A, PHRASE_C)]
    rows = group_multipliers(group, [True, True, True])
    fork = 0.3333
    assert rows[0] == [1.0] * 3 + [fork] + [0.6667] * 3 + [fork]
    assert rows[2] == [1.0] * 3 + [fork] + [0.3333] * 3 + [fork]


def test_a_string_of_both_classes_gets_zero_and_each_class_has_its_own_size() -> None:
    group = [respond(PHRASE_A, PHRASE_B), respond(PHRASE_A, PHRASE_C), respond(PHRASE_C, PHRASE_B)]
    # A and B: the correct rollout has both, and a wrong one each: 0. C is in both wrong rollouts: 2/2.
    rows = group_multipliers(group, [True, False, False], outside="keep")
    assert rows[0] == [0.0] * 3 + [1.0] + [0.0] * 3 + [1.0]
    assert rows[1] == [0.0] * 3 + [1.0] + [1.0] * 3 + [1.0]
    assert rows[2] == [1.0] * 3 + [1.0] + [0.0] * 3 + [1.0]


def test_a_string_inside_a_longer_run_counts_at_every_occurrence() -> None:
    # The wrong rollout's run is A alone; the correct one has A twice inside one longer run, which no other has.
    long_run = [*PHRASE_A, 50, *PHRASE_A, 51]
    # The short phrase only puts the threshold (entry round(0.8 * 11) = 9 of nine zeros and two ones) on the forks.
    group = [respond(long_run, [60]), respond(PHRASE_A, PHRASE_A)]
    rows = group_multipliers(group, [True, False], outside="keep")
    assert rows[0] == [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0] + [1.0] * 3
    assert rows[1] == [0.0] * 3 + [1.0] + [0.0] * 3 + [1.0]


def test_runs_that_overlap_without_containment_do_not_match() -> None:
    # Both runs hold 2 3 4, but neither is inside the other; one rollout per class, so 1/N is 1.
    group = [respond([1, 2, 3, 4]), respond([2, 3, 4, 5])]
    assert group_multipliers(group, [True, False]) == [[1.0] * 5, [1.0] * 5]
    assert group_multipliers([*group, *group], [True, False, True, False])[0][:4] == [1.0] * 4


def test_tokens_above_the_threshold_keep_their_advantage() -> None:
    # 10 tokens, entry round(8) = 8 of the sorted entropies is 1.0: only the 9.0 is above it.
    nats = [0.0] * 8 + [1.0, 9.0]
    group = [(list(range(10)), nats), (list(range(20, 30)), nats)]
    rows = group_multipliers(group, [True, True])
    assert rows[0] == [0.5] * 9 + [1.0]


def test_low_tokens_outside_segments_follow_the_option_outside() -> None:
    # The run of 2 is shorter than 3; quantile 0.5 of 6 tokens: entry 3 of (0 0 0.1 0.2 2 3) = 0.2.
    row = ([1, 2, 3, 4, 5, 6], [0.0, 0.0, 2.0, 0.1, 3.0, 0.2])
    group = [row, ([11, 12, 13, 14, 15, 16], row[1])]
    assert group_multipliers(group, [True, True], quantile=0.5)[0] == [0.5, 0.5, 1.0, 0.5, 1.0, 0.5]
    assert group_multipliers(group, [True, True], quantile=0.5, outside="keep")[0] == [1.0] * 6


def test_a_token_equal_to_the_threshold_breaks_a_run_only_under_lt() -> None:
    # Threshold 0.5 (entry round(0.8 * 5) = 4). lt: runs of 2 and 2, too short. le: one run of 5, in two rollouts.
    row = ([1, 2, 3, 4, 5], [0.0, 0.0, 0.5, 0.0, 0.0])
    other = ([6, 7, 8, 9, 10], row[1])
    assert group_multipliers([row, row, other], [True] * 3)[0] == [0.3333] * 5
    assert group_multipliers([row, row, other], [True] * 3, membership="le")[0] == [0.6667] * 5


def test_a_group_of_one_keeps_all() -> None:
    assert group_multipliers([respond(PHRASE_A, PHRASE_A)], [True]) == [[1.0] * 8]


def test_an_empty_response_counts_in_its_class() -> None:
    rows = group_multipliers([respond(PHRASE_A), ([], []), respond(PHRASE_A)], [True, True, True])
    assert rows[0][:3] == [0.6667] * 3
    assert rows[1] == []


def test_no_multiplier_exceeds_one_and_rows_are_float32() -> None:
    rows = multipliers([np.arange(9)] * 3, [np.linspace(0, 1, 9)] * 3, [True, True, False], min_length=2)
    assert all(row.dtype == np.float32 and row.max() <= 1 and row.min() >= 0 for row in rows)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    if not GOLDEN.exists():
        pytest.skip(f"the golden groups lie beside the project and are absent: {GOLDEN.name}")
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("shuffled", [False, True])
def test_golden_groups_are_matched_exactly_in_any_order(golden: dict[str, np.ndarray], shuffled: bool) -> None:
    token_offsets = np.concatenate([[0], np.cumsum(golden["response_lengths"])])
    group_offsets = np.concatenate([[0], np.cumsum(golden["group_sizes"])])
    rng = np.random.default_rng(0)
    for index, (start, stop) in enumerate(pairwise(group_offsets)):
        rows = rng.permutation(np.arange(start, stop)) if shuffled else np.arange(start, stop)
        slices = [slice(token_offsets[row], token_offsets[row + 1]) for row in rows]
        found = multipliers(
            [golden["tokens"][each] for each in slices],
            [golden["entropies"][each] for each in slices],
            golden["correct"][rows],
            min_length=int(golden["mu"][index]),
        )
        for each, row in zip(slices, found, strict=True):
            np.testing.assert_array_equal(row, golden["containment_multiplier"][each], err_msg=f"group {index}")


@st.composite
def small_groups(draw: st.DrawFn) -> dict[str, Any]:
    """Groups over few letters and few entropy values, so that containment, ties and nesting are common."""
    letters, size = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    lengths = [draw(st.integers(0, 16)) for _ in range(size)]
    return {
        "responses": [draw(st.lists(st.integers(0, letters), min_size=n, max_size=n)) for n in lengths],
        "entropies": [draw(st.lists(st.sampled_from([0.0, 0.1, 0.3, 1.0]), min_size=n, max_size=n)) for n in lengths],
        "correct": draw(st.lists(st.booleans(), min_size=size, max_size=size)),
        "min_length": draw(st.integers(1, 4)),
        "quantile": draw(st.sampled_from([0.5, 0.8, 0.9])),
        "membership": draw(st.sampled_from(["lt", "le"])),
        "outside": draw(st.sampled_from(["share", "keep"])),
    }


def run(group: dict[str, Any]) -> list[np.ndarray]:
    arrays = {
        "responses": [np.array(row, np.int32) for row in group["responses"]],
        "entropies": [np.array(row, np.float32) for row in group["entropies"]],
    }
    return multipliers(**(group | arrays))


@settings(max_examples=300, deadline=None)
@given(small_groups())
def test_the_index_equals_comparing_everything_with_everything(group: dict[str, Any]) -> None:
    for row, wanted in zip(run(group), oracle_multipliers(**group), strict=True):
        np.testing.assert_array_equal(row, wanted)


@settings(max_examples=100, deadline=None)
@given(small_groups(), st.randoms(use_true_random=False))
def test_rows_follow_their_responses_in_any_order(group: dict[str, Any], rng: Any) -> None:
    order = list(range(len(group["correct"])))
    rng.shuffle(order)
    per_row = ("responses", "entropies", "correct")
    shuffled = group | {name: [group[name][i] for i in order] for name in per_row}
    rows = run(group)
    for row, source in zip(run(shuffled), order, strict=True):
        np.testing.assert_array_equal(row, rows[source])


@settings(max_examples=50, deadline=None)
@given(small_groups())
def test_renaming_tokens_changes_nothing(group: dict[str, Any]) -> None:
    renamed = group | {"responses": [[2**31 - 1 - 7 * token for token in row] for row in group["responses"]]}
    for row, wanted in zip(run(renamed), run(group), strict=True):
        np.testing.assert_array_equal(row, wanted)


def refuse(match: str, **changes: Any) -> None:
    group: dict[str, Any] = {
        "responses": [np.arange(4), np.arange(4)],
        "entropies": [np.zeros(4), np.zeros(4)],
        "correct": [True, False],
    }
    with pytest.raises(ValueError, match=match):
        multipliers(**(group | changes))


def test_what_is_no_group_is_refused() -> None:
    refuse("at least one response", responses=[], entropies=[], correct=[])
    refuse("one entry per rollout", correct=[True])
    refuse("one entry per rollout", entropies=[np.zeros(4)])
    refuse(r"one entry per token, got shape \(3,\) for 4 tokens \(response 1\)", entropies=[np.zeros(4), np.zeros(3)])
    refuse(r"finite, found NaN or infinity \(response 0\)", entropies=[np.array([0, np.nan, 0, 0]), np.zeros(4)])
    refuse("finite", entropies=[np.zeros(4), np.array([0, 0, -np.inf, 0])])
    refuse("integer array", responses=[np.arange(4.0), np.arange(4)])
    refuse("32 bits", responses=[np.arange(4) + 2**40, np.arange(4)])
    refuse("correct must be boolean", correct=[1.0, 0.0])


def test_options_that_do_not_exist_are_refused_by_name() -> None:
    refuse("mode must be one of containment, got 'compat'", mode="compat")
    refuse("outside must be one of share, keep", outside="drop")
    refuse('membership must be "lt" or "le"', membership="<")
    refuse("min_length must be >= 1", min_length=0)
    refuse("quantile must be in", quantile=1.0)
