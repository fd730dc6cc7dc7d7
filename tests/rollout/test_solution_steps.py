"""Which lists of solution steps can be shown as hints: those of which only the last announces the answer."""

import pytest

from rollout.arithmetic import make_problem
from rollout.solution_steps import hint_text, why_unusable
from shaping.answers.extraction import announced_answers


@pytest.mark.parametrize(
    "steps",
    [
        ("16 - 3 - 4 = 9 eggs.", "9 * 2 = 18 dollars.\n#### 18"),
        ("first", "second", r"so \boxed{18}"),
        # The number of the answer, that nothing announces as one.
        ("half of 36 is 18", "and twice 9 is 18", "The answer is 18."),
        # Another answer, of a part of the problem.
        (r"x = \boxed{3}", r"so \boxed{18}"),
        ("#### Step 1", "The answer of the first part is 3.", "#### 18"),
        ("the only step, so 18",),
        (r"so \boxed{18}",),
    ],
)
def test_steps_of_which_only_the_last_announces_the_answer_are_usable(steps: tuple[str, ...]) -> None:
    assert why_unusable(steps, "18") == ""


@pytest.mark.parametrize(
    ("steps", "number", "how"),
    [
        (("a", r"so \boxed{18}", "as was to be shown"), 2, "announces '18'"),
        ((r"\boxed{\frac{36}{2}}", "b"), 1, r"announces '\\frac{36}{2}'"),
        (("#### 18", "b"), 1, "announces '18'"),
        (("The answer is 18 dollars.", "b"), 1, "announces '18 dollars'"),
        (("a", "b", "**Answer:** $18$", "c"), 3, "announces '18'"),
        # Two announcements, of which the first is the answer.
        ((r"\boxed{18}", r"no, \boxed{3}", "c"), 1, "announces '18'"),
        ((r"so \boxed{1", "8}"), 1, "leaves a box open"),
    ],
)
def test_a_prefix_that_announces_the_answer_is_named_with_its_step(
    steps: tuple[str, ...], number: int, how: str
) -> None:
    rule = "only the last solution step may announce the answer"
    assert why_unusable(steps, "18") == f"{rule}, step {number} of {len(steps)} {how}"


def test_a_list_without_steps_or_with_an_empty_one_is_not_usable() -> None:
    assert why_unusable((), "18") == "a solution must have steps, found none"
    assert why_unusable(("a", " \n", "c"), "18") == "every solution step must have text, step 2 of 3 has none"


def test_without_a_reference_any_announced_answer_counts() -> None:
    assert why_unusable(("the answer is 3", "b"), "") != ""
    assert why_unusable(("it is 3", "b"), "") == ""


def test_steps_of_the_built_in_task_are_usable() -> None:
    for index in range(200):
        problem = make_problem(index)
        assert why_unusable(problem.steps, problem.answer) == ""


def test_a_hint_is_the_steps_one_a_line() -> None:
    assert hint_text(("a", "b")) == "a\nb\n"
    assert hint_text(()) == ""


def test_every_announcement_is_found_and_nothing_else() -> None:
    text = "#### 4\n2 + 2 = 4. The answer is 5. So \\boxed{6} or \\boxed{7}, and 8"
    assert announced_answers(text) == ("6", "7", "4", "5")
    assert announced_answers("2 + 2 = 4, so $x = 4$") == ()
