"""What a rollout plan is: the rounds in which one group is sampled."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from shaping.checks import FloatArray
from shaping.metrics import Mean, Metric
from shaping.records import Prompt

MAX_MEASURED_ROUNDS = 8
"""Rounds that have a metric of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of a group.

    Args:
        num_rollouts: responses to sample.
        hint: text of a reference solution that opens the response, tokenised on its own; "" for none.
        solution: the whole text that `planned_rate` is a share of, counted in tokens: of the hint only the first tokens
            are given, as many as this share of the solution has, half to even. "" gives the whole hint.
        planned_rate: share of the solution that the plan wants to show, in [0, 1].
        hint_rate: share that is shown, as the plan counts it; whoever cuts a hint by its tokens sets it.
        temperature_scale: factor on the run's sampling temperature.
    """

    num_rollouts: int
    hint: str = ""
    solution: str = ""
    planned_rate: float = 0.0
    hint_rate: float = 0.0
    temperature_scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedRound:
    """A round, and the rewards [n] float32 of those of its rollouts that got a verdict."""

    round: Round
    rewards: FloatArray
    num_correct: int
    num_hint_tokens: int = 0

    @property
    def num_decided(self) -> int:
        return len(self.rewards)

    @property
    def accuracy(self) -> float | None:
        """Correct over decided rollouts; None where no rollout got a verdict."""
        return self.num_correct / self.num_decided if self.num_decided else None


class RolloutPlan(Protocol):
    """Decides the rounds of a group, one after another. Sees no tokens.

    `max_rollouts` bounds the group's size, so that buffers and micro-batches can be planned before a run starts.
    With `max_rounds` 1 no round is scored on its own and `finished` is always empty, in `close` and `metrics` too.
    With `one_version` the rounds of a group must be sampled by one policy version: a group that a new one met is closed
    early or begun again, so `close` and `metrics` may see fewer rounds than were planned, even none.
    """

    max_rollouts: int
    max_rounds: int
    one_version: bool

    def refusal(self, prompt: Prompt) -> str:
        """Why no group of this prompt can be planned, as one line; "" where it can. A run with such a prompt ends."""
        ...

    def longest_hint(self, prompt: Prompt) -> str:
        """The longest hint that a round of this prompt may have: what must fit beside the prompt."""
        ...

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

    def metrics(self, prompt: Prompt, finished: tuple[FinishedRound, ...]) -> dict[str, Metric]:
        """Numbers of this group that only the plan knows, by catalogue name; `round_metrics` are told beside them."""
        ...


def round_metrics(finished: tuple[FinishedRound, ...]) -> dict[str, Metric]:
    """What every plan of several rounds is measured by: accuracy of each round, hint rate, groups of one outcome.

    Accuracies are over decided rollouts, the hint rate over all that were asked for; a group without a verdict has
    neither all wrong nor all correct.
    """
    found: dict[str, Metric] = {
        f"hint_round_{number}_accuracy": Mean(each.num_correct, each.num_decided)
        for number, each in enumerate(finished[:MAX_MEASURED_ROUNDS], start=1)
    }
    num_asked = sum(each.round.num_rollouts for each in finished)
    found["hint_rate_mean"] = Mean(sum(each.round.hint_rate * each.round.num_rollouts for each in finished), num_asked)
    num_correct, num_decided = sum(each.num_correct for each in finished), sum(each.num_decided for each in finished)
    is_decided = num_decided > 0
    found["hint_all_wrong_groups_share"] = Mean(float(is_decided and num_correct == 0), float(is_decided))
    found["hint_all_correct_groups_share"] = Mean(float(is_decided and num_correct == num_decided), float(is_decided))
    return found
