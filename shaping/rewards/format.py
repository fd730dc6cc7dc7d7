"""format: 1 when the response has the wanted form, 0 otherwise. Says nothing of correctness.

Formula: without a `pattern`, 1 if the response has a closed \\boxed{} with something in it; with one, 1 if the regular
expression matches somewhere in the response ("." matches line ends too).
"""

import re
from dataclasses import dataclass, field

from shaping.answers import last_boxed
from shaping.groups import Verdict, VerdictStatus
from shaping.records import Prompt, Rollout
from shaping.rewards.base import RewardResult
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    pattern: regular expression that a well-formed response matches; "" asks for a boxed answer.
    """

    pattern: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ValueError(f"pattern must be a regular expression, got {self.pattern!r}: {error}") from error


@dataclass(frozen=True, slots=True)
class Format:
    config: Config
    decides_correctness: bool = field(default=False, init=False)

    def score(self, rollout: Rollout, prompt: Prompt) -> RewardResult:
        del prompt
        text = rollout.response_text
        if self.config.pattern:
            well_formed = re.search(self.config.pattern, text, re.DOTALL) is not None
        else:
            well_formed = bool(last_boxed(text))
        status = VerdictStatus.CORRECT if well_formed else VerdictStatus.WRONG
        return RewardResult(value=float(well_formed), verdict=Verdict(status=status))


def build(config: Config) -> Format:
    return Format(config)
