"""What a data field holds as a worked solution, as its ordered steps.

A list of texts has one step each; a text is divided at line ends, or at blank lines. Two things of GSM8K's are undone,
wherever they come: calculator marks (`<<16-3-4=9>>`) are left out, and a last line `#### 18`, which is no step of its
own, ends the step before it in a form that rewards read. Knows no data set by name; what steps are good for is judged
in solution_steps.py.
"""

import re
from enum import StrEnum

from rollout.reference_answers import BOX, answer_text
from rollout.sources.base import RowFault

_MARK = re.compile(r"<<[^<>\n]*=[^<>\n]*>>")
_BLANK_LINES = re.compile(r"\n[^\S\n]*(?:\n[^\S\n]*)+")
_HASHES = "####"


class StepsSplit(StrEnum):
    """Where the steps of a text end."""

    LINES = "lines"
    PARAGRAPHS = "paragraphs"


class AnswerForm(StrEnum):
    """How the last step says an answer that the data has behind `####`.

    BOX is read by every reward of ours that compares answers, and is what their prompts ask for; HASHES is the line as
    it was, for policies that shall write it. Neither is ever part of a hint, which stops before the last step.
    """

    BOX = "box"
    HASHES = "hashes"


def read_steps(value: object, name: str, *, split: StepsSplit, answer_form: AnswerForm) -> tuple[str, ...]:
    """The steps in a field's value, without those that hold only white space; none where there is nothing.

    Args:
        name: of the field, for messages.
    Raises:
        RowFault: the value is neither a text, a list of texts, nor nothing.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        unified = "\n".join(value.splitlines())
        value = unified.split("\n") if split is StepsSplit.LINES else _BLANK_LINES.split(unified)
    if not isinstance(value, list | tuple) or not all(isinstance(step, str) for step in value):
        raise RowFault("solution steps must be a text or a list of texts", f"field {name!r} holds {value!r:.60}")
    steps = [stripped for step in value if (stripped := _MARK.sub("", step).strip())]
    if not steps or not _ends_in_hashes(steps[-1]):
        return tuple(steps)
    *worked, last = steps
    before, _, _ = last.rpartition(_HASHES)
    return tuple(_with_answer([*worked, before.strip()] if before.strip() else worked, answer_text(last), answer_form))


def _ends_in_hashes(step: str) -> bool:
    """Whether its last line is `#### answer`, rather than a heading of Markdown."""
    line = step.rsplit("\n", 1)[-1].strip()
    return line.startswith(_HASHES) and not line.startswith(f"{_HASHES}#") and line.strip("# ") != ""


def _with_answer(worked: list[str], answer: str, form: AnswerForm) -> list[str]:
    """The steps, the last of which says the answer on a line of its own; a solution of nothing else is one step."""
    ending = f"The answer is {BOX}{answer}}}." if form is AnswerForm.BOX else f"{_HASHES} {answer}"
    return [*worked[:-1], "\n".join([*worked[-1:], ending])]
