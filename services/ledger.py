"""The ledger of groups: one line for each that ended, so that every prompt is accounted for exactly once.

What is in flight or waits for the learner is not in it: a checkpoint names those, and a run that goes on from one cuts
the ledger back to where it was then.
"""

from dataclasses import dataclass

TRAINED = "trained"
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerLine:
    """How one group ended.

    Args:
        ordinal: in order of admission, never reused.
        visit: how often the run has been given this prompt, this time included.
        outcome: "trained", "skipped" (its step's loss or gradient was not finite) or "dropped_<reason>".
        step: 1-based learner step that consumed it, or that it was sampled for.
    """

    ordinal: int
    group_id: str
    prompt_id: str
    visit: int
    outcome: str
    step: int
