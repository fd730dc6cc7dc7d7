"""LESS by hand: small groups whose every multiplier follows from a line of arithmetic, on both backends.

Golden groups and oracles are in `test_less_exact.py`, laws and errors in `test_less_laws.py`.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shaping.less import (
    LessOptions,
    analyze,
    batch_multipliers,
    multipliers,
    shape_advantages,
)
from shaping.support import SegmentClass

ROOT = Path(__file__).resolve().parents[2]

# Two alphabets of phrases: low tokens at entropy 0, a fork token of entropy 1 behind each phrase.
PHRASE_A, PHRASE_B, PHRASE_C = [1, 2, 3], [4, 5, 6], [7, 8, 9]


def respond(*phrases: list[int]) -> tuple[list[int], list[float]]:
    """Phrases of low entropy, each closed by a fork token (99) of high entropy."""
    ids = [token for phrase in phrases for token in (*phrase, 99)]
    nats = [value for phrase in phrases for value in (*[0.0] * len(phrase), 1.0)]
    return ids, nats


def group_multipliers(group: list[tuple[list[int], list[float]]], correct: list[bool], **options: Any) -> list[Any]:
    """The rows of both backends, rounded to four digits for comparison with numbers worked by hand."""
    arguments = {"min_length": 3, "quantile": 0.8} | options
    found = []
    for backend in ("numba", "numpy"):
        rows = multipliers(
            [np.array(ids, np.int64) for ids, _ in group],
            [np.array(h) for _, h in group],
            correct,
            **arguments,
            backend=backend,
        )
        found.append([row.astype(np.float64).round(4).tolist() for row in rows])
    assert found[0] == found[1]
    return found[0]


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


def test_kgrams_match_where_runs_only_overlap() -> None:
    # 3-grams 1 2 3, 2 3 4 and 2 3 4, 3 4 5: 2 3 4 is in both classes; tokens 1 and 5 have a gram of their own, 1/1.
    group = [respond([1, 2, 3, 4]), respond([2, 3, 4, 5])]
    assert group_multipliers(group, [True, False], match="kgram") == [[1.0, 0.0, 0.0, 0.0, 1.0], [0.0] * 3 + [1.0] * 2]
    # In one class: 2 3 4 is in 2 of 2, the grams around it in 1 of 2; forks 1/2.
    assert group_multipliers(group, [True, True], match="kgram")[0] == [0.5, 1.0, 1.0, 1.0, 0.5]


def test_the_threshold_may_be_that_of_the_whole_group() -> None:
    # Alone each row of four has its maximum as threshold (entry 3), so all is low: 1/2. Together the entry is
    # round(0.8 * 8) = 6 of 0 0 0 1 1 1 5 9: the 9 is above it.
    group = [([1, 2, 3, 4], [0.0, 0.0, 0.0, 5.0]), ([11, 12, 13, 14], [1.0, 1.0, 1.0, 9.0])]
    assert group_multipliers(group, [True, True]) == [[0.5] * 4, [0.5] * 4]
    assert group_multipliers(group, [True, True], scope="group") == [[0.5] * 4, [0.5] * 3 + [1.0]]


def test_compat_stops_at_the_first_container() -> None:
    # A lies in a longer run of a right and of a wrong rollout. Containment: shared. Compat meets the right one first:
    # A is in two right rollouts, 2/2; what no match wrote keeps 1/N.
    group = [respond(PHRASE_A), respond([50, *PHRASE_A]), respond([60, *PHRASE_A])]
    correct = [True, True, False]
    assert group_multipliers(group, correct) == [[0.0] * 3 + [0.5], [0.5, *[0.0] * 3, 0.5], [1.0, *[0.0] * 3, 1.0]]
    assert group_multipliers(group, correct, mode="compat") == [[1.0] * 3 + [0.5], [0.5, *[1.0] * 3, 0.5], [1.0] * 5]


def test_compat_keeps_one_position_per_response() -> None:
    # A is in 2 of 2 rollouts, and twice in the first: the last match that is written records its first place.
    group = [respond(PHRASE_A, PHRASE_A), respond(PHRASE_A)]
    assert group_multipliers(group, [True, True])[0] == [1.0] * 3 + [0.5] + [1.0] * 3 + [0.5]
    assert group_multipliers(group, [True, True], mode="compat")[0] == [1.0] * 3 + [0.5] * 5


def test_compat_shrinks_a_key_to_the_shorter_string() -> None:
    # A B is in both right rollouts, A in the wrong one too. Compat moves the key from A B to A: B falls back to 1/2.
    group = [respond([*PHRASE_A, *PHRASE_B]), respond([*PHRASE_A, *PHRASE_B]), respond(PHRASE_A)]
    correct = [True, True, False]
    assert group_multipliers(group, correct)[0] == [0.0] * 3 + [1.0] * 3 + [0.5]
    assert group_multipliers(group, correct, mode="compat")[0] == [0.0] * 3 + [0.5] * 3 + [0.5]


def test_compat_depends_on_the_order_of_responses() -> None:
    # Of the right rollouts' longer runs around A the first one in the list is the container: the other one gets 1/3.
    a, first, second = respond(PHRASE_A), respond([50, *PHRASE_A]), respond([60, *PHRASE_A])
    straight = group_multipliers([a, first, second], [True] * 3, mode="compat")
    turned = group_multipliers([a, second, first], [True] * 3, mode="compat")
    assert straight[1] == turned[1] == [0.3333, *[0.6667] * 3, 0.3333]
    assert straight[2] == turned[2] == [0.3333] * 5


def test_compat_too_can_keep_low_tokens_outside_segments() -> None:
    # Nothing matches: 1/2 on the segment's tokens; the fork at the threshold is low and in no segment.
    group = [respond(PHRASE_A), respond(PHRASE_B)]
    assert group_multipliers(group, [True, True], mode="compat") == [[0.5] * 4] * 2
    assert group_multipliers(group, [True, True], mode="compat", outside="keep") == [[0.5] * 3 + [1.0]] * 2


def test_compat_leaves_rows_of_no_advantage_alone() -> None:
    factors = [np.array([0.5, 0.0], np.float32)] * 3
    rows = [np.array(row, np.float32) for row in ([2.0, -2.0], [4e-9, -5e-9], [5e-9, -6e-9])]
    # 4e-9 + 5e-9 is below 1e-8, 5e-9 + 6e-9 is not.
    shaped = shape_advantages(factors, rows, mode="compat")
    assert shaped[0].tolist() == [1.0, 0.0]
    assert shaped[1].tolist() == rows[1].tolist()
    assert shaped[2].tolist() == [np.float32(2.5e-9), 0.0]
    assert shape_advantages(factors, rows, mode="containment")[1].tolist() == [np.float32(2e-9), 0.0]
    assert not any(np.shares_memory(out, row) for out, row in zip(shaped, rows, strict=True))


def test_an_analysis_says_who_has_what() -> None:
    # Right: A B and A C; wrong: C and an empty one. Of the right ones' tokens A is repeated, B unique, C shared.
    group = [respond(PHRASE_A, PHRASE_B), respond(PHRASE_A, PHRASE_C), respond(PHRASE_C), ([], [])]
    correct = [True, True, False, False]
    found = analyze([ids for ids, _ in group], [nats for _, nats in group], correct)
    assert not found.support.segments
    found = analyze([ids for ids, _ in group], [nats for _, nats in group], correct, LessOptions(min_length=3))
    assert [row.tolist() for row in found.multipliers][:2] == [
        [1.0] * 3 + [0.5] + [0.5] * 3 + [0.5],
        [1.0] * 3 + [0.5] + [0.0] * 3 + [0.5],
    ]
    counts = found.counts
    # 20 tokens, all low (every threshold is 1.0); the five forks tie with it and are in no segment.
    assert (counts.num_tokens, counts.num_low, counts.num_ties, counts.num_stray) == (20, 20, 5, 5)
    assert counts.num_segment_tokens == {
        SegmentClass.CORRECT_ONLY: 6,
        SegmentClass.INCORRECT_ONLY: 0,
        SegmentClass.SHARED: 6,
        SegmentClass.UNIQUE: 3,
    }
    # Right to right: 3 of 6 tokens each way. Right to wrong: C only, 3 of 6, for one of four pairs. Wrong to right: C
    # in one of two. Wrong to wrong: the empty one has no C, and no pair of its own.
    overlaps = (counts.overlap_cc, counts.overlap_cw, counts.overlap_wc, counts.overlap_ww)
    assert [overlap.share for overlap in overlaps] == [0.5, 0.125, 0.5, 0.0]
    assert [overlap.num_pairs for overlap in overlaps] == [2, 4, 2, 1]


AFTER_WARM_UP = """
import numpy as np
from shaping.kernels.compiled import compat, kgrams, support
from shaping.less import LessOptions, batch_analyze, warm_up
used = {used}
warm_up(LessOptions(**{options}))
before = len(used.signatures)
tokens = np.arange(200) % 3
entropies = (np.arange(200) % 10 == 9).astype(np.float32)
group = ([tokens, tokens], [entropies, entropies], [True, False])
batch_analyze([group], LessOptions(**({options} | {{"min_length": 2}})))
assert before == len(used.signatures) == 1, (before, len(used.signatures))
"""


@pytest.mark.parametrize(
    ("used", "options"),
    [
        ("support.find_support", {"min_length": 2**31 - 1, "quantile": 0.8}),
        ("compat.match_greedily", {"mode": "compat", "min_length": 7, "quantile": 0.5}),
        ("kgrams.find_gram_support", {"match": "kgram", "membership": "le", "min_length": 20, "quantile": 0.99}),
    ],
)
def test_after_a_warm_up_nothing_is_left_to_compile(used: str, options: dict[str, Any]) -> None:
    # In a process of its own: what another test compiled would hide what a warm-up left out.
    script = AFTER_WARM_UP.format(used=used, options=options)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_groups_may_come_from_an_iterator() -> None:
    group = ([np.arange(4)], [np.zeros(4)], [True])
    (rows,) = batch_multipliers(each for each in [group])
    assert rows[0].tolist() == [1.0] * 4


def test_options_are_checked_when_they_are_made() -> None:
    with pytest.raises(ValueError, match=r"quantile must be in \(0, 1\), got 1.5"):
        LessOptions(quantile=1.5)
