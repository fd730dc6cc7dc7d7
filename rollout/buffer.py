"""The group buffer: which groups exist, in which state, and when a new one may start.

A pure state machine: every call is an event, no clock, no tasks. States of one group:

    in_flight -> buffered -> taken -> released
        |  |        (shaped)  (in a learner step)  (its step's version is verified live)
        |  +-> dropped   (no signal, no verdict, filtered; its slot is free at once)
        +----> lost      (its worker failed; the same group is asked for again)

Admission bounds staleness by construction. With B groups a step, v finished and verified steps and a bound s, a group
may start while

    in_flight + accepted < (s + v + 1) * B

where `accepted` counts every group ever buffered, trained ones included. Groups are trained strictly in order of
admission: a batch is the oldest B groups that were not dropped, and waits for the slowest of them. So the group at
count c is trained at step c // B, and c < (s + v + 1) * B gives step <= v + s: the learner is at most s versions ahead
of the version the group started with. (The admission rule of AReaL, arXiv:2505.24298, eq. 3. Deviation: AReaL trains
what is finished first, where a slow group is overtaken by groups admitted later and exceeds the bound.)
"""

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

from shaping.errors import RecordError
from shaping.groups import DropReason

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferConfig:
    """Sizes of the buffer.

    Args:
        groups_per_step: B.
        max_staleness: s; 0 is synchronous.
        num_steps: learner steps of the run; no group is admitted for a later one.
        max_buffered_groups: shaped groups that may wait; back-pressure above it.
        max_attempts_per_step: groups admitted for one step before it trains what it has; at least B.
    """

    groups_per_step: int
    max_staleness: int
    num_steps: int
    max_buffered_groups: int
    max_attempts_per_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBatch(Generic[T]):
    """What one learner step consumes.

    Args:
        ordinals: of the groups in `items`, rising.
        dropped: groups that ended without training since the last batch, by reason.
        is_short: the cap on attempts was reached, so fewer than B groups are here.
    """

    ordinals: tuple[int, ...]
    items: tuple[T, ...]
    dropped: Counter[DropReason]
    is_short: bool


class GroupBuffer(Generic[T]):
    """Counts slots, keeps shaped groups in order of admission, and hands them out in batches.

    Ordinals are given at admission and never reused, and batches follow them: in synchronous mode a batch is the same
    whatever order the workers finish in.
    """

    def __init__(self, config: BufferConfig) -> None:
        self._config = config
        self._next_ordinal = 0
        self._in_flight: set[int] = set()
        self._buffered: dict[int, T] = {}
        self._taken: tuple[int, ...] | None = None
        self._dropped: Counter[DropReason] = Counter()
        self._num_accepted = 0
        self._num_attempts = 0
        self._version = 0

    @property
    def num_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def num_buffered(self) -> int:
        return len(self._buffered)

    @property
    def version(self) -> int:
        """Finished steps whose weights are verified live."""
        return self._version

    def can_admit(self) -> bool:
        """Whether one more group may start now."""
        config = self._config
        bound = min(config.max_staleness + self._version + 1, config.num_steps) * config.groups_per_step
        has_slot = len(self._in_flight) + self._num_accepted < bound
        has_room = len(self._in_flight) + len(self._buffered) < config.max_buffered_groups
        return has_slot and has_room and not self._attempts_are_spent()

    def admit(self) -> int:
        """Charge a slot.

        Returns:
            The group's ordinal.
        Raises:
            RecordError: admission is closed.
        """
        if not self.can_admit():
            raise RecordError("a group was admitted while admission is closed (GroupBuffer.admit)")
        ordinal = self._next_ordinal
        self._next_ordinal += 1
        self._num_attempts += 1
        self._in_flight.add(ordinal)
        return ordinal

    def accept(self, ordinal: int, item: T) -> None:
        """A group in flight was shaped: it waits for the learner."""
        self._leave_flight(ordinal)
        self._buffered[ordinal] = item
        self._num_accepted += 1

    def drop(self, ordinal: int, reason: DropReason) -> None:
        """A group in flight ended without training: its slot is free, its reason is counted."""
        self._leave_flight(ordinal)
        self._dropped[reason] += 1

    def has_batch(self) -> bool:
        """Whether `take` may be called: the oldest B groups are shaped, or the capped attempts gave no more than these.

        A younger group never overtakes one in flight, which keeps batches independent of timing and the bound true.
        """
        if self._taken is not None:
            return False
        oldest_in_flight = min(self._in_flight, default=self._next_ordinal)
        num_ready = sum(ordinal < oldest_in_flight for ordinal in self._buffered)
        return num_ready >= self._config.groups_per_step or (self._attempts_are_spent() and not self._in_flight)

    def take(self) -> TakenBatch[T]:
        """The next batch in order of admission, at most B groups.

        Raises:
            RecordError: there is no batch, or the last one was not released.
        """
        if not self.has_batch():
            raise RecordError("a batch was taken that is not there (GroupBuffer.take)")
        ordinals = tuple(sorted(self._buffered)[: self._config.groups_per_step])
        items = tuple(self._buffered.pop(ordinal) for ordinal in ordinals)
        self._taken = ordinals
        batch = TakenBatch(
            ordinals=ordinals,
            items=items,
            dropped=self._dropped,
            is_short=len(items) < self._config.groups_per_step,
        )
        self._dropped = Counter()
        return batch

    def release(self, version: int) -> None:
        """Version `version` is verified live on the engines: the slots of its batch are free.

        A short batch counts as a full one: otherwise the bound would let later groups start too early.

        Raises:
            RecordError: not the next version, or no batch was taken for it.
        """
        if version != self._version + 1:
            raise RecordError(f"versions are released one by one: {self._version} is live, got {version} (GroupBuffer)")
        if self._taken is None:
            raise RecordError(f"version {version} was released, but no batch was taken for it (GroupBuffer)")
        self._version = version
        self._num_accepted += self._config.groups_per_step - len(self._taken)
        self._num_attempts = len(self._in_flight) + len(self._buffered)
        self._taken = None

    def _attempts_are_spent(self) -> bool:
        return self._num_attempts >= self._config.max_attempts_per_step * (1 + self._config.max_staleness)

    def _leave_flight(self, ordinal: int) -> None:
        if ordinal not in self._in_flight:
            raise RecordError(f"group {ordinal} is not in flight (GroupBuffer)")
        self._in_flight.remove(ordinal)
