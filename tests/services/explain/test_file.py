"""Files of groups: what is read, and the one line that says what is wrong."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from explain_builders import WORKED, make_line, make_response, with_fields, worked_line, write_lines

from services.explain.file import GroupRecord, read_groups
from shaping.errors import DataError


def read_one(folder: Path, line: dict[str, Any]) -> GroupRecord:
    (group,) = read_groups(write_lines(folder, line)).groups
    return group


def refusal(folder: Path, *lines: dict[str, Any] | str) -> str:
    """What is said of a file, with its folder left out."""
    with pytest.raises(DataError) as caught:
        read_groups(write_lines(folder, *lines))
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


# -- what is read


def test_a_line_becomes_a_group(tmp_path: Path) -> None:
    fields = {"step": 4, "policy_version": 3, "group_id": "g7", "vocab_size": 99, "extra": {"mine": [1]}}
    group = read_one(tmp_path, worked_line(fields))
    assert (group.line, group.prompt_id, group.prompt) == (1, "worked", "spell")
    assert dict(group.labels) == {"step": 4, "policy_version": 3, "group_id": "g7"}
    assert dict(group.less) == {"min_length": 3}
    assert group.correct.tolist() == [True, True, True, False, False]
    assert group.responses[0].tokens == tuple(WORKED[0])
    np.testing.assert_array_equal(group.responses[0].entropies.lower, np.float32([0.1] * 4 + [1] + [0.1] * 4 + [0.5]))
    assert group.has_exact_entropies and group.has_upper_bounds
    assert group.numbers == frozenset()


def test_strings_get_one_id_per_file_and_ids_stay_as_they_are(tmp_path: Path) -> None:
    first = make_line([make_response("aba", True), make_response("cab", False)])
    second = make_line([make_response("bcd", True)])
    with_ids = make_line([make_response("xy", True, token_ids=[7, 2**31 - 1])])
    groups = read_groups(write_lines(tmp_path, first, second, with_ids)).groups
    assert [response.token_ids.tolist() for response in groups[0].responses] == [[0, 1, 0], [2, 0, 1]]
    assert groups[1].responses[0].token_ids.tolist() == [1, 2, 3]
    assert groups[2].responses[0].token_ids.tolist() == [7, 2**31 - 1]
    assert groups[2].responses[0].tokens == ("x", "y")


def test_ids_alone_are_shown_by_name_where_somebody_knows_it(tmp_path: Path) -> None:
    line = make_line([{"token_ids": [5, 6], "entropies": [0, 1], "correct": True}])
    path = write_lines(tmp_path, line)
    assert read_groups(path).groups[0].responses[0].tokens == ("<5>", "<6>")
    assert read_groups(path, lambda token_id: chr(96 + token_id)).groups[0].responses[0].tokens == ("e", "f")


def test_a_prompt_is_text_or_turns(tmp_path: Path) -> None:
    responses = [make_response("ab", True)]
    user, system = {"role": "user", "content": "2+2?"}, {"role": "system", "content": "be brief"}
    for prompt, text in (("x\ny", "x\ny"), ([user], "2+2?"), ([system, user], "system: be brief\n\nuser: 2+2?")):
        assert read_one(tmp_path, make_line(responses, prompt=prompt)).prompt == text


def test_one_number_stands_for_every_token(tmp_path: Path) -> None:
    responses = [
        make_response("abc", True, advantages=1.5, multipliers=[1, 0.5, 0], shaped_advantages=[1.5, 0.75, 0]),
        make_response("ab", False, advantages=[-1, -2], multipliers=1, shaped_advantages=0),
    ]
    group = read_one(tmp_path, make_line(responses))
    assert group.numbers == {"advantages", "multipliers", "shaped_advantages"}
    assert [row.advantages.tolist() for row in group.responses] == [[1.5, 1.5, 1.5], [-1, -2]]
    assert [row.multipliers.tolist() for row in group.responses] == [[1, 0.5, 0], [1, 1]]
    assert [row.shaped_advantages.tolist() for row in group.responses] == [[1.5, 0.75, 0], [0, 0]]


def test_top_logprobs_become_bounds_and_say_so(tmp_path: Path) -> None:
    response = {"tokens": ["a"], "top_logprobs": [[math.log(0.5), math.log(0.2)]], "correct": True}
    known = read_one(tmp_path, make_line([response], vocab_size=5))
    unknown = read_one(tmp_path, make_line([response]))
    # Worked out in tests/shaping/test_entropy_bounds.py.
    listed = 0.5 * math.log(2) + 0.2 * math.log(5)
    assert known.responses[0].entropies.lower[0] == pytest.approx(listed + 0.2 * math.log(5) + 0.1 * math.log(10))
    assert not known.has_exact_entropies and known.has_upper_bounds
    assert not unknown.has_exact_entropies and not unknown.has_upper_bounds


def test_an_empty_response_is_one(tmp_path: Path) -> None:
    group = read_one(tmp_path, make_line([make_response("", False), make_response("a", True)]))
    assert group.responses[0].tokens == () and len(group.responses[0].entropies.lower) == 0


def test_empty_lines_are_passed_over_and_lines_are_counted_as_in_the_file(tmp_path: Path) -> None:
    path = write_lines(tmp_path, "\n", worked_line(), "  \n", worked_line())
    assert [group.line for group in read_groups(path).groups] == [2, 4]


def test_a_last_line_without_an_end_is_left_out_with_a_notice(tmp_path: Path) -> None:
    whole = json.dumps(worked_line())
    file = read_groups(write_lines(tmp_path, worked_line(), whole[: len(whole) // 2]))
    assert len(file.groups) == 1
    assert file.notices == ("Line 2 has no end and is left out: it was being written when it was read",)
    complete = read_groups(write_lines(tmp_path, worked_line(), whole))
    assert len(complete.groups) == 2 and complete.notices == ()
    assert "bad JSON" in refusal(tmp_path, whole[:40])


def test_a_lone_surrogate_is_no_text_that_could_not_be_written_out(tmp_path: Path) -> None:
    line = json.dumps(make_line([make_response("ab", True)])).replace('"a"', '"\\ud800"')
    token = read_groups(write_lines(tmp_path, line + "\n")).groups[0].responses[0].tokens[0]
    assert token.encode()


# -- what is refused


def test_a_file_that_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must be readable, found No such file or directory"):
        read_groups(tmp_path / "missing.jsonl")
    with pytest.raises(DataError, match="must be readable, found Is a directory"):
        read_groups(tmp_path)
    assert "at least one group, found none (groups.jsonl)" in refusal(tmp_path)
    assert "at least one group, found none (groups.jsonl)" in refusal(tmp_path, "\n\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"version": 1', "found bad JSON: Expecting ',' delimiter"),
        ("[1]", "found a list"),
        ("3", "found a number"),
        ("[" * 100_000, "found bad JSON"),
        ("\xff", "found bad JSON"),
        ("{}", "version must be given, found none; docs/explain.md says how"),
        ('{"version": 2}', "must be 1, the version that this lessrl reads, found 2"),
        ('{"version": true}', "found true"),
        ('{"version": 1}', "responses must be given, found none"),
        ('{"version": 1, "responses": []}', "must hold at least one response, found none"),
        ('{"version": 1, "responses": [3]}', "must be a list of objects, found 3 at index 0"),
        ('{"version": 1, "responses": null}', "responses must be given, found none"),
        ('{"version": 1, "reponses": []}', "unknown field 'reponses'; did you mean 'responses'?"),
        ('{"version": 1, "zzz": []}', "unknown field 'zzz'; known here: version, prompt_id"),
    ],
)
def test_a_line_that_is_no_group_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    message = refusal(tmp_path, worked_line(), text + "\n")
    assert words in message
    assert "(groups.jsonl:2" in message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt_id": None}, "prompt_id must be given"),
        ({"prompt_id": 7}, "must be text, found a number (groups.jsonl:1, prompt_id)"),
        ({"prompt": None}, "prompt must be given"),
        (
            {"prompt": [{"role": "user"}]},
            "content must be given, found none; docs/explain.md says how (groups.jsonl:1, pr",
        ),
        ({"vocab_size": 1}, "must be a whole number >= 2, found 1 (groups.jsonl:1, vocab_size)"),
        ({"step": -1}, "must be a whole number >= 0, found -1 (groups.jsonl:1, step)"),
        ({"step": True}, "must be a whole number >= 0, found true"),
        ({"group_id": 3}, "must be text, found a number (groups.jsonl:1, group_id)"),
        ({"less": []}, "must be an object of options, found a list (groups.jsonl:1, less)"),
        ({"less": {"mu": 5}}, "unknown field 'mu'; known here: mode, min_length"),
        ({"less": {"mode": "best"}}, "mode must be one of containment, compat, got 'best' (groups.jsonl:1, less)"),
        ({"less": {"min_length": 2.5}}, "must be a whole number >= 1, found 2.5 (groups.jsonl:1, less.min_length)"),
        ({"less": {"quantile": 1.5}}, "quantile must be in (0, 1), got 1.5 (groups.jsonl:1, less)"),
        ({"less": {"quantile": "0.8"}}, 'must be a number between 0 and 1, found "0.8"'),
    ],
)
def test_a_field_of_a_group_is_checked(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, worked_line(fields))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tokens": None}, "token_ids or tokens must be given, found neither"),
        ({"tokens": "abc"}, "must be a list of texts, found text (groups.jsonl:1, responses[1].tokens)"),
        ({"tokens": ["a", 3]}, "must be a list of texts, found 3 at index 1"),
        ({"token_ids": [1, 2]}, "found 10 for 2 token ids (groups.jsonl:1, responses[1].tokens)"),
        ({"token_ids": [1.0] * 10}, "must be a list of whole numbers, found 1.0 at index 0"),
        ({"token_ids": [-1] * 10}, "must lie in 0 to 2147483647, found -1 to -1"),
        ({"token_ids": [2**31] * 10}, "must lie in 0 to 2147483647"),
        ({"token_ids": list(range(10))}, "token_ids must be given for all responses of a group or for none"),
        ({"entropies": None}, "either entropies (nats) or top_logprobs must be given, found neither"),
        ({"top_logprobs": [[0.0]] * 10}, "must be given, found both"),
        ({"entropies": [0.1] * 9}, "must have one entry per token, found 9 for 10 tokens"),
        ({"entropies": [0.1] * 9 + [math.nan]}, "must be finite numbers, found nan at index 9"),
        ({"entropies": [-math.inf] * 10}, "must be finite numbers, found -inf at index 0"),
        ({"entropies": [1e39] * 10}, "must be finite numbers, found 1e+39 at index 0"),
        ({"entropies": [10**400] * 10}, "must be finite numbers, found one of hundreds of digits"),
        ({"entropies": [None] * 10}, "must be a list of numbers, found null at index 0"),
        ({"entropies": ["0.1"] * 10}, 'must be a list of numbers, found "0.1" at index 0'),
        ({"entropies": 0.1}, "must be a list of numbers, found a number"),
        ({"entropy": [0.1] * 10}, "unknown field 'entropy'; did you mean 'entropies'? (groups.jsonl:1, responses[1])"),
        ({"correct": None}, "correct must be given"),
        ({"correct": 1}, "must be true or false, found 1 (groups.jsonl:1, responses[1].correct)"),
        ({"advantages": 1.0}, "advantages must be given for all responses of a group or for none, found none (groups"),
        ({"advantages": [1.0]}, "must have one entry per token, found 1 for 10 tokens"),
        ({"advantages": math.nan}, "must be finite numbers, found nan at index 0 (groups.jsonl:1, responses[1].adva"),
        ({"hint": 4}, "must be text, found a number (groups.jsonl:1, responses[1].hint)"),
    ],
)
def test_a_field_of_a_response_is_checked(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    assert words in refusal(tmp_path, with_fields(worked_line(), 1, **fields))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[-1.0]], "must have one list per token, found 1 for 2 tokens"),
        ([-1.0, -1.0], "must be a list of lists, one per token, found -1.0 at index 0"),
        ([[-1.0], [math.nan]], "found nan at index 0 (groups.jsonl:1, responses[0].top_logprobs[1])"),
        ([[-1.0], [None]], "found null at index 0"),
        ([[-1.0], [-1.0, -0.5]], "must fall from the largest"),
        ([[-9.0], [-9.0]], "vocab_size = 8"),
    ],
)
def test_top_logprobs_are_checked(tmp_path: Path, rows: list[Any], words: str) -> None:
    response = {"tokens": ["a", "b"], "top_logprobs": rows, "correct": True}
    message = refusal(tmp_path, make_line([response], vocab_size=8))
    assert words in message and "groups.jsonl:1, responses[0]" in message


def test_one_group_has_one_kind_of_entropies(tmp_path: Path) -> None:
    bounded = {"tokens": ["a"], "top_logprobs": [[0.0]], "correct": True}
    message = refusal(tmp_path, make_line([bounded, make_response("a", True)]))
    assert (
        "entropies must be given for all responses of a group or for none, found none (groups.jsonl:1, respo" in message
    )
