"""numeric_answer: 1 when the final number of the response equals the reference within a tolerance.

Formula: the number after the last `####` (GSM8K), else the last number of the response; 1 if
|found - reference| <= tolerance * max(1, |reference|). Numbers may have a sign, thousands commas, a fraction part and
an exponent; a response without a number is UNPARSABLE (0). A reference without one is no verdict: CRASHED, with the
reason, since nothing the policy writes could be right.
"""

from dataclasses import dataclass

from shaping.answers import last_number, to_number
from shaping.groups import Verdict, VerdictStatus
from shaping.records import Prompt, Rollout
from shaping.rewards.base import RewardResult
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    tolerance: largest difference, relative to max(1, |reference|).
    marker: text that announces the answer; "" looks for the last number only.
    decides: whether this reward decides which rollouts are correct.
    """

    tolerance: float = 1e-6
    marker: str = "####"
    decides: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be >= 0 and finite, got {self.tolerance}")


def grade_number(response: str, reference: str, *, tolerance: float = 1e-6, marker: str = "####") -> Verdict:
    """Verdict on a response whose answer is a number."""
    wanted = to_number(_answer(reference, marker))
    if wanted is None:
        return Verdict(
            status=VerdictStatus.CRASHED, detail=f"the reference answer must hold a number, got {reference[:80]!r}"
        )
    text = _answer(response, marker)
    found = to_number(text)
    if found is None:
        return Verdict(status=VerdictStatus.UNPARSABLE, extracted=text, detail="no number in the response")
    right = found == wanted or abs(found - wanted) <= tolerance * max(1.0, abs(wanted))
    return Verdict(status=VerdictStatus.CORRECT if right else VerdictStatus.WRONG, extracted=text)


def _answer(text: str, marker: str) -> str:
    """The first number behind the last marker, else the last number; "" where there is none."""
    if marker and marker in text:
        behind = text.rsplit(marker, 1)[1].strip().partition("\n")[0]
        return last_number(behind)
    return last_number(text)


@dataclass(frozen=True, slots=True)
class NumericAnswer:
    config: Config

    @property
    def decides_correctness(self) -> bool:
        return self.config.decides

    def score(self, rollout: Rollout, prompt: Prompt) -> RewardResult:
        verdict = grade_number(
            rollout.response_text,
            prompt.reference_answer,
            tolerance=self.config.tolerance,
            marker=self.config.marker,
        )
        return RewardResult(value=float(verdict.correct), verdict=verdict)


def build(config: Config) -> NumericAnswer:
    return NumericAnswer(config)
