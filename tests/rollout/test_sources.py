"""Laws of the data sources: what rows become, and one clear line for each thing that can be wrong with them."""

import json
from pathlib import Path
from types import ModuleType

import pyarrow
import pyarrow.parquet
import pytest
from data_builders import GOOD, file_refusal, load_file, load_jsonl, refusal, write_jsonl, write_parquet

from rollout.rows import MAX_ROW_CHARACTERS
from rollout.sources import arithmetic_task, arrow, hub, jsonl, parquet
from shaping.components import ComponentSpec, load
from shaping.errors import DataError, RecipeError
from shaping.records import Message

# -- what rows become


def test_rows_become_prompts_in_order_with_position_and_id(tmp_path: Path) -> None:
    source = load_jsonl(tmp_path, {"problem": "1+1?", "answer": "2"}, {"problem": "1+2?", "answer": 3.0})
    assert len(source) == 2
    second = source.prompt(1)
    assert second.prompt_id == "set-2"
    assert second.position == 1
    assert second.messages == (Message(role="user", content="1+2?"),)
    assert second.reference_answer == "3"
    assert second.solution_steps == ()
    assert not source.has_solution_steps


def test_blank_lines_keep_the_numbers_of_the_lines_after_them(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('\n{"problem": "p", "answer": "1"}\n\n\n{"problem": "q", "answer": "2"}\n')
    source = jsonl.build(jsonl.Config(path=str(path)))
    assert [source.prompt(i).prompt_id for i in range(2)] == ["set-2", "set-5"]


def test_verl_layout_is_read_from_parquet(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    row: dict[str, object] = {
        "data_source": "x",
        "prompt": chat,
        "reward_model": {"ground_truth": "2", "style": "rule"},
        "extra_info": {"index": 7},
    }
    path = write_parquet(tmp_path / "train.parquet", row)
    source = parquet.build(parquet.Config(path=path, id_field="extra_info.index"))
    prompt = source.prompt(0)
    assert prompt.messages == (Message(role="system", content="Be brief."), Message(role="user", content="1+1?"))
    assert prompt.reference_answer == "2"
    assert prompt.prompt_id == "7"


def test_parquet_and_jsonl_give_the_same_prompts(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question": f"{i}?", "answer": float(i)} for i in range(5)]
    from_parquet = parquet.build(parquet.Config(path=write_parquet(tmp_path / "set.parquet", *rows)))
    assert from_parquet.prompts == load_jsonl(tmp_path, *rows).prompts


def test_hub_reads_a_folder_that_datasets_can_load(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", *({"problem": f"{i}?", "answer": str(i)} for i in range(3)))
    config = hub.Config(name=str(folder), cache_dir=str(tmp_path / "cache"), limit=2)
    source = hub.build(config)
    assert [source.prompt(i).reference_answer for i in range(len(source))] == ["0", "1"]
    assert source.prompt(1).prompt_id == "tiny-2"


def test_hub_refuses_what_datasets_cannot_load_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be loadable by `datasets`, found: .*absent"):
        hub.build(hub.Config(name=str(tmp_path / "absent"), cache_dir=str(tmp_path / "cache")))
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", {"problem": "p", "answer": "1"})
    with pytest.raises(DataError, match=r'Unknown split "dev".*set, split dev\)'):
        hub.build(hub.Config(name=str(folder), split="dev", cache_dir=str(tmp_path / "cache")))
    (folder / "train.jsonl").write_text('{"problem": "p", "answer": "1"}\n{"problem": "q", "ans\n')
    with pytest.raises(DataError, match=r"generating the dataset: JSON parse error: .*set, split train\)"):
        hub.build(hub.Config(name=str(folder), cache_dir=str(tmp_path / "other")))
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").touch()
    with pytest.raises(DataError, match=r"scripts are no longer supported.*script, split train\)"):
        hub.build(hub.Config(name=str(tmp_path / "script"), cache_dir=str(tmp_path / "cache")))


def test_suffix_and_system_prompt_frame_the_problem(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "old"}, {"role": "user", "content": "1+1?"}]
    source = load_jsonl(
        tmp_path, {"prompt": chat, "answer": "2"}, system_prompt="new", prompt_suffix="Put it in \\boxed{}."
    )
    assert source.prompt(0).messages == (
        Message(role="system", content="new"),
        Message(role="user", content="1+1? Put it in \\boxed{}."),
    )
    on_a_line = load_jsonl(tmp_path, {"problem": "1+1?", "answer": "2"}, prompt_suffix="\nThink.")
    assert on_a_line.prompt(0).messages[-1].content == "1+1?\nThink."


def test_steps_come_from_a_list_or_from_lines(tmp_path: Path) -> None:
    rows = [
        {"problem": "p", "answer": "3", "steps": ["1+1=2", "2+1=\\boxed{3}"]},
        {"problem": "q", "answer": "3", "steps": "1+1=2\n\n2+1=3\n"},
    ]
    source = load_jsonl(tmp_path, *rows, steps_field="steps")
    assert source.has_solution_steps
    assert source.prompt(0).solution_steps == ("1+1=2", "2+1=\\boxed{3}")
    assert source.prompt(1).solution_steps == ("1+1=2", "2+1=3")


def test_limit_reads_no_row_after_it(tmp_path: Path) -> None:
    rows = [{"problem": "p", "answer": "1"}, {"problem": "q", "answer": "2"}, {"problem": "r", "answer": ""}]
    assert len(load_jsonl(tmp_path, *rows, limit=2)) == 2


# -- which field


def test_named_field_wins_over_detection(tmp_path: Path) -> None:
    row = {"problem": "p", "question": "q", "answer": "1", "final_answer": ["2"], "deep": {"er": "3"}}
    source = load_jsonl(tmp_path, row, prompt_field="question", answer_field="deep.er")
    assert source.prompt(0).messages[0].content == "q"
    assert source.prompt(0).reference_answer == "3"


def test_two_known_fields_that_agree_are_one(tmp_path: Path) -> None:
    source = load_jsonl(tmp_path, {"problem": "p", "question": "p", "answer": 27.0, "final_answer": ["27"]})
    assert source.prompt(0).reference_answer == "27"


def test_two_known_fields_that_differ_anywhere_are_refused(tmp_path: Path) -> None:
    same = {"problem": "p", "question": "p", "answer": "1"}
    assert "found 'problem' and 'question' that differ" in refusal(tmp_path, same, {**same, "question": "other"})
    message = refusal(tmp_path, {"problem": "p", "answer": "1", "final_answer": "2"})
    assert "'final_answer' and 'answer' that differ" in message
    assert message.endswith("line 1); set answer_field")


def test_boxed_solution_serves_where_no_answer_field_is_there(tmp_path: Path) -> None:
    assert load_jsonl(tmp_path, {"problem": "p", "solution": "so \\boxed{4}"}).prompt(0).reference_answer == "4"
    both = load_jsonl(tmp_path, {"problem": "p", "solution": "so \\boxed{4}", "answer": "4.0"})
    assert both.prompt(0).reference_answer == "4.0"


def test_failed_detection_lists_the_fields_found(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"text": "p", "meta": {"label": "1"}})
    assert "a field must hold the prompt, found none with a known name among text, meta.label" in message
    assert "set prompt_field" in message
    message = refusal(tmp_path, {"problem": "p", "label": "1"})
    assert "a field must hold the answer" in message
    assert "problem, label" in message


def test_misspelt_field_name_lists_the_fields_found(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"problem": "p", "answer": "1"}, answer_field="anser")
    assert "answer_field must name a field of the data, found no 'anser' among problem, answer" in message
    assert "steps_field" in refusal(tmp_path, {"problem": "p", "answer": "1"}, steps_field="steps")


# -- what is refused


@pytest.mark.parametrize("module", [arrow, jsonl, parquet])
def test_missing_file_is_refused(module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found n[a-z]+ at .*none; set `path`"):
        module.build(module.Config(path=str(tmp_path / "none")))


def test_empty_file_is_refused(tmp_path: Path) -> None:
    assert "must hold at least one row" in refusal(tmp_path)
    (tmp_path / "blank.jsonl").write_bytes(b"\n \r\n")
    assert "must hold at least one row" in file_refusal(str(tmp_path / "blank.jsonl"))
    table = pyarrow.table({"problem": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(table, tmp_path / "empty.parquet")
    assert "must hold at least one row" in file_refusal(str(tmp_path / "empty.parquet"), "parquet")


@pytest.mark.parametrize("kind", ["arrow", "parquet"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"ARROW1", b'{"problem": "p"}\n', bytes(range(256)) * 9])
def test_file_of_another_format_is_refused_in_one_line(kind: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "set.any"
    path.write_bytes(content)
    assert f"must be readable {kind.replace('arrow', 'Arrow')}, found: " in file_refusal(str(path), kind)


def test_binary_file_is_refused_as_jsonl_even_when_skipping(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "set.jsonl", {"problem": "p" * 9, "answer": "1"})
    for on_bad_row in ("refuse", "skip"):
        message = file_refusal(path, on_bad_row=on_bad_row)
        assert "a line must be" in message
        assert "set.jsonl, line 1); no other row can be read" in message


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_file_in_another_encoding_is_refused(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps(GOOD) + "\n", encoding=encoding)
    assert "a line must be UTF-8, found" in file_refusal(str(path))


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    line = json.dumps(GOOD).encode()
    path.write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n" + line + b"\r\n")
    assert [prompt.prompt_id for prompt in load_file(str(path)).prompts] == ["set-1", "set-3"]


UNREADABLE_LINES = [
    (b'{"problem": "q", "answer": }', "must be a JSON object, found: Expecting value"),
    (b'{"problem": "q"', "must be a JSON object, found: Expecting ',' delimiter"),
    (b'["q", "2"]', "must be a JSON object, found a list"),
    (b"null", "must be a JSON object, found null"),
    (b'{"problem": "q', "found: Unterminated string starting at character 12"),
    (b'{"problem": "\xff", "answer": "2"}', "must be UTF-8"),
    (b'{"problem": "q", "answer": ' + b"1" * 5000 + b"}", "of usual size"),
    (b"[" * 100_000, "of usual size"),
    (b'{"problem": "' + b"q" * jsonl.MAX_LINE_BYTES + b'"}', "at most 16,777,216 bytes, found more"),
    (b'{"problem": "' + b"q" * 3 * jsonl.MAX_LINE_BYTES + b'"}', "at most 16,777,216 bytes, found more"),
    (b'{"problem": "' + b"q" * MAX_ROW_CHARACTERS + b'", "answer": "1"}', "at most 1,000,000 characters"),
    (b'{"problem": "\\ud800", "answer": "1"}', "must be Unicode, found the lone surrogate"),
]


@pytest.mark.parametrize(("line", "fault"), UNREADABLE_LINES, ids=[fault for _, fault in UNREADABLE_LINES])
def test_unreadable_line_is_refused_with_its_number(line: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    good = json.dumps(GOOD).encode()
    for after in (b"", b"\n", b"\n" + good):
        path.write_bytes(good + b"\n" + line + after)
        message = file_refusal(str(path))
        assert fault in message
        assert len(message) < 500
        assert "set.jsonl, line 2); correct it, or set on_bad_row: skip" in message
        source = load_file(str(path), on_bad_row="skip")
        assert [(row.number, row.is_filtered) for row in source.skipped_rows] == [(2, False)]
        assert source.prompts[-1].prompt_id == ("set-3" if after.endswith(good) else "set-1")


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ({"problem": "q", "answer": " "}, "must have an answer, field 'answer' holds none"),
        ({"problem": "q", "answer": None}, "must have an answer, field 'answer' holds none"),
        ({"problem": "q"}, "must have an answer, field 'answer' holds none"),
        ({"problem": "q", "answer": {"x": 1}}, "must be text, a number or a list of these, found a dict"),
        ({"problem": "  ", "answer": "2"}, "a prompt must not be empty, field 'problem'"),
        ({"problem": None, "answer": "2"}, "a prompt must not be empty, field 'problem'"),
        ({"problem": [], "answer": "2"}, "a prompt must not be empty, field 'problem'"),
        ({"problem": 5, "answer": "2"}, "must be text or a list of chat turns, field 'problem' is a int"),
        ({"problem": [{"role": "user"}], "answer": "2"}, "must hold texts `role` and `content`"),
        ({"problem": [{"role": "assistant", "content": "q"}], "answer": "2"}, "ends with role 'assistant'"),
    ],
)
def test_bad_row_is_refused_with_its_number_or_skipped_and_counted(bad: object, fault: str, tmp_path: Path) -> None:
    good = {"problem": "p", "answer": "1"}
    message = refusal(tmp_path, good, bad, good)
    assert fault in message
    assert "set.jsonl, line 2)" in message
    source = load_jsonl(tmp_path, good, bad, good, on_bad_row="skip")
    assert [prompt.prompt_id for prompt in source.prompts] == ["set-1", "set-3"]
    assert [prompt.position for prompt in source.prompts] == [0, 1]
    assert [row.number for row in source.skipped_rows] == [2]
    assert fault in source.skipped_rows[0].reason


def test_first_bad_row_is_the_one_named(tmp_path: Path) -> None:
    rows = [{"problem": "p", "answer": "1"}, {"problem": "", "answer": "1"}, {"problem": "p", "answer": ""}]
    assert "line 2)" in refusal(tmp_path, *rows)


def test_no_usable_row_is_refused_even_when_skipping(tmp_path: Path) -> None:
    message = refusal(tmp_path, {"problem": "p", "answer": ""}, {"problem": "q", "answer": ""}, on_bad_row="skip")
    assert "all 2 were skipped, the first because: a row must have an answer" in message
    path = tmp_path / "junk.jsonl"
    path.write_text("x\ny\n")
    with pytest.raises(DataError, match="line 1"):
        jsonl.build(jsonl.Config(path=str(path), on_bad_row="skip"))


def test_repeated_id_is_refused(tmp_path: Path) -> None:
    rows = [{"problem": "p", "answer": "1", "id": 4}, {"problem": "q", "answer": "2", "id": 4}]
    assert "ids must be unique, line 1 has the same" in refusal(tmp_path, *rows, id_field="id")
    assert "must have an id" in refusal(tmp_path, {"problem": "p", "answer": "1", "id": None}, id_field="id")


def test_field_called_id_may_not_repeat_though_rows_are_numbered(tmp_path: Path) -> None:
    rows = [{"problem": each, "answer": "1", "id": own} for each, own in (("p", 4), ("q", None), ("r", None), ("s", 4))]
    assert "ids must be unique, line 1 has the same" in refusal(tmp_path, *rows)
    assert "line 4)" in refusal(tmp_path, *rows)
    skipping = load_jsonl(tmp_path, *rows, on_bad_row="skip")
    assert [each.prompt_id for each in skipping.prompts] == ["set-1", "set-2", "set-3"]
    assert [each.number for each in skipping.skipped_rows] == [4]
    assert [each.prompt_id for each in load_jsonl(tmp_path, *rows, id_field=None).prompts][-1] == "set-4"
    path = write_parquet(tmp_path / "set.parquet", *rows)
    assert "ids must be unique, row 1 has the same" in file_refusal(path, "parquet")


def test_steps_that_give_the_answer_away_early_are_refused(tmp_path: Path) -> None:
    row = {"problem": "p", "answer": "3", "steps": ["so \\boxed{3}", "check"]}
    assert "only the last solution step may announce the answer" in refusal(tmp_path, row, steps_field="steps")
    good = {**row, "steps": ["a", "b"]}
    assert "must have solution steps" in refusal(tmp_path, good, {**row, "steps": []}, steps_field="steps")
    assert "must be a text or a list of texts" in refusal(tmp_path, good, {**row, "steps": 4}, steps_field="steps")


def test_limit_below_one_is_refused_by_name() -> None:
    spec = ComponentSpec(kind="jsonl", options={"path": "x", "limit": 0})
    with pytest.raises(RecipeError, match=r"limit must be >= 1 or null, got 0 \(data\.train\.jsonl\)"):
        load("rollout.sources", spec, "data.train")


# -- the built-in task


def test_arithmetic_prompts_have_steps_and_their_answer_in_the_last_one() -> None:
    source = arithmetic_task.build(arithmetic_task.Config(size=50, levels=(2, 4)))
    assert len(source) == 50
    assert source.has_solution_steps
    for index in range(50):
        prompt = source.prompt(index)
        assert prompt.position == index
        assert f"\\boxed{{{prompt.reference_answer}}}" in prompt.solution_steps[-1]
        # A level is its number of operations, and so of the steps before the boxed one.
        assert len(prompt.solution_steps) - 1 in (2, 4)


def test_arithmetic_options_are_checked() -> None:
    for options, fault in (({"size": 0}, "size must be >= 1"), ({"levels": [9]}, "levels must be")):
        with pytest.raises(RecipeError, match=fault):
            load("rollout.sources", ComponentSpec(kind="arithmetic_task", options=options), "data")
    with pytest.raises(IndexError):
        arithmetic_task.build(arithmetic_task.Config(size=3)).prompt(3)


def test_arithmetic_splits_differ() -> None:
    spec = ComponentSpec(kind="arithmetic_task", options={"split": "held_out", "size": 30})
    held_out = load("rollout.sources", spec, "data").build()
    train = arithmetic_task.build(arithmetic_task.Config(size=30))
    assert not {held_out.prompt(i).messages for i in range(30)} & {train.prompt(i).messages for i in range(30)}
