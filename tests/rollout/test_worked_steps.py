"""Laws of reading a worked solution as steps: what GSM8K writes, and what other data sets do."""

from pathlib import Path

import pytest
from data_builders import REAL_DATA, load_file, load_jsonl, needs_real_data, refusal

from rollout.sources.base import RowFault
from rollout.worked_steps import AnswerForm, StepsSplit, read_steps

LINES, PARAGRAPHS = StepsSplit.LINES, StepsSplit.PARAGRAPHS
EGGS = "She eats 3 of 16: 16 - 3 = <<16-3=13>>13 are left.\nShe sells them for 13 * 2 = $<<13*2=26>>26.\n#### 26"


def steps_of(value: object, *, split: StepsSplit = LINES, answer_form: AnswerForm = AnswerForm.BOX) -> tuple[str, ...]:
    return read_steps(value, "steps", split=split, answer_form=answer_form)


def test_gsm8k_solution_has_a_step_for_each_line_without_calculator_marks() -> None:
    assert steps_of(EGGS) == (
        "She eats 3 of 16: 16 - 3 = 13 are left.",
        "She sells them for 13 * 2 = $26.\nThe answer is \\boxed{26}.",
    )


def test_answer_behind_hashes_ends_the_last_step_in_the_form_that_is_asked_for() -> None:
    assert steps_of(EGGS, answer_form=AnswerForm.HASHES)[-1] == "She sells them for 13 * 2 = $26.\n#### 26"
    # Thousands separators go as they go in the reference answer.
    assert steps_of("1 + 1\n#### 1,002")[-1] == "1 + 1\nThe answer is \\boxed{1002}."


def test_a_solution_that_is_its_answer_alone_is_one_step() -> None:
    assert steps_of("#### 7") == ("The answer is \\boxed{7}.",)
    assert steps_of(["#### 7"], answer_form=AnswerForm.HASHES) == ("#### 7",)


def test_a_list_is_read_like_lines_and_paragraphs_keep_theirs() -> None:
    assert steps_of(["a <<1+1=2>>2", " ", "b", "#### 3"]) == ("a 2", "b\nThe answer is \\boxed{3}.")
    text = "First\nof two lines.\n\n \nSecond.\n#### 3"
    assert steps_of(text, split=PARAGRAPHS) == ("First\nof two lines.", "Second.\nThe answer is \\boxed{3}.")
    # Three lines, of which the last one with hashes is no step.
    assert len(steps_of(text)) == 3


def test_what_is_no_calculator_mark_or_answer_line_stays() -> None:
    assert steps_of("x << 2\n#### Step 2 of 3\nso \\boxed{4}") == ("x << 2", "#### Step 2 of 3", "so \\boxed{4}")
    assert steps_of("a\n##### Done") == ("a", "##### Done")


def test_nothing_has_no_steps_and_other_values_are_refused() -> None:
    assert steps_of(None) == steps_of("") == steps_of([]) == steps_of(" \n ") == ()
    for value in (4, ["a", 4], {"a": "b"}):
        with pytest.raises(RowFault, match="must be a text or a list of texts, field 'steps' holds"):
            steps_of(value)


def test_rows_without_usable_steps_are_bad_rows_or_are_kept_without_steps(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "answer": EGGS},
        # The first line announces the answer; the last row has no steps at all.
        {"question": "r", "answer": "So the answer is 5.\nCheck it.\n#### 5"},
        {"question": "s", "answer": "5", "own": None},
    ]
    assert "only the last solution step may announce the answer, step 1 of 2 announces '5' (set.jsonl" in refusal(
        tmp_path, *rows, steps_field="answer"
    ).replace(f"{tmp_path}/", "")
    skipping = load_jsonl(tmp_path, *rows, steps_field="answer", on_bad_row="skip")
    assert [(row.number, row.rule) for row in skipping.skipped_rows] == [
        (2, "only the last solution step may announce the answer")
    ]
    keeping = load_jsonl(tmp_path, *rows, steps_field="answer", on_bad_steps="no_steps")
    # "5" is a text of one step, of which no hint is ever shown.
    assert [len(prompt.solution_steps) for prompt in keeping.prompts] == [2, 0, 1]
    assert keeping.skipped_rows == () and keeping.has_solution_steps


def test_steps_options_must_be_known(tmp_path: Path) -> None:
    row = {"question": "q", "answer": EGGS}
    assert (
        load_jsonl(tmp_path, row, steps_field="answer", steps_answer="hashes")
        .prompt(0)
        .solution_steps[-1]
        .endswith("#### 26")
    )
    with pytest.raises(ValueError, match="steps_split"):
        load_jsonl(tmp_path, row, steps_field="answer", steps_split="sentences")


@needs_real_data
def test_every_problem_of_gsm8k_has_usable_steps() -> None:
    prompts = load_file(str(REAL_DATA / "gsm8k.jsonl"), steps_field="answer").prompts
    assert len(prompts) == 1319
    for prompt in prompts:
        assert "<<" not in "".join(prompt.solution_steps)
        assert prompt.solution_steps[-1].endswith(f"\\boxed{{{prompt.reference_answer}}}.")
    # Counted by another way: the file's lines, all but the one with the hashes.
    assert [len(prompt.solution_steps) for prompt in prompts[:4]] == [2, 2, 4, 2]
