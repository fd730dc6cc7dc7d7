"""Built-in problems of the quickstart task: small arithmetic, worked out one operation per step.

Flow: (seed, split, index) -> one problem with its reference answer and a worked solution. Pure and endless; nothing is
stored. It knows neither tokens nor policies; a prompt source wraps it, and the warm-up of the quickstart policy
(deploy/quickstart) reads its worked solutions, with mistakes mixed in on request.

A solution picks its wording at random (tokens of high entropy) around fixed phrases and copied numbers (low entropy);
which operation comes next, and its result, decide whether the answer is right.
"""

import hashlib
import random
from dataclasses import dataclass
from enum import StrEnum

MAX_VALUE = 49
"""Largest number that occurs in a problem or solution; the smallest is 0."""

LEVELS = (1, 2, 3, 4)
"""Difficulty levels of the task: the number of operations, also the number of steps before the one with the box."""

HARD_LEVELS = (5, 6, 7)
"""Levels that are drawn only where they are asked for: too hard for the quickstart policy without hints."""

LEVEL_WEIGHTS = {1: 2, 2: 8, 3: 6, 4: 1, 5: 1, 6: 1, 7: 1}
"""How often each level is drawn, of those that are allowed."""

_HELD_OUT_ONE_IN = 5
_PARENTHESES_RATE = 0.5

_QUESTIONS = ("Compute {}.", "What is {}?", "Evaluate {}.", "Find the value of {}.")
_FIRST_OPENERS = ("First, ", "To start, ", "We begin with ", "Start with ")
_NEXT_OPENERS = ("Then ", "Next, ", "Now ", "After that, ")
_LINKS = (", which leaves {}.", ", so we have {}.", " and this gives {}.")
_CLOSINGS = (
    "So the final answer is \\boxed{{{}}}.",
    "The answer is therefore \\boxed{{{}}}.",
    "This means that the result is \\boxed{{{}}}.",
)


class Split(StrEnum):
    """Which part of all expressions a problem is drawn from; the parts are disjoint."""

    TRAIN = "train"
    HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticProblem:
    """One problem, its reference answer and a correct worked solution."""

    problem: str
    expression: str
    answer: str
    steps: tuple[str, ...]
    level: int

    @property
    def solution(self) -> str:
        """The steps as one response text, a line each."""
        return "\n".join(self.steps)


def make_problem(
    index: int, *, split: Split = Split.TRAIN, seed: int = 0, levels: tuple[int, ...] = LEVELS
) -> ArithmeticProblem:
    """The problem at one position of an endless, reproducible list.

    Args:
        index: position, >= 0.
        split: part to draw from. An expression's hash decides its part, so no wording of a held-out expression is ever
            a train problem, under any seed.
        seed: selects the list.
        levels: allowed difficulties, a non-empty subset of LEVELS and HARD_LEVELS.
    Returns:
        The problem; equal arguments give equal problems on every machine.
    Raises:
        ValueError: index < 0, or levels empty, or not levels.
    """
    if index < 0:
        raise ValueError(f"index must be >= 0, got {index}")
    if not levels or not set(levels) <= LEVEL_WEIGHTS.keys():
        raise ValueError(f"levels must be a non-empty subset of {(*LEVEL_WEIGHTS,)}, got {levels}")
    weights = [LEVEL_WEIGHTS[level] for level in levels]
    # A string seed is hashed with SHA-512 by the standard library: the same on all platforms, and neighbours differ.
    rng = random.Random(f"arithmetic/{seed}/{split}/{index}")
    level = rng.choices(levels, weights)[0]
    expression = _draw_expression(rng, level)
    while split_of(expression) is not split:
        expression = _draw_expression(rng, level)
    value = _evaluate(_tokenize(expression))
    assert value is not None
    return ArithmeticProblem(
        problem=rng.choice(_QUESTIONS).format(expression),
        expression=expression,
        answer=str(value),
        steps=work_out(expression, rng=rng),
        level=level,
    )


def split_of(expression: str) -> Split:
    """The part that an expression belongs to: one in five is held out, by the SHA-256 of its text."""
    digest = hashlib.sha256(expression.encode()).digest()
    return Split.HELD_OUT if int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0 else Split.TRAIN


def work_out(expression: str, *, rng: random.Random, mistake_rate: float = 0.0) -> tuple[str, ...]:
    """A worked solution: one operation per step, then the boxed result.

    Args:
        expression: as in ArithmeticProblem.expression.
        rng: picks the wording, the order of independent operations and the mistakes.
        mistake_rate: chance, per operation, of a typical slip that the rest of the solution then builds on: a result
            off by one or by ten, or an operation taken before its turn. 0 gives a correct solution.
    Returns:
        The steps; only the last one holds a box.
    Raises:
        ValueError: the expression has a sub-result outside 0..MAX_VALUE.
    """
    tokens = _tokenize(expression)
    if _evaluate(tokens) is None:
        raise ValueError(f"expression must have all its sub-results in 0..{MAX_VALUE}, got {expression!r}")
    steps: list[str] = []
    while len(tokens) > 1:
        position = rng.choice(_ready_operations(tokens))
        result = _apply(tokens, position)
        if rng.random() < mistake_rate:
            position, result = _slip(tokens, position, rng=rng)
        opener = rng.choice(_NEXT_OPENERS if steps else _FIRST_OPENERS)
        operation = "".join(tokens[position - 1 : position + 2])
        tokens = _replace(tokens, position, result)
        link = rng.choice(_LINKS).format("".join(tokens)) if len(tokens) > 1 else "."
        steps.append(f"{opener}{operation}={result}{link}")
    steps.append(rng.choice(_CLOSINGS).format(tokens[0]))
    return tuple(steps)


def _draw_expression(rng: random.Random, level: int) -> str:
    """An expression of `level` operations whose sub-results all lie in 0..MAX_VALUE."""
    while True:
        first, *others = rng.sample(range(2, 10), level + 1)
        tokens = [str(first)]
        for operand in others:
            tokens += [rng.choice("+-*"), str(operand)]
        sums = [i for i in range(1, len(tokens), 2) if tokens[i] in "+-" and "*" in tokens[max(i - 2, 0) : i + 3]]
        if sums and rng.random() < _PARENTHESES_RATE:
            i = rng.choice(sums)
            tokens = [*tokens[: i - 1], "(", *tokens[i - 1 : i + 2], ")", *tokens[i + 2 :]]
        if _evaluate(tokens) is not None:
            return "".join(tokens)


def _tokenize(expression: str) -> list[str]:
    tokens: list[str] = []
    for character in expression:
        if character.isdigit() and tokens and tokens[-1].isdigit():
            tokens[-1] += character
        else:
            tokens.append(character)
    return tokens


def _evaluate(tokens: list[str]) -> int | None:
    """The value, or None where a sub-result leaves 0..MAX_VALUE."""
    while len(tokens) > 1:
        position = _ready_operations(tokens)[0]
        result = _apply(tokens, position)
        if not 0 <= result <= MAX_VALUE:
            return None
        tokens = _replace(tokens, position, result)
    return int(tokens[0])


def _candidates(tokens: list[str]) -> list[int]:
    """Positions of operators that stand between two numbers."""
    return [
        i
        for i in range(1, len(tokens) - 1)
        if tokens[i] in "+-*" and tokens[i - 1].isdigit() and tokens[i + 1].isdigit()
    ]


def _ready_operations(tokens: list[str]) -> list[int]:
    """Positions of the operators whose turn it is: products from the left, sums when no product is beside them."""
    ready = []
    for i in _candidates(tokens):
        before = tokens[i - 2] if i >= 2 else "("
        after = tokens[i + 2] if i + 2 < len(tokens) else ")"
        if before != "*" and (tokens[i] == "*" or (before == "(" and after != "*")):
            ready.append(i)
    return ready


def _apply(tokens: list[str], position: int) -> int:
    left, operator, right = int(tokens[position - 1]), tokens[position], int(tokens[position + 1])
    return left + right if operator == "+" else left - right if operator == "-" else left * right


def _replace(tokens: list[str], position: int, result: int) -> list[str]:
    """The tokens with one operation replaced by its result, without parentheses left around a single number."""
    start, stop = position - 1, position + 2
    if start > 0 and stop < len(tokens) and tokens[start - 1] == "(" and tokens[stop] == ")":
        start, stop = start - 1, stop + 1
    return [*tokens[:start], str(result), *tokens[stop:]]


def _slip(tokens: list[str], position: int, *, rng: random.Random) -> tuple[int, int]:
    """A mistaken (operator position, result) that keeps the rest within 0..MAX_VALUE; the right one if none is."""
    result = _apply(tokens, position)
    ready = _ready_operations(tokens)
    slips = [(position, result + error) for error in (-10, -1, 1, 10)]
    slips += [(i, _apply(tokens, i)) for i in _candidates(tokens) if i not in ready for _ in range(2)]
    usable = [(i, x) for i, x in slips if 0 <= x <= MAX_VALUE and _evaluate(_replace(tokens, i, x)) is not None]
    return rng.choice(usable or [(position, result)])
