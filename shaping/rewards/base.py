"""What a reward is: one response against one prompt."""

from dataclasses import dataclass
from typing import Protocol

from shaping.groups import Verdict
from shaping.records import Prompt, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardResult:
    """A number and the verdict it follows from. Without a decided verdict the value is not read."""

    value: float
    verdict: Verdict


class Reward(Protocol):
    """One response to a number. Must not raise for anything a policy can write: that is a CRASHED verdict."""

    decides_correctness: bool

    def score(self, rollout: Rollout, prompt: Prompt) -> RewardResult: ...
