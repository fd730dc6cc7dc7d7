"""Laws of the data sources on real benchmarks and training sets, as they are published: no option but the path."""

import pytest
from data_builders import REAL_DATA, file_refusal, load_file, needs_real_data


@needs_real_data
@pytest.mark.parametrize(
    ("name", "num_rows", "first_problem", "first_answer", "last_answer"),
    [
        ("aime24", 30, "Every morning Aya goes", "204", "902"),
        ("aime25", 30, "Find the sum of all integer bases", "70", "240"),
        # Its answers are floats: 27.0.
        ("amc23", 40, "Cities $A$ and $B$", "27", "8"),
        ("math500", 500, "Convert the point $(0,3)$", r"\left( 3, \frac{\pi}{2} \right)", r"106^\circ"),
        ("minerva_math", 272, "Each of the two Magellan telescopes", "1.6", "10.1"),
        ("olympiadbench", 675, "Xenia and Sergey play", "2", "11"),
        ("gsm8k", 1319, "Janet\u2019s ducks lay 16 eggs", "18", "14"),
    ],
)
def test_every_row_of_the_real_benchmarks_loads_without_options(
    name: str, num_rows: int, first_problem: str, first_answer: str, last_answer: str
) -> None:
    source = load_file(str(REAL_DATA / f"{name}.jsonl"))
    assert len(source) == num_rows
    assert source.skipped_rows == ()
    assert source.prompts[0].messages[0].content.startswith(first_problem)
    assert source.prompts[0].reference_answer == first_answer
    assert source.prompts[-1].reference_answer == last_answer
    assert all("boxed" not in prompt.reference_answer for prompt in source.prompts)


@needs_real_data
def test_several_answers_stay_one_text() -> None:
    # Line 14: ["$69$,$84$"].
    source = load_file(str(REAL_DATA / "olympiadbench.jsonl"))
    assert source.prompts[13].reference_answer == "$69$,$84$"


@needs_real_data
def test_level_of_a_real_benchmark_filters_it() -> None:
    source = load_file(str(REAL_DATA / "math500.jsonl"), level_field="level", min_level=4)
    # Lines by level: 43, 90, 105, 128, 134.
    assert len(source) == 128 + 134
    assert len(source.skipped_rows) == 43 + 90 + 105


@needs_real_data
def test_real_training_set_loads_but_for_its_one_row_without_an_answer() -> None:
    path = str(REAL_DATA / "dsr_sub.parquet")
    source = load_file(path, "parquet", on_bad_row="skip")
    # The file has 1209 rows; the ground truth of row 266 is an empty text.
    assert len(source) == 1208
    assert [row.number for row in source.skipped_rows] == [266]
    assert source.prompt(0).reference_answer == "\\frac{3}{7}"
    message = file_refusal(path, "parquet")
    assert f"field 'reward_model.ground_truth' holds none ({path}, row 266)" in message


@needs_real_data
def test_one_problem_repeated_gives_prompts_of_their_own() -> None:
    source = load_file(str(REAL_DATA / "pi1_r128.parquet"), "parquet")
    assert len({prompt.messages for prompt in source.prompts}) == 1
    assert len({prompt.prompt_id for prompt in source.prompts}) == 128
