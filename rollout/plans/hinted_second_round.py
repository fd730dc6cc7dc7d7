"""Two rounds: the first without a hint; where it goes badly, the second opens with the first steps of a solution.

With group size G, accuracy a_j of round j (correct over decided rollouts) and n solution steps that may be shown:

    round 1: G // 2 rollouts, no hint
    round 2: G - G // 2 rollouts; if a_1 < target, the hint is steps 1..k, otherwise none
    k at the first hinted visit: `first_num_steps`, or n
    k after a hinted visit: k + 1 if a_2 < target, k - 1 if a_2 > target, k if equal; always within 1..n

The last step, which holds the answer, is never shown, nor any step from the first one on that holds a box. Without such
steps, or without a verdict in round 1, round 2 has no hint. k is remembered per prompt as `num_hint_steps`, and written
only where a hint was given: an unhinted round says nothing about k.

Source: SEELE (arXiv:2509.06923): hint lengths that bring accuracy near 1/2, all steps but the last at the first visit,
the last length kept per prompt. Deviation: two rounds instead of four, and steps of one up or down in place of a fitted
accuracy curve.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rollout.plans.base import FinishedRound, Round
from rollout.reference_answers import BOX
from rollout.solution_steps import hint_text
from shaping.errors import RecipeError
from shaping.metrics import Metric
from shaping.records import Prompt
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset({Signal.SOLUTION_STEPS, Signal.VERDICTS})

REMEMBERED = "num_hint_steps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """When a hint is given, and the first one's length.

    Args:
        target: accuracy below which round 1 calls for a hint, and towards which the hint's length moves.
        first_num_steps: steps of the first hint of a prompt; None shows all that may be shown.
    """

    target: float = 0.5
    first_num_steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.target <= 1:
            raise ValueError(f"target must be in (0, 1], got {self.target}")
        if self.first_num_steps is not None and self.first_num_steps < 1:
            raise ValueError(f"first_num_steps must be >= 1 or null, got {self.first_num_steps}")


class HintedSecondRoundPlan:
    """A RolloutPlan of two rounds. Holds no state of its own: what it learns is remembered for it."""

    def __init__(self, config: Config, *, group_size: int) -> None:
        self._config = config
        self.max_rollouts = group_size
        self.max_rounds = 2
        self.one_version = False

    def refusal(self, prompt: Prompt) -> str:
        """Every prompt will do: one without steps to show gets no hint."""
        del prompt
        return ""

    def longest_hint(self, prompt: Prompt) -> str:
        """All steps that may be shown."""
        steps = prompt.solution_steps
        return hint_text(steps[: num_showable_steps(steps)])

    def next_round(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> Round | None:
        num_first = self.max_rollouts // 2
        if not finished:
            return Round(num_rollouts=num_first)
        if len(finished) > 1:
            return None
        num_steps = self._num_hint_steps(prompt, recalled) if self._is_below_target(finished[0]) else 0
        steps = prompt.solution_steps
        rate = num_steps / len(steps) if num_steps else 0.0
        hint = hint_text(steps[:num_steps])
        return Round(num_rollouts=self.max_rollouts - num_first, hint=hint, planned_rate=rate, hint_rate=rate)

    def close(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, float]:
        """The remembered length, moved by the outcome of a hinted round; nothing without one."""
        if len(finished) < 2 or not finished[1].round.hint:
            return {}
        accuracy = finished[1].accuracy
        if accuracy is None:
            return {}
        steps = prompt.solution_steps
        most = num_showable_steps(steps)
        used = next(k for k in range(1, most + 1) if hint_text(steps[:k]) == finished[1].round.hint)
        moved = used + (accuracy < self._config.target) - (accuracy > self._config.target)
        return {REMEMBERED: float(min(max(moved, 1), most))}

    def metrics(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, Metric]:
        """Nothing that is not measured of every group of several rounds."""
        del prompt, finished
        return {}

    def _is_below_target(self, first: FinishedRound) -> bool:
        accuracy = first.accuracy
        return accuracy is not None and accuracy < self._config.target

    def _num_hint_steps(self, prompt: Prompt, recalled: Mapping[str, float]) -> int:
        most = num_showable_steps(prompt.solution_steps)
        first = most if self._config.first_num_steps is None else self._config.first_num_steps
        return min(int(recalled.get(REMEMBERED, first)), most)


def num_showable_steps(steps: tuple[str, ...]) -> int:
    """How many opening steps may be shown: all before the first one with a box, and never the last."""
    boxed = next((index for index, step in enumerate(steps) if BOX in step), len(steps))
    return max(min(boxed, len(steps) - 1), 0)


def build(config: Config, *, group_size: int) -> HintedSecondRoundPlan:
    """Raises: RecipeError: a group too small for two rounds."""
    if group_size < 2:
        raise RecipeError(f"group_size must be >= 2 for two rounds, got {group_size} (plan hinted_second_round)")
    return HintedSecondRoundPlan(config, group_size=group_size)
