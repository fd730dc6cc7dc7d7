"""Laws of `lessrl data steps`: which problems hints can be made of, and at which rates."""

import io
import json
from pathlib import Path

import pytest
from data_builders import write_jsonl
from rich.console import Console

from services.data.steps import RefusedSteps, SourceSteps, StepCount, StepsRequest, make_report
from services.data.steps_text import show_steps
from shaping.errors import UserError

QUICKSTART = Path(__file__).parents[3] / "deploy" / "recipes" / "quickstart.yaml"
ROWS = (
    {"question": "one", "answer": "1 + 1 = <<1+1=2>>2\n2 + 1 = 3\n#### 3", "kind": "a"},
    {"question": "two", "answer": "1 + 3 = 4\n#### 4", "kind": "a"},
    # Announced in the first of two steps.
    {"question": "three", "answer": "The answer is 5.\nIndeed.\n#### 5", "kind": "a"},
    {"question": "four", "answer": "2\n3\n4\n#### 4", "kind": "b"},
    {"question": "", "answer": "1\n#### 1", "kind": "a"},
)
STEPS = {"steps_field": "answer"}


def look(folder: Path, **options: object) -> SourceSteps:
    path = write_jsonl(folder / "set.jsonl", *ROWS)
    (source,) = make_report(StepsRequest(source=path, options={**STEPS, **options})).sources
    return source


def shown(request: StepsRequest, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    assert show_steps(request, console) == 0
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_problems_are_counted_by_their_steps_with_the_rates_that_leave_one(tmp_path: Path) -> None:
    source = look(tmp_path)
    assert (source.num_problems, source.num_usable) == (5, 3)
    assert source.counts == (
        StepCount(num_steps=1, num_problems=1, rates=(0.0,)),
        StepCount(num_steps=2, num_problems=1, rates=(0.0, 0.5)),
        StepCount(num_steps=3, num_problems=1, rates=(0.0, 1 / 3, 2 / 3)),
    )


def test_every_refused_problem_is_named_with_its_reason(tmp_path: Path) -> None:
    assert look(tmp_path).refused == (
        RefusedSteps(number=3, reason="only the last solution step may announce the answer, step 1 of 2 announces '5'"),
        RefusedSteps(number=5, reason="a prompt must not be empty, field 'question' holds no text in its last turn"),
    )


def test_what_a_filter_leaves_out_is_no_refusal(tmp_path: Path) -> None:
    source = look(tmp_path, level_field="kind", levels=["a"])
    assert (source.num_problems, source.num_usable, source.num_filtered) == (4, 2, 1)
    assert [each.number for each in source.refused] == [3, 5]


def test_longest_hint_is_all_but_the_last_step(tmp_path: Path) -> None:
    # "1 + 1 = 2\n" has 10 characters; of one step no hint is shown; "2\n3\n" has 4.
    lengths = look(tmp_path).longest_hints
    assert lengths is not None
    assert (lengths.quantiles["min"], lengths.quantiles["median"], lengths.quantiles["max"]) == (0, 4, 10)


def test_options_that_keep_rows_for_a_run_hide_nothing_here(tmp_path: Path) -> None:
    kept = look(tmp_path, on_bad_steps="no_steps", on_bad_row="refuse")
    assert [each.number for each in kept.refused] == [3, 5]


def test_source_without_steps_is_refused_with_what_to_set(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "set.jsonl", *ROWS)
    with pytest.raises(UserError, match=r"must have solution steps, found none named .*steps_field"):
        make_report(StepsRequest(source=path))
    with pytest.raises(UserError, match="--samples must be >= 0, got -1"):
        make_report(StepsRequest(source=path, num_samples=-1, options=STEPS))


def test_recipe_shows_each_of_its_sources_and_a_mixture_each_of_its_own(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "set.jsonl", *ROWS[:2])
    train = {
        "kind": "mixture",
        "sources": [
            {"kind": "jsonl", "path": path, "steps_field": "answer"},
            {"kind": "arithmetic_task", "size": 3, "levels": [7]},
        ],
    }
    request = StepsRequest(source=str(QUICKSTART), options={"data.train": train, "data.evaluation.size": 2})
    sources = make_report(request).sources
    assert [(each.label, each.num_usable) for each in sources] == [
        ("data.train/set", 2),
        ("data.train/arithmetic_task", 3),
        ("data.evaluation", 2),
    ]
    # Seven operations and the box.
    assert [each.num_steps for each in sources[1].counts] == [8]


def test_page_and_json_say_the_same(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "set.jsonl", *ROWS)
    text = shown(StepsRequest(source=path, options=STEPS, num_samples=1))
    for part in ("3 of 5 problems have usable steps", "0, 0.33, 0.67", "line 3", "announces '5'", "step 2"):
        assert part in text
    held = json.loads(shown(StepsRequest(source=path, options=STEPS, as_json=True)))
    assert held["sources"][0]["num_usable"] == 3
    assert held["sources"][0]["refused"][0]["number"] == 3


def test_page_escapes_control_characters_of_the_data(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "\x1b[31mred\nlast\n#### 4"}
    text = shown(StepsRequest(source=write_jsonl(tmp_path / "set.jsonl", row), options=STEPS))
    assert "\x1b" not in text
