"""One round: all rollouts of the group at once, without a hint. What GRPO does."""

from collections.abc import Mapping
from dataclasses import dataclass

from rollout.plans.base import FinishedRound, Round
from shaping.metrics import Metric
from shaping.records import Prompt
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """No options; the group size is the run's."""


class SingleRoundPlan:
    """A RolloutPlan of one round."""

    def __init__(self, group_size: int) -> None:
        self.max_rollouts = group_size
        self.max_rounds = 1
        self.one_version = False

    def refusal(self, prompt: Prompt) -> str:
        """Every prompt will do."""
        del prompt
        return ""

    def longest_hint(self, prompt: Prompt) -> str:
        """No round has one."""
        del prompt
        return ""

    def next_round(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> Round | None:
        del prompt, recalled
        return None if finished else Round(num_rollouts=self.max_rollouts)

    def close(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, float]:
        """Nothing to remember."""
        del prompt, finished
        return {}

    def metrics(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, Metric]:
        """Nothing that is not measured of every group."""
        del prompt, finished
        return {}


def build(config: Config, *, group_size: int) -> SingleRoundPlan:
    del config
    return SingleRoundPlan(group_size)
