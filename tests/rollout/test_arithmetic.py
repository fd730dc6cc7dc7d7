"""Laws of the built-in arithmetic problems."""

import ast
import operator
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from rollout.arithmetic import (
    HARD_LEVELS,
    LEVEL_WEIGHTS,
    LEVELS,
    MAX_VALUE,
    ArithmeticProblem,
    Split,
    make_problem,
    split_of,
    work_out,
)

POLICY = Path(__file__).parents[2] / "deploy" / "quickstart" / "policy"
OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
STEP = re.compile(r"(?P<left>\d+)(?P<operator>[-+*])(?P<right>\d+)=(?P<result>\d+)(?P<rest>.*)")
EXPRESSION = re.compile(r"[\d(][-+*\d()]*")


GOLDEN_SOLUTION = (
    "Start with 3*6=18 and this gives 4+18+7.",
    "After that, 4+18=22 and this gives 22+7.",
    "Then 22+7=29.",
    "The answer is therefore \\boxed{29}.",
)


def python_value(expression: str) -> int:
    """The value by Python's own grammar, which shares no code with the generator."""

    def value(node: ast.expr) -> int:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        assert isinstance(node, ast.Constant) and isinstance(node.value, int)
        return node.value

    return value(ast.parse(expression, mode="eval").body)


def expression_in(text: str) -> str:
    found = EXPRESSION.findall(text)
    assert len(found) == 1, text
    return str(found[0])


def boxed(text: str) -> list[int]:
    return [int(answer) for answer in re.findall(r"\\boxed\{(\d+)\}", text)]


def problems(count: int, *, split: Split = Split.TRAIN, seed: int = 0) -> list[ArithmeticProblem]:
    return [make_problem(index, split=split, seed=seed) for index in range(count)]


def test_answer_is_the_value_that_python_gives_the_text_of_the_problem() -> None:
    for problem in problems(2000) + problems(500, split=Split.HELD_OUT):
        assert expression_in(problem.problem) == problem.expression
        assert int(problem.answer) == python_value(problem.expression)


def test_only_the_last_step_holds_the_box_and_it_holds_the_answer() -> None:
    for problem in problems(2000):
        assert "boxed" not in "\n".join(problem.steps[:-1])
        assert boxed(problem.steps[-1]) == [int(problem.answer)]
        assert problem.solution.split("\n") == list(problem.steps)


def test_level_counts_the_operations_and_the_steps_before_the_box() -> None:
    for problem in problems(2000):
        assert problem.level == len(re.findall(r"[-+*]", problem.expression)) == len(problem.steps) - 1


def test_every_step_is_right_and_leaves_an_expression_of_the_same_value() -> None:
    for problem in problems(2000):
        for step in problem.steps[:-1]:
            found = STEP.search(step)
            assert found is not None, step
            assert python_value("".join(found.group("left", "operator", "right"))) == int(found["result"])
            left_over = EXPRESSION.findall(found["rest"])
            assert [python_value(e) for e in left_over] in ([], [int(problem.answer)])


def test_numbers_lie_between_zero_and_the_largest_value_even_after_mistakes() -> None:
    for index, problem in enumerate(problems(2000)):
        sloppy = work_out(problem.expression, rng=random.Random(index), mistake_rate=0.5)
        numbers = re.findall(r"\d+", "\n".join((problem.expression, *problem.steps, *sloppy)))
        assert all(0 <= int(number) <= MAX_VALUE for number in numbers)


def test_train_and_held_out_problems_are_disjoint_under_all_seeds() -> None:
    train = {p.expression for seed in range(2) for p in problems(5000, seed=seed)}
    held_out = {p.expression for p in problems(5000, split=Split.HELD_OUT, seed=1)}
    assert not train & held_out
    assert {split_of(expression) for expression in train} == {Split.TRAIN}
    # A list rarely repeats itself, so a few hundred held-out problems are a few hundred different tasks.
    assert len({p.expression for p in problems(256, split=Split.HELD_OUT)}) > 220


def test_same_arguments_give_the_same_problem_and_others_another() -> None:
    assert problems(50, seed=3) == problems(50, seed=3)
    assert problems(50, seed=3) != problems(50, seed=4)
    assert make_problem(7).expression != make_problem(8).expression


def test_problems_do_not_depend_on_the_machine() -> None:
    # Golden: the shipped policy and its tokenizer were trained on this list, so a change here asks for new weights.
    assert make_problem(0).problem == "What is 2*7?"
    assert make_problem(0, split=Split.HELD_OUT).problem == "What is 3+7+5*6?"
    assert make_problem(12345, seed=6).steps == GOLDEN_SOLUTION


def test_levels_are_drawn_by_their_weights_and_can_be_chosen() -> None:
    counts = [sum(p.level == level for p in problems(4000)) for level in LEVELS]
    for level, count in zip(LEVELS, counts, strict=True):
        # Binomial: 4000 draws of share w/17 have a standard deviation below 32.
        assert abs(count - 4000 * LEVEL_WEIGHTS[level] / 17) < 5 * 32
    assert sum(counts) == 4000
    assert {make_problem(index, levels=(2, 4)).level for index in range(50)} == {2, 4}


def test_hard_levels_are_drawn_only_where_they_are_asked_for() -> None:
    assert not {problem.level for problem in problems(4000)} & {*HARD_LEVELS}
    for level in HARD_LEVELS:
        problem = make_problem(0, levels=(level,))
        assert len(problem.steps) == level + 1
        assert int(problem.answer) == python_value(problem.expression)
        assert sum(problem.expression.count(sign) for sign in "+-*") == level


def test_hard_problems_fit_the_quickstart_policy_with_their_longest_hints() -> None:
    tokenizer = Tokenizer.from_file(str(POLICY / "tokenizer.json"))
    hard = [make_problem(index, levels=HARD_LEVELS) for index in range(300)]
    # Prompt, turns of the chat template, and a whole solution: the policy has 512 positions.
    assert max(len(tokenizer.encode(p.problem + p.solution).ids) for p in hard) <= 240


def test_wording_varies_so_that_a_policy_has_choices() -> None:
    wordings = {work_out("3+4*5", rng=random.Random(seed)) for seed in range(200)}
    # 4 openers x 3 links, then 4 openers, then 3 closings: 144 wordings, of which 200 draws see about 108.
    assert len(wordings) > 80
    assert {boxed(wording[-1])[0] for wording in wordings} == {23}


def test_a_mistake_happens_at_the_asked_rate_and_the_box_follows_it() -> None:
    solutions = [work_out("6*7", rng=random.Random(seed), mistake_rate=0.33) for seed in range(2000)]
    wrong = [steps for steps in solutions if boxed(steps[-1]) != [42]]
    # Binomial: the standard deviation of the share is sqrt(0.33 * 0.67 / 2000) = 0.0105.
    assert abs(len(wrong) / 2000 - 0.33) < 5 * 0.0105
    for steps in wrong:
        found = STEP.search(steps[0])
        assert found is not None
        assert boxed(steps[-1]) == [int(found["result"])]


def test_taking_an_operation_before_its_turn_is_among_the_mistakes() -> None:
    first_steps = {work_out("3+4*5", rng=random.Random(seed), mistake_rate=1.0)[0] for seed in range(200)}
    assert any("3+4=7" in step and step.endswith("7*5.") for step in first_steps)


def test_prompt_and_response_are_short() -> None:
    tokenizer = Tokenizer.from_file(str(POLICY / "tokenizer.json"))
    lengths = [len(tokenizer.encode(p.solution).ids) + 1 for p in problems(1000)]
    assert max(lengths) <= 112
    assert 30 <= sum(lengths) / len(lengths) <= 80
    assert max(len(tokenizer.encode(p.problem).ids) for p in problems(1000)) <= 40


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"index": -1}, "index must be >= 0, got -1"),
        ({"index": 0, "levels": ()}, "levels must be a non-empty subset"),
        ({"index": 0, "levels": (2, 9)}, "levels must be a non-empty subset"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make_problem(**arguments)


def test_an_expression_beyond_the_values_is_refused() -> None:
    with pytest.raises(ValueError, match="all its sub-results"):
        work_out("9*9", rng=random.Random(0))
