"""math_answer: 1 when the final answer of the response is mathematically equal to the reference.

Formula: the answer is the contents of the last closed \\boxed{} (or, with `fallback: last_number`, the last number of a
response without a box). 1 if it equals the reference by its normalised string, as a plain number, or symbolically
(math-verify), else 0.
Statuses: no answer, or an answer beyond the limits of `shaping/answer_limits.py` that is no string match, is
UNPARSABLE: decided, 0, so that nobody dodges a wrong answer by writing one that cannot be checked. A *reference* beyond
the limits is no fault of the policy: TOO_LONG, no verdict. CRASHED: the verifier itself failed. An error inside one
symbolic comparison means: not equal.
Source: the answer rule of the LESS authors' reward (less.md section 2); Math-Verify (huggingface/Math-Verify).
Deviation: math-verify's timeouts are off, since they are signals and fail outside the main thread; the limits are
checked before parsing instead. A hard deadline needs a killable process.
"""

import logging
from dataclasses import dataclass
from typing import Literal

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

from shaping.answer_limits import exceeded_limit
from shaping.answers import last_boxed, last_number, normalise_answer, to_decimal
from shaping.groups import Verdict, VerdictStatus
from shaping.records import Prompt, Rollout
from shaping.rewards.base import RewardResult
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()

Fallback = Literal["none", "last_number"]

_SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    fallback: what counts as the answer of a response without a box: "none" or "last_number".
    decides: whether this reward decides which rollouts are correct.
    """

    fallback: Fallback = "none"
    decides: bool = True


def grade(response: str, reference: str, *, fallback: Fallback = "none") -> Verdict:
    """Verdict on one response; never raises.

    Args:
        response: what the policy wrote.
        reference: the reference answer, in LaTeX or plain, boxed or not.
    """
    answer = last_boxed(response)
    if not answer and fallback == "last_number":
        answer = last_number(response)
    if not answer:
        return Verdict(status=VerdictStatus.UNPARSABLE, detail="no boxed answer")
    wanted = last_boxed(reference) or reference.strip()
    decided = _compare_text(answer, wanted)
    if decided is not None:
        return _verdict(VerdictStatus.CORRECT if decided else VerdictStatus.WRONG, answer)
    limit = exceeded_limit(answer)
    if limit:
        return _verdict(VerdictStatus.UNPARSABLE, answer, f"the answer has {limit}")
    limit = exceeded_limit(wanted)
    if limit:
        return _verdict(VerdictStatus.TOO_LONG, answer, f"the reference answer has {limit}")
    try:
        return _verdict(_compare_symbolically(answer, wanted), answer)
    except Exception as error:
        return _verdict(VerdictStatus.CRASHED, answer, f"{type(error).__name__}: {str(error)[:_SHOWN_CHARACTERS]}")


def _compare_text(answer: str, wanted: str) -> bool | None:
    """Equal, different, or None where text does not decide. Integers need no algebra."""
    found_text, wanted_text = normalise_answer(answer), normalise_answer(wanted)
    if found_text == wanted_text:
        return True
    found, reference = to_decimal(found_text), to_decimal(wanted_text)
    if found is None or reference is None:
        return None
    if found == reference:
        return True
    # Decimals that differ may be roundings of one number, and 100% is 1.
    return None if "." in answer + wanted or "%" in answer + wanted else False


def _compare_symbolically(answer: str, wanted: str) -> VerdictStatus:
    kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
    reference = parse(f"${wanted.replace('$', '')}$", kinds, parsing_timeout=None)
    found = parse(f"${answer.replace('$', '')}$", kinds, parsing_timeout=None)
    if not found:
        return VerdictStatus.UNPARSABLE
    return VerdictStatus.CORRECT if verify(reference, found, timeout_seconds=None) else VerdictStatus.WRONG


def _verdict(status: VerdictStatus, answer: str, detail: str = "") -> Verdict:
    return Verdict(status=status, extracted=answer[:_SHOWN_CHARACTERS], detail=detail)


@dataclass(frozen=True, slots=True)
class MathAnswer:
    config: Config

    @property
    def decides_correctness(self) -> bool:
        return self.config.decides

    def score(self, rollout: Rollout, prompt: Prompt) -> RewardResult:
        verdict = grade(rollout.response_text, prompt.reference_answer, fallback=self.config.fallback)
        return RewardResult(value=float(verdict.correct), verdict=verdict)


def build(config: Config) -> MathAnswer:
    # math-verify warns once per process that its timeouts are off, which is on purpose here.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    return MathAnswer(config)
