"""What a rollout plan is: the rounds in which one group is sampled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shaping.checks import FloatArray
from shaping.records import Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of a group.

    Args:
        num_rollouts: responses to sample.
        hint: text of a reference solution that opens the response, tokenised on its own; "" for none.
        temperature_scale: factor on the run's sampling temperature.
    """

    num_rollouts: int
    hint: str = ""
    temperature_scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRound:
    """A round and the rewards [n] float32 its rollouts got."""

    round: Round
    rewards: FloatArray
    num_correct: int


class RolloutPlan(Protocol):
    """Decides the rounds of a group, one after another. Sees no tokens.

    `max_rollouts` bounds the group's size, so that buffers and micro-batches can be planned before a run starts.
    With `max_rounds` 1 no round is scored on its own and `finished` is always empty, in `close` too.
    """

    max_rollouts: int
    max_rounds: int

    def next_round(
        self, prompt: Prompt, finished: tuple[FinishedRound, ...], recalled: Mapping[str, float]
    ) -> Round | None:
        """The next round, or None when the group is complete. The first call (nothing finished) must give a round.

        Args:
            recalled: what was remembered of the prompt when the group was opened.
        """
        ...

    def close(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, float]:
        """What is to be remembered of the prompt from now on, by name; other names stay as they were."""
        ...
