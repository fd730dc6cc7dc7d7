"""The ledger of groups: one line for each that ended, so that every prompt is accounted for exactly once.

What is in flight or waits for the learner is not in it: a checkpoint names those, and a run that goes on from one cuts
the ledger back to where it was then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rollout.plans.base import FinishedRound

TRAINED = "trained"
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRound:
    """One round of a group.

    Args:
        rate: share of the solution that its hint was, as the rollout plan counts it.
        hint_tokens: tokens of the hint.
        scored, correct: rollouts that got a verdict, and those of them that were correct.
    """

    rate: float
    hint_tokens: int
    scored: int
    correct: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """How one group ended.

    Args:
        ordinal: in order of admission, never reused.
        visit: how often the run has been given this prompt, this time included.
        rounds: of a group that was sampled in several, in order; a line without any has no such entry.
        outcome: "trained", "skipped" (its step's loss or gradient was not finite) or "dropped_<reason>".
        step: 1-based learner step that consumed it, or that it was sampled for.
    """

    ordinal: int
    group_id: str
    prompt_id: str
    visit: int
    # Readers find a line's end by the two fields that follow (services/run_view/ledger_file.py).
    rounds: tuple[LedgerRound, ...] = ()
    outcome: str
    step: int

    def as_plain(self) -> dict[str, Any]:
        """As a line of JSON holds it."""
        plain = asdict(self)
        if not self.rounds:
            del plain["rounds"]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "LedgerLine":
        """Read `as_plain` back.

        Raises:
            TypeError: no line of a ledger.
        """
        return cls(**{**plain, "rounds": ledger_rounds(plain.get("rounds", ()))})


def ledger_rounds(plain: Iterable[Mapping[str, Any]]) -> tuple[LedgerRound, ...]:
    """Rounds out of JSON data.

    Raises:
        TypeError: no rounds of a ledger.
    """
    return tuple(LedgerRound(**each) for each in plain)


def rounds_of(finished: Iterable[FinishedRound]) -> tuple[LedgerRound, ...]:
    """The rounds of a group as the ledger tells of them."""
    return tuple(
        LedgerRound(
            rate=each.round.hint_rate,
            hint_tokens=each.num_hint_tokens,
            scored=each.num_decided,
            correct=each.num_correct,
        )
        for each in finished
    )
