"""What a file's groups are explained as: options, advantages, doubt, words and totals."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_builders import make_line, make_response, with_fields, worked_line, write_lines

from services.explain.file import read_groups
from services.explain.group import Doubt, ExplainedGroup, explain_record
from services.explain.summary import Summary, summarise
from services.explain.words import fraction, multiplier, reasons, words
from shaping.errors import DataError, UserError
from shaping.explain import TokenClass
from shaping.less import multipliers

# The worked group of explain_builders, as fractions: k/N of its own class.
WORKED_FRACTIONS = (
    ["2/3"] * 4 + ["1"] + ["0"] * 4 + ["1/3"],
    ["2/3"] * 4 + ["1"] + ["1/3"] * 4 + ["1/3"],
    ["1/3"] * 2 + ["1"] + ["1/3"] * 6 + ["1/3"],
    ["0"] * 4 + ["1"] + ["2/2"] * 4 + ["1/2"],
    ["2/2"] * 4 + ["1"] + ["1/2"] * 4 + ["1/2"],
)


def explained(folder: Path, line: dict[str, Any], **options: Any) -> ExplainedGroup:
    bound = options.pop("bound", "lower")
    (record,) = read_groups(write_lines(folder, line)).groups
    return explain_record(record, options=options, bound=bound)


def totals(folder: Path, *lines: dict[str, Any] | str, bound: Any = "lower", **options: Any) -> Summary:
    file = read_groups(write_lines(folder, *lines))
    return summarise(file, [explain_record(record, options=options, bound=bound) for record in file.groups])


def told(group: ExplainedGroup, row: int, at: int) -> str:
    return words(group, list(reasons(group, row))[at])


def bounded_line(rows: list[list[float]], **fields: Any) -> dict[str, Any]:
    """A group of one response with these probabilities listed for each token."""
    listed = [[math.log(p) for p in row] for row in rows]
    return make_line([{"tokens": ["a"] * len(rows), "top_logprobs": listed, "correct": True}], **fields)


# -- numbers


def test_the_worked_group_gets_the_multipliers_that_can_be_read_off(tmp_path: Path) -> None:
    group = explained(tmp_path, worked_line())
    for row, expected in enumerate(WORKED_FRACTIONS):
        found = list(reasons(group, row))
        assert [fraction(group, each) for each in found] == expected
        np.testing.assert_allclose([multiplier(group, each) for each in found], group.multipliers[row], rtol=1e-6)


def test_advantages_that_a_file_has_not_are_those_of_grpo(tmp_path: Path) -> None:
    group = explained(tmp_path, worked_line())
    # Rewards 1 1 1 0 0: mean 0.6, unbiased standard deviation sqrt(0.3).
    deviation = math.sqrt(0.3) + 1e-6
    assert group.has_computed_advantages
    assert [float(row[0]) for row in group.before] == pytest.approx([0.4 / deviation] * 3 + [-0.6 / deviation] * 2)
    # abcd: two of three correct ones have it.
    assert group.after[0][0] == pytest.approx(0.4 / deviation * 2 / 3)
    assert group.after[0][5] == 0.0
    # Kept: correct rows 0.4 x (4 x 2/3 + 1 + 1/3, that + 4/3, 1 + 9/3), incorrect ones 0.6 x (1 + 4 + 1/2, that + 4/2).
    mass = 0.4 * (4 + 16 / 3 + 4) + 0.6 * (5.5 + 7.5)
    assert group.kept_share == pytest.approx(mass / (0.4 * 30 + 0.6 * 20))


def test_a_files_own_advantages_are_kept(tmp_path: Path) -> None:
    line = worked_line()
    line["responses"] = [{**each, "advantages": index} for index, each in enumerate(line["responses"])]
    group = explained(tmp_path, line)
    assert not group.has_computed_advantages
    assert [float(row[0]) for row in group.before] == [0, 1, 2, 3, 4]
    assert group.after[1][0] == pytest.approx(2 / 3)


def test_options_of_the_command_replace_those_of_the_file_which_replace_the_products(tmp_path: Path) -> None:
    line = worked_line({"less": {"min_length": 3, "outside": "keep"}})
    assert explained(tmp_path, line).why.options.outside == "keep"
    both = explained(tmp_path, line, min_length=2).why.options
    assert (both.min_length, both.outside, both.quantile) == (2, "keep", 0.8)
    assert explained(tmp_path, worked_line({"less": None})).why.options.min_length == 5


def test_options_that_do_not_fit_are_the_users_mistake(tmp_path: Path) -> None:
    for options, rule in (
        ({"mode": "best"}, "mode must be one of"),
        ({"mode": "compat", "match": "kgram"}, 'match must be "segment" in mode "compat"'),
        ({"min_length": 0}, "min_length must be >= 1, got 0"),
    ):
        with pytest.raises(UserError, match=rule):
            explained(tmp_path, worked_line(), **options)


def test_multipliers_are_those_of_the_front_door(tmp_path: Path) -> None:
    line = worked_line()
    for options in ({}, {"outside": "keep"}, {"membership": "le"}, {"scope": "group"}, {"mode": "compat"}):
        group = explained(tmp_path, line, **options)
        ids = [response.token_ids for response in group.record.responses]
        expected = multipliers(ids, group.entropies, group.record.correct, min_length=3, backend="numpy", **options)
        for found, wanted in zip(group.multipliers, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_what_the_trainer_did_is_compared_with_what_less_does(tmp_path: Path) -> None:
    line = worked_line()
    own = explained(tmp_path, line)
    for row, factors in enumerate(own.multipliers):
        line = with_fields(line, row, multipliers=[float(each) for each in factors])
    assert explained(tmp_path, line).num_unlike_applied == 0
    # m, n and the five T: low, in no segment.
    assert explained(tmp_path, line, outside="keep").num_unlike_applied == 7
    shaped = worked_line()
    for row, after in enumerate(own.after):
        shaped = with_fields(shaped, row, shaped_advantages=[float(each) + (row == 4) for each in after])
    assert explained(tmp_path, shaped).num_unlike_applied == 10


# -- bounded entropies


def test_less_runs_on_the_stated_bound_and_counts_what_the_other_would_change(tmp_path: Path) -> None:
    # Seven certain tokens, two whose tail of 0.05 is on one token or on 98, and one of exactly 0.42 nats. The ninth of
    # ten is the threshold: by the lower bounds that of the two, 0.39 nats; by the upper ones theirs again, 0.62.
    rows = [[1.0]] * 7 + [[0.9, 0.05]] * 2 + [[0.85, 0.15]]
    line = bounded_line(rows, vocab_size=100)
    lower, upper = explained(tmp_path, line), explained(tmp_path, line, bound="upper")
    listed = -0.9 * math.log(0.9) - 0.05 * math.log(0.05)
    assert lower.entropies[0][8] == pytest.approx(listed - 0.05 * math.log(0.05))
    assert upper.entropies[0][8] == pytest.approx(listed - 0.05 * math.log(0.05 / 98))
    assert [int((group.why.supports[0] != 0).sum()) for group in (lower, upper)] == [9, 10]
    assert lower.doubt == Doubt(bound="lower", num_differ=1, num_certain=7)
    assert upper.doubt == Doubt(bound="upper", num_differ=1, num_certain=7)
    warnings = totals(tmp_path, line, bound="upper").warnings
    assert "LESS was run on the UPPER BOUND (1 of 1 groups)" in warnings[0]
    assert warnings[1] == "Low or high differs between the two bounds for 1 of 10 tokens; it is certain for 7"


def test_an_upper_bound_without_a_vocabulary_is_refused_and_a_lower_one_says_what_is_missing(tmp_path: Path) -> None:
    line = bounded_line([[0.9, 0.05]] * 6)
    with pytest.raises(DataError, match=r"needs vocab_size, found none \(line 1\)"):
        explained(tmp_path, line, bound="upper")
    group = explained(tmp_path, line)
    assert group.doubt is not None and group.doubt.num_differ is None
    warnings = " ".join(totals(tmp_path, line).warnings)
    assert "NOT exact" in warnings and "LOWER BOUND" in warnings and "no vocab_size" in warnings


def test_exact_entropies_leave_no_doubt(tmp_path: Path) -> None:
    assert explained(tmp_path, worked_line()).doubt is None
    whole = bounded_line([[0.5, 0.5], [0.25, 0.25, 0.25, 0.25], [1.0]], vocab_size=10)
    doubt = explained(tmp_path, whole).doubt
    assert doubt is not None and (doubt.num_differ, doubt.num_certain) == (0, 3)


def test_certain_tokens_stay_on_their_side_whatever_the_entropies_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        probabilities = np.sort(rng.dirichlet(np.full(8, 0.3), size=12) + 1e-9)[:, ::-1]
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        exact = -(probabilities * np.log(probabilities)).sum(axis=1)
        group = explained(tmp_path, bounded_line(probabilities[:, :3].tolist(), vocab_size=8))
        assert group.doubt is not None and group.doubt.num_certain is not None
        low = exact <= np.sort(exact)[round(0.8 * 12)]
        same = low == (group.why.supports[0] != 0)
        # At most the uncertain ones may be on the other side.
        assert int((~same).sum()) <= 12 - group.doubt.num_certain


# -- words


def test_each_class_is_told_in_plain_words(tmp_path: Path) -> None:
    group = explained(tmp_path, worked_line())
    assert told(group, 0, 0) == (
        "In a string of 4 tokens held by 2 of 3 correct rollouts and by no incorrect one: 2/3."
    )
    assert told(group, 0, 4) == "Its entropy is above the threshold, and LESS leaves high-entropy tokens alone: 1."
    assert told(group, 0, 5) == (
        "In a string of 4 tokens held by 1 of 3 correct and 1 of 2 incorrect rollouts, which does not tell right from "
        "wrong: 0."
    )
    assert told(group, 3, 5) == (
        "In a string of 4 tokens held by 2 of 2 incorrect rollouts and by no correct one: 2/2."
    )
    assert told(group, 2, 3) == (
        "In a string of 6 tokens that no other rollout holds, so one rollout's share of the 3 correct ones: 1/3."
    )
    assert told(group, 2, 0) == (
        "Low entropy, but in no run of 3 or more, so one rollout's share of the 3 correct ones: 1/3."
    )
    assert told(group, 3, 9) == (
        "Low entropy, but equal to the threshold, which ends a run, so one rollout's share of the 2 incorrect ones: "
        "1/2."
    )


def test_words_follow_the_options_and_the_size_of_the_class(tmp_path: Path) -> None:
    keep = explained(tmp_path, worked_line(), outside="keep")
    assert told(keep, 2, 0) == "Low entropy, but in no run of 3 or more, so left alone (outside keep): 1."
    alone = make_line([make_response("abcdefgH", True), make_response("stuvwxyH", False)])
    group = explained(tmp_path, alone, quantile=0.9)
    assert told(group, 0, 0) == (
        "In a string of 7 tokens that no other rollout holds, so the share of the only correct rollout: 1/1."
    )
    nobody = make_line([make_response("abcdefgH", True), make_response("abcdefgH", True)])
    assert told(explained(tmp_path, nobody, quantile=0.9), 0, 0) == (
        "In a string of 7 tokens held by 2 of 2 correct rollouts (the group has no incorrect one): 2/2."
    )


def test_compat_is_told_beside_what_the_order_free_rule_would_give(tmp_path: Path) -> None:
    # The first container of abcde stands in the correct rollout 1, so compat never sees the incorrect rollout 2.
    line = make_line([make_response("abcdeH", True), make_response("vabcdewH", True), make_response("yabcdezH", False)])
    group = explained(tmp_path, line, mode="compat", quantile=0.9)
    assert told(group, 0, 0) == (
        "The authors' matching, greedy and with one place per response, finds it in 2 of 2 correct rollouts: 2/2. "
        "The order-free rule would give 0: in a string of 5 tokens held by 2 of 2 correct and 1 of 1 incorrect "
        "rollouts, which does not tell right from wrong."
    )
    # Where both say the same, one sentence does.
    assert told(group, 0, 5).startswith("Low entropy, but equal to the threshold")


# -- totals


def test_totals_of_the_worked_group(tmp_path: Path) -> None:
    summary = totals(tmp_path, worked_line())
    assert (summary.num_groups, summary.num_rollouts, summary.num_tokens, summary.num_correct) == (1, 5, 50, 3)
    assert (summary.num_mixed, summary.num_all_correct, summary.num_all_incorrect) == (1, 0, 0)
    assert (summary.num_low, summary.num_ties) == (45, 5)
    assert summary.class_tokens == {
        TokenClass.CORRECT_ONLY: 8,
        TokenClass.INCORRECT_ONLY: 8,
        TokenClass.SHARED: 8,
        TokenClass.UNIQUE: 4 + 6 + 4,
        TokenClass.STRAY: 2 + 5,
        TokenClass.HIGH: 5,
    }
    # abcd is half of rollouts 0 and 1, and each is one of six ordered pairs of correct rollouts.
    assert summary.overlaps["O_CC"] == pytest.approx((0.5 + 0.5) / 6)
    assert summary.overlaps["O_WW"] == pytest.approx((0.5 + 0.5) / 2)
    assert summary.overlaps["O_CW"] == pytest.approx(0.5 / 6)
    assert summary.overlaps["O_WC"] == pytest.approx(0.5 / 6)
    assert summary.kept == explained(tmp_path, worked_line()).kept_share
    assert summary.most_shared == (("worked", 8 / 50),)
    assert summary.facts[0] == "LESS containment, min length 3, quantile 0.8"
    assert summary.facts[1] == "Advantages before shaping are computed by GRPO from `correct`: the file has none"


def test_groups_are_ranked_by_share_and_told_apart_by_step(tmp_path: Path) -> None:
    plain = make_line([make_response("abcdefgH", True), make_response("stuvwxyH", False)], step=3)
    half = make_line([make_response("abcdefgH", True), make_response("stuabcdefgH", False)], step=4)
    shared = make_line([make_response("abcdefgH", True), make_response("abcdefgH", False)], step=5)
    summary = totals(tmp_path, plain, half, shared, quantile=0.95)
    assert summary.most_shared == (("p (step 5)", 14 / 16), ("p (step 4)", 14 / 19))
    assert summary.most_correct_only == ()
    # All of the correct segment is in the incorrect rollout, and none of the incorrect one's in the correct rollout.
    summary = totals(tmp_path, half, quantile=0.95)
    assert (summary.overlaps["O_CW"], summary.overlaps["O_WC"]) == (1.0, 0.0)


def test_a_reader_is_warned_of_what_makes_figures_mean_little(tmp_path: Path) -> None:
    tied = make_line([make_response("abcdefgh" * 4, True, high="")])
    warnings = " ".join(totals(tmp_path, tied).warnings)
    assert "1 responses have more than 5% of their tokens exactly at the threshold" in warnings
    assert "No segment at all" in warnings
    assert "No group has both correct and incorrect rollouts" in warnings
    assert "No segment" not in " ".join(totals(tmp_path, tied, membership="le").warnings)
    half = worked_line()
    assert totals(tmp_path, half, '{"version":').warnings[0].startswith("Line 2 has no end")
    assert totals(tmp_path, half).warnings == ()
    other = with_fields(half, 0, multipliers=1)
    for row in range(1, 5):
        other = with_fields(other, row, multipliers=1)
    assert "another advantage than the trainer gave them" in totals(tmp_path, other).warnings[0]


def test_a_file_of_several_rules_says_so(tmp_path: Path) -> None:
    summary = totals(tmp_path, worked_line(), worked_line({"less": {"mode": "compat", "min_length": 3}}))
    assert summary.facts[0].startswith("2 sets of LESS options: LESS compat, min length 3")
    assert any("depend on the order of the responses" in fact for fact in summary.facts)
    given = worked_line()
    given["responses"] = [{**each, "advantages": 1} for each in given["responses"]]
    assert "1 of 2 groups have none" in totals(tmp_path, worked_line(), given).facts[1]
    assert totals(tmp_path, given).facts[1] == "Advantages before shaping are the file's"


def test_a_group_without_tokens_or_advantages_has_totals(tmp_path: Path) -> None:
    summary = totals(tmp_path, make_line([make_response("", True), make_response("", True)]))
    assert (summary.num_tokens, summary.kept) == (0, None)
    assert summary.share(summary.num_low) == 0.0
    assert summary.overlaps["O_CC"] is None


def test_records_are_not_changed(tmp_path: Path) -> None:
    (record,) = read_groups(write_lines(tmp_path, worked_line())).groups
    copy = replace(record)
    explain_record(record, options={}, bound="lower")
    assert record == copy
