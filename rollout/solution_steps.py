"""The ordered steps of a reference solution as hints: how they are written, and which lists of them can be shown.

Rule: every step has text, and no prefix but the whole solution announces the reference answer (a box, `#### x`, "the
answer is x": shaping/answers/extraction.py) or leaves a box open. A response that opened with such a prefix would be
paid for reading. A number that nothing announces is no announcement: the steps of a calculation may pass through it.
One step is a good list, of which no hint is ever shown.

Source: SEELE (arXiv:2509.06923): solutions in ordered steps, the boxed answer in the last.
"""

from collections.abc import Sequence
from functools import lru_cache

from rollout.reference_answers import BOX
from shaping.answers.extraction import announced_answers, closed_boxes
from shaping.rewards.math_answer import grade

_SHOWN_CHARACTERS = 60


def hint_text(steps: Sequence[str]) -> str:
    """The steps as a response would write them, one a line; "" for none."""
    return "".join(f"{step}\n" for step in steps)


def why_unusable(steps: Sequence[str], reference_answer: str) -> str:
    """Why no hints can be made of a solution's steps, as one line; "" where they can. Pure.

    Args:
        steps: in order, the last one with the answer.
        reference_answer: what rewards compare with; where it is empty, any announced answer counts as it.
    """
    return _why_unusable(tuple(steps), reference_answer)


# A plan asks of one prompt at each of its rounds, and a step that announces another answer takes milliseconds.
@lru_cache(maxsize=4096)
def _why_unusable(steps: tuple[str, ...], reference_answer: str) -> str:
    if not steps:
        return "a solution must have steps, found none"
    for number, step in enumerate(steps, start=1):
        if not step.strip():
            return f"every solution step must have text, step {number} of {len(steps)} has none"
    for number in range(1, len(steps)):
        if found := _announcement(hint_text(steps[:number]), reference_answer):
            return f"only the last solution step may announce the answer, step {number} of {len(steps)} {found}"
    return ""


def _announcement(prefix: str, reference_answer: str) -> str:
    """How a prefix announces the answer, as the end of a sentence; "" where it does not."""
    for found in announced_answers(prefix):
        if not reference_answer or grade(f"{BOX}{found}}}", reference_answer).correct:
            return f"announces {found[:_SHOWN_CHARACTERS]!r}"
    begun = prefix.rfind(BOX)
    return "leaves a box open" if begun >= 0 and all(box.start != begun for box in closed_boxes(prefix)) else ""
