"""The group buffer as its docstring says it, looking at everything in every call: slow, and plain to see right."""

from collections import Counter

from rollout.buffer_config import BufferConfig
from shaping.groups import DropReason


class PlainBuffer:
    """What GroupBuffer must do under "train_smaller", with the ordinal as item and any admission."""

    def __init__(self, config: BufferConfig) -> None:
        self.config = config
        self.next_ordinal = 0
        self.in_flight: set[int] = set()
        self.buffered: set[int] = set()
        self.taken: tuple[int, ...] | None = None
        self.dropped: Counter[DropReason] = Counter()
        self.num_accepted = 0
        self.num_attempts = 0
        self.version = 0
        self.round: set[int] = set()

    def can_admit(self) -> bool:
        has_room = len(self.in_flight) + len(self.buffered) < self.config.max_buffered_groups
        return self.has_slot() and has_room and not self.attempts_are_spent()

    def has_slot(self) -> bool:
        """In rounds: one is open, its groups to come known from its start; or one may open."""
        if not self.is_in_rounds():
            return len(self.in_flight) + self.num_accepted < self.bound()
        return self.next_ordinal in self.round or (not self.in_flight and self.num_accepted < self.bound())

    def is_in_rounds(self) -> bool:
        return not self.config.max_staleness and self.config.admission.surplus(self.config.groups_per_step) > 0

    def bound(self) -> int:
        """Groups that may have been admitted, dropped ones not counted."""
        config, last = self.config, self.config.num_steps * self.config.groups_per_step
        needed = min((config.max_staleness + self.version + 1) * config.groups_per_step, last)
        missing = min(needed - self.num_accepted, config.groups_per_step)
        return min(needed + config.admission.surplus(missing), last) if missing > 0 else 0

    def admit(self) -> int:
        if self.is_in_rounds() and self.next_ordinal not in self.round:
            size = self.bound() - self.num_accepted
            self.round = set(range(self.next_ordinal, self.next_ordinal + size))
        self.in_flight.add(self.next_ordinal)
        self.next_ordinal += 1
        self.num_attempts += 1
        return self.next_ordinal - 1

    def accept(self, ordinal: int) -> None:
        self.in_flight.remove(ordinal)
        self.buffered.add(ordinal)
        self.num_accepted += 1

    def drop(self, ordinal: int, reason: DropReason) -> None:
        self.in_flight.remove(ordinal)
        self.dropped[reason] += 1

    def has_batch(self) -> bool:
        if self.taken is not None or (self.is_in_rounds() and (self.in_flight or self.can_admit())):
            return False
        oldest_in_flight = min(self.in_flight, default=self.next_ordinal)
        num_ready = sum(ordinal < oldest_in_flight for ordinal in self.buffered)
        return num_ready >= self.config.groups_per_step or (self.attempts_are_spent() and not self.in_flight)

    def take(self) -> tuple[tuple[int, ...], Counter[DropReason]]:
        self.taken = tuple(sorted(self.buffered)[: self.config.groups_per_step])
        self.buffered -= set(self.taken)
        self.round = set()
        dropped, self.dropped = self.dropped, Counter()
        return self.taken, dropped

    def release(self) -> None:
        assert self.taken is not None
        self.version += 1
        self.num_accepted += self.config.groups_per_step - len(self.taken)
        self.num_attempts = len(self.in_flight) + len(self.buffered)
        self.taken = None

    def attempts_are_spent(self) -> bool:
        return self.num_attempts >= self.config.max_attempts_per_step * (1 + self.config.max_staleness)
