"""What an admission is: how many groups may start beyond those that steps need, and how many may wait."""

from typing import Protocol


class Admission(Protocol):
    """Decides how far the group buffer over-samples. Has no state: what is under way is the buffer's to know.

    `max_buffered_groups` bounds the shaped groups that may wait; 0 means as many as the other sizes of the run allow.
    """

    @property
    def max_buffered_groups(self) -> int: ...

    def surplus(self, missing: int) -> int:
        """Groups that may start beyond those that are missing; whichever are kept beyond B open the next step.

        Args:
            missing: groups, at least 1, that steps which may be sampled for still lack; at most those of one step.
        Returns:
            At least 0, and not fewer where more are missing. `surplus(B)` for the B groups of a step is the most that
            is ever left over; with bound s of staleness no group is then older than s + ceil(surplus(B) / B) versions.
        """
        ...
