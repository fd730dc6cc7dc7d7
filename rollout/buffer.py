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

An admission (rollout/admissions) may let e more groups start, by what is still missing, at most E for a whole step:

    in_flight + accepted < (s + v + 1) * B + e

Then c < (s + v + 1) * B + E, and the group is trained at step c // B <= v + s + ceil(E / B). With s = 0 such groups
come in rounds: one opens when none is in flight and groups are missing, and all of it ends before a batch is taken. So
no group sees two versions, and neither which groups there are nor what a batch holds depends on who finishes first.
"""

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from rollout.buffer_config import BufferConfig
from rollout.keep_rate import REMEDY, KeepRate
from rollout.saved_state import check_saved, saved_int, saved_ints, saved_mapping
from shaping.errors import RecipeError, RecordError
from shaping.groups import DropReason

T = TypeVar("T")

_WHERE = "group buffer"
_COUNTS = ("version", "next_ordinal", "num_accepted", "num_attempts", "num_caps", "num_kept", "num_in_round")


class NoticeKind(StrEnum):
    """What the buffer has to say of its own accord."""

    STARVATION_PREDICTED = "starvation_predicted"
    ATTEMPTS_SPENT = "attempts_spent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that a user must know, in words."""

    kind: NoticeKind
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBatch(Generic[T]):
    """What one learner step consumes.

    Args:
        ordinals: of the groups in `items`, rising.
        dropped: groups that ended without training since the last batch, by reason.
        num_kept: groups that were shaped since the last batch, whether they are in `items` or wait.
        is_short: the cap on attempts was reached, so fewer than B groups are here.
        num_surplus: shaped groups that are left over for later batches; None where the admission allows no surplus.
    """

    ordinals: tuple[int, ...]
    items: tuple[T, ...]
    dropped: Counter[DropReason]
    num_kept: int
    is_short: bool
    num_surplus: int | None = None

    @property
    def num_attempts(self) -> int:
        """Groups that ended since the last batch."""
        return self.num_kept + self.dropped.total()

    @property
    def keep_share(self) -> float | None:
        """Kept groups of `num_attempts`; None where none ended."""
        return self.num_kept / self.num_attempts if self.num_attempts else None

    def surplus_metrics(self, ages: Sequence[int]) -> dict[str, float]:
        """By catalogue name; none where the admission allows no surplus.

        Args:
            ages: of the items, versions from their first token to the one that they train.
        """
        if self.num_surplus is None:
            return {}
        carried = [age for age in ages if age]
        mean = {"admission_carried_age_versions_mean": sum(carried) / len(carried)} if carried else {}
        return {"admission_surplus_groups_count": float(self.num_surplus), **mean}


class GroupBuffer(Generic[T]):
    """Counts slots, keeps shaped groups in order of admission, and hands them out in batches.

    Ordinals are given at admission and never reused, and batches follow them: in synchronous mode a batch is the same
    whatever order the workers finish in. Every event takes O(1) on average, a batch O(B).
    """

    def __init__(self, config: BufferConfig) -> None:
        self._config = config
        self._version = 0
        self._next_ordinal = 0
        self._num_accepted = 0
        self._num_attempts = 0
        self._num_caps = 1
        self._num_in_round = 0
        self._in_flight: set[int] = set()
        # Every ordinal below has left flight: those of them that were shaped are ready, in order; the others wait for
        # an older one that is still under way.
        self._border = 0
        self._ready: deque[tuple[int, T]] = deque()
        self._early: dict[int, T] = {}
        self._taken: tuple[int, ...] | None = None
        self._dropped: Counter[DropReason] = Counter()
        self._num_kept = 0
        self._keep_rate = self._new_keep_rate()
        self._notices: list[Notice] = []

    def resize(self, config: BufferConfig) -> None:
        """Go on with other sizes. Groups that are more than these allow are kept, and none is admitted meanwhile.

        Raises:
            RecipeError: another size of step, or fewer steps than groups were admitted for; nothing has changed then.
        """
        groups = self._config.groups_per_step
        if config.groups_per_step != groups:
            raise RecipeError(f"groups_per_step must stay {groups}, got {config.groups_per_step} ({_WHERE})")
        admitted = math.ceil(self._num_charged / groups)
        begun = max(admitted, self._version + (self._taken is not None))
        if config.num_steps < begun:
            raise RecipeError(
                f"run.steps must be >= {begun}, got {config.num_steps}: groups of that step are under way (run.steps)"
            )
        if config != self._config:
            self._config, self._num_in_round = config, 0
        self._keep_rate.allow(config.max_attempts_per_step)

    @property
    def limits(self) -> tuple[int, int]:
        """Most groups that may wait shaped, and most that may be in flight."""
        return self._config.max_buffered_groups, self._config.max_groups

    @property
    def num_in_flight(self) -> int:
        return len(self._in_flight)

    @property
    def num_buffered(self) -> int:
        return len(self._ready) + len(self._early)

    @property
    def version(self) -> int:
        """Finished steps whose weights are verified live."""
        return self._version

    @property
    def keep_rate(self) -> float | None:
        """Running estimate of the share of groups that are kept; None before the first has ended."""
        return self._keep_rate.value

    def waiting(self) -> tuple[tuple[int, T], ...]:
        """The buffered groups with their ordinals, in order of admission."""
        return (*self._ready, *sorted(self._early.items(), key=lambda each: each[0]))

    def can_admit(self) -> bool:
        """Whether one more group may start now."""
        has_room = len(self._in_flight) + self.num_buffered < self._config.max_buffered_groups
        return self._num_open() > 0 and has_room and not self._attempts_are_spent()

    def admit(self) -> int:
        """Charge a slot.

        Returns:
            The group's ordinal.
        Raises:
            RecordError: admission is closed.
        """
        if not self.can_admit():
            raise RecordError("a group was admitted while admission is closed (GroupBuffer.admit)")
        if self._is_in_rounds:
            self._num_in_round = self._num_open() - 1
        ordinal = self._next_ordinal
        self._next_ordinal += 1
        self._num_attempts += 1
        self._in_flight.add(ordinal)
        return ordinal

    def accept(self, ordinal: int, item: T) -> None:
        """A group in flight was shaped: it waits for the learner."""
        self._leave_flight(ordinal)
        self._early[ordinal] = item
        self._num_accepted += 1
        self._num_kept += 1
        self._has_ended(is_kept=True)

    def drop(self, ordinal: int, reason: DropReason) -> None:
        """A group in flight ended without training: its slot is free, its reason is counted."""
        self._leave_flight(ordinal)
        self._dropped[reason] += 1
        self._has_ended(is_kept=False)

    def has_batch(self) -> bool:
        """Whether `take` may be called: the oldest B groups are shaped, or the capped attempts gave no more than these.

        A younger group never overtakes one in flight, which keeps batches independent of timing and the bound true.
        """
        is_in_round = self._is_in_rounds and (self._in_flight or self.can_admit())
        if self._taken is not None or is_in_round:
            return False
        is_full = len(self._ready) >= self._config.groups_per_step
        return is_full or (self._config.at_cap == "train_smaller" and self._is_at_cap())

    def take(self) -> TakenBatch[T]:
        """The next batch in order of admission, at most B groups.

        A short batch counts as a full one: otherwise the bound would let later groups start too early.

        Raises:
            RecordError: there is no batch, or the last one was not released.
        """
        if not self.has_batch():
            raise RecordError("a batch was taken that is not there (GroupBuffer.take)")
        size = min(self._config.groups_per_step, len(self._ready))
        taken = [self._ready.popleft() for _ in range(size)]
        self._taken = tuple(ordinal for ordinal, _ in taken)
        batch = TakenBatch(
            ordinals=self._taken,
            items=tuple(item for _, item in taken),
            dropped=self._dropped,
            num_kept=self._num_kept,
            is_short=size < self._config.groups_per_step,
            num_surplus=self.num_buffered if self._config.max_surplus_groups else None,
        )
        self._num_accepted += self._config.groups_per_step - size
        self._dropped, self._num_kept, self._num_in_round = Counter(), 0, 0
        return batch

    def release(self, version: int) -> None:
        """Version `version` is verified live on the engines: the slots of its batch are free.

        Raises:
            RecordError: not the next version, or no batch was taken for it.
        """
        if version != self._version + 1:
            raise RecordError(f"versions are released one by one: {self._version} is live, got {version} (GroupBuffer)")
        if self._taken is None:
            raise RecordError(f"version {version} was released, but no batch was taken for it (GroupBuffer)")
        self._version = version
        self._num_attempts = len(self._in_flight) + self.num_buffered
        self._num_caps = 1
        self._taken = None

    def pop_notices(self) -> tuple[Notice, ...]:
        """What there is to say since the last call."""
        notices, self._notices = tuple(self._notices), []
        return notices

    def starvation(self) -> str | None:
        """Under "stop": why no step can follow, once the attempts for one are spent; None before."""
        if self._config.at_cap != "stop" or self._taken is not None or not self._is_at_cap():
            return None
        return f"{self._at_cap_words()}; {REMEDY}, or let run.at_attempt_cap be train_smaller or wait"

    def state(self) -> dict[str, object]:
        """JSON data: everything but the buffered items. Groups in flight are in flight again after `restore`."""
        counts: dict[str, object] = {name: getattr(self, f"_{name}") for name in _COUNTS}
        return counts | {
            "groups_per_step": self._config.groups_per_step,
            "in_flight": sorted(self._in_flight),
            "buffered": [ordinal for ordinal, _ in self.waiting()],
            "taken": None if self._taken is None else list(self._taken),
            "dropped": {reason.value: count for reason, count in self._dropped.items()},
            "keep_rate": self._keep_rate.state(),
            "num_over": max(0, self._num_charged - self._bound()),
        }

    def restore(self, state: Mapping[str, object], items: Mapping[int, T]) -> None:
        """Go on exactly as the buffer that saved the state would have.

        Args:
            items: the buffered ones by ordinal.
        Raises:
            RecipeError: the state was saved with another size of step, or the run now allows less than is under way.
            RecordError: the items are not those of the state.
        """
        check_saved(state, expected={"groups_per_step": self._config.groups_per_step}, where=_WHERE)
        buffered = saved_ints(state, "buffered", _WHERE)
        if sorted(items) != buffered:
            raise RecordError(f"the buffered groups must be {buffered}, got {sorted(items)} ({_WHERE})")
        for name in _COUNTS:
            setattr(self, f"_{name}", saved_int(state, name, _WHERE))
        self._in_flight = set(saved_ints(state, "in_flight", _WHERE))
        self._taken = None if state.get("taken") is None else tuple(saved_ints(state, "taken", _WHERE))
        dropped = saved_mapping(state, "dropped", _WHERE)
        self._dropped = Counter({DropReason(name): saved_int(dropped, name, _WHERE) for name in dropped})
        self._keep_rate = self._new_keep_rate()
        self._keep_rate.restore(saved_mapping(state, "keep_rate", _WHERE))
        self._notices = []
        self._border, self._ready, self._early = 0, deque(), dict(items)
        self._move_border()
        # More than the bound only where it was lowered while they were under way.
        charged = self._num_charged
        if charged > self._bound() + saved_int(state, "num_over", _WHERE):
            raise RecipeError(
                f"groups of {charged} slots were admitted, and the run has {self._bound()} at step {self._version}: "
                f"resume with run.max_staleness, run.steps and run.admission at least as they were ({_WHERE})"
            )

    @property
    def _num_charged(self) -> int:
        return len(self._in_flight) + self._num_accepted

    def _new_keep_rate(self) -> KeepRate:
        config = self._config
        return KeepRate(groups_per_step=config.groups_per_step, max_attempts=config.max_attempts_per_step)

    @property
    def _is_in_rounds(self) -> bool:
        return self._config.max_staleness == 0 and self._config.max_surplus_groups > 0

    def _num_open(self) -> int:
        """Groups that may start now, as far as slots go; below 1 where none may."""
        if self._is_in_rounds and (self._num_in_round or self._in_flight):
            return self._num_in_round
        return self._config.num_open(self._version, self._num_accepted) - len(self._in_flight)

    def _bound(self) -> int:
        return self._config.max_slots(self._version)

    def _attempts_are_spent(self) -> bool:
        config = self._config
        return self._num_attempts >= config.max_attempts_per_step * (1 + config.max_staleness) * self._num_caps

    def _is_at_cap(self) -> bool:
        """Whether every attempt that is allowed has ended without a full batch."""
        is_full = len(self._ready) >= self._config.groups_per_step
        return not is_full and not self._in_flight and self._attempts_are_spent()

    def _leave_flight(self, ordinal: int) -> None:
        if ordinal not in self._in_flight:
            raise RecordError(f"group {ordinal} is not in flight (GroupBuffer)")
        self._in_flight.remove(ordinal)

    def _has_ended(self, *, is_kept: bool) -> None:
        self._move_border()
        if warning := self._keep_rate.count(is_kept=is_kept):
            self._notices.append(Notice(kind=NoticeKind.STARVATION_PREDICTED, message=warning))
        if self._config.at_cap == "wait" and self._taken is None and self._is_at_cap():
            if self._num_caps == 1:
                message = f"{self._at_cap_words()}; as many more are tried, and more again; {REMEDY}"
                self._notices.append(Notice(kind=NoticeKind.ATTEMPTS_SPENT, message=message))
            self._num_caps += 1

    def _move_border(self) -> None:
        while self._border < self._next_ordinal and self._border not in self._in_flight:
            if self._border in self._early:
                self._ready.append((self._border, self._early.pop(self._border)))
            self._border += 1

    def _at_cap_words(self) -> str:
        reasons = ", ".join(f"{reason.value} {count}" for reason, count in sorted(self._dropped.items()))
        return (
            f"all {self._num_attempts} attempts allowed for step {self._version + 1} have ended, and "
            f"{len(self._ready)} of the {self._config.groups_per_step} groups that it needs are there; dropped since "
            f"the last step: {reasons or 'none'}; {self._keep_rate.value or 0:.1%} of the groups are kept"
        )
