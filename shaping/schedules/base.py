"""What a schedule is."""

from typing import Protocol


class Schedule(Protocol):
    """A number as a function of the learner step (0-based); pure, so that a resumed run sees the same value."""

    def value(self, step: int) -> float: ...
