"""Sizes of the group buffer, and what follows from them: slots, ages, groups under way."""

import math
from dataclasses import dataclass, field
from typing import Literal

from rollout.admissions.base import Admission
from rollout.admissions.exact import Exact

AtCap = Literal["train_smaller", "wait", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferConfig:
    """What a buffer works by.

    Args:
        groups_per_step: B.
        max_staleness: s; 0 is synchronous.
        num_steps: learner steps of the run; no group is admitted for a later one.
        max_buffered_groups: shaped groups that may wait; back-pressure above it.
        max_attempts_per_step: the cap: groups admitted for one step; at least B.
        at_cap: once all of these have ended without B kept groups: "train_smaller" trains those that there are, "wait"
            says so and admits as many again, "stop" admits no more and says why.
        admission: how many groups may start beyond those that steps need.
    """

    groups_per_step: int
    max_staleness: int
    num_steps: int
    max_buffered_groups: int
    max_attempts_per_step: int
    at_cap: AtCap = "train_smaller"
    admission: Admission = field(default_factory=Exact)

    @property
    def max_surplus_groups(self) -> int:
        """E: most groups that are left over when a batch is taken, those that max_staleness allows not counted."""
        return self.admission.surplus(self.groups_per_step)

    @property
    def max_age_versions(self) -> int:
        """The bound of staleness that follows."""
        return self.max_staleness + math.ceil(self.max_surplus_groups / self.groups_per_step)

    @property
    def max_groups(self) -> int:
        """Most groups in flight or waiting."""
        most = (self.max_staleness + 1) * self.groups_per_step + self.max_surplus_groups
        return min(most, self.max_buffered_groups)

    def max_slots(self, version: int) -> int:
        """Most groups that may ever have been admitted, dropped ones not counted, while this version is live."""
        slots = (self.max_staleness + version + 1) * self.groups_per_step + self.max_surplus_groups
        return min(slots, self.num_steps * self.groups_per_step)

    def num_open(self, version: int, num_accepted: int) -> int:
        """Groups that may be in flight at a time.

        Args:
            version: that is live.
            num_accepted: groups ever buffered, trained ones included.
        """
        groups = self.groups_per_step
        missing = min(self.max_staleness + version + 1, self.num_steps) * groups - num_accepted
        if missing <= 0:
            return 0
        wanted = missing + self.admission.surplus(min(missing, groups))
        return min(wanted, self.num_steps * groups - num_accepted)
