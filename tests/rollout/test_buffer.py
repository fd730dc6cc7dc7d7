"""The group buffer: any order of events keeps the staleness bound, loses nothing and never stalls."""

import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest
from buffer_oracle import PlainBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.admissions.rsr import RecentSampleRecovery
from rollout.buffer import GroupBuffer
from rollout.buffer_config import BufferConfig
from shaping.errors import RecordError
from shaping.groups import DropReason


def make_config(
    groups_per_step: int = 2,
    *,
    max_staleness: int = 0,
    num_steps: int = 3,
    max_buffered_groups: int | None = None,
    max_attempts_per_step: int | None = None,
    over_sampling: float = 1.0,
) -> BufferConfig:
    """Room for what the bound allows, and four attempts for each group of a step."""
    return BufferConfig(
        groups_per_step=groups_per_step,
        max_staleness=max_staleness,
        num_steps=num_steps,
        max_buffered_groups=max_buffered_groups or (max_staleness + 1) * groups_per_step,
        max_attempts_per_step=max_attempts_per_step or 4 * groups_per_step,
        admission=RecentSampleRecovery(over_sampling=over_sampling),
    )


configs = st.builds(
    lambda groups, staleness, steps, room, attempts, over_sampling: make_config(
        groups,
        max_staleness=staleness,
        num_steps=steps,
        max_buffered_groups=groups + room,
        max_attempts_per_step=groups + attempts,
        over_sampling=over_sampling,
    ),
    groups=st.integers(1, 4),
    staleness=st.integers(0, 3),
    steps=st.integers(1, 5),
    room=st.integers(0, 12),
    attempts=st.integers(0, 6),
    over_sampling=st.sampled_from([1.0, 1.0, 1.25, 1.5, 2.0, 3.0]),
)


class Watched:
    """A buffer and what was done to it; every event that is allowed may come next.

    Args:
        slow: ordinals of groups that end only when nothing else can happen.
    """

    def __init__(self, config: BufferConfig, slow: set[int]) -> None:
        self.config = config
        self.slow = slow
        self.buffer: GroupBuffer[int] = GroupBuffer(config)
        self.started_at: dict[int, int] = {}
        self.in_flight: set[int] = set()
        self.buffered: set[int] = set()
        self.taken: tuple[int, ...] | None = None
        self.trained: list[int] = []
        self.num_dropped = 0
        self.num_dropped_seen = 0

    @property
    def is_over(self) -> bool:
        return self.buffer.version == self.config.num_steps

    def events(self) -> list[Callable[[], None]]:
        """What may happen now."""
        allowed: list[Callable[[], None]] = []
        if self.buffer.can_admit():
            allowed.append(self.admit)
        if self.buffer.has_batch():
            allowed.append(self.take)
        if self.taken is not None:
            allowed.append(self.release)
        for ordinal in sorted(self.in_flight, key=lambda each: (each in self.slow, each)):
            if ordinal not in self.slow or not allowed:
                allowed += [partial(self.accept, ordinal), partial(self.drop, ordinal)]
        return allowed

    def admit(self) -> None:
        ordinal = self.buffer.admit()
        assert ordinal == len(self.started_at)
        self.started_at[ordinal] = self.buffer.version
        self.in_flight.add(ordinal)

    def accept(self, ordinal: int) -> None:
        self.in_flight.remove(ordinal)
        self.buffer.accept(ordinal, 10 * ordinal)
        self.buffered.add(ordinal)

    def drop(self, ordinal: int) -> None:
        self.in_flight.remove(ordinal)
        self.buffer.drop(ordinal, DropReason.NO_SIGNAL)
        self.num_dropped += 1

    def take(self) -> None:
        batch = self.buffer.take()
        assert batch.items == tuple(10 * ordinal for ordinal in batch.ordinals)
        assert list(batch.ordinals) == sorted(batch.ordinals)
        assert set(batch.ordinals) <= self.buffered
        assert batch.is_short == (len(batch.ordinals) < self.config.groups_per_step)
        ages = [self.buffer.version - self.started_at[ordinal] for ordinal in batch.ordinals]
        assert max(ages, default=0) <= self.config.max_age_versions
        # Synchronous: nothing is under way while weights change, surplus or not.
        assert self.config.max_staleness or not self.in_flight
        self.buffered -= set(batch.ordinals)
        self.taken = batch.ordinals
        self.num_dropped_seen += batch.dropped.total()

    def release(self) -> None:
        self.buffer.release(self.buffer.version + 1)
        self.trained += self.taken or ()
        self.taken = None

    def check(self) -> None:
        """Nothing is lost, room and order are kept, and an ended run leaves nothing behind."""
        assert self.buffer.num_in_flight == len(self.in_flight)
        assert self.buffer.num_buffered == len(self.buffered)
        parts = [self.in_flight, self.buffered, set(self.taken or ()), set(self.trained)]
        assert sum(map(len, parts)) + self.num_dropped == len(self.started_at)
        assert len(self.in_flight) + len(self.buffered) <= self.config.max_buffered_groups
        assert self.trained == sorted(self.trained)
        if self.is_over:
            assert not self.in_flight and not self.buffered and not self.buffer.can_admit()
            assert self.num_dropped_seen == self.num_dropped


@given(configs, st.sets(st.integers(0, 12), max_size=4), st.lists(st.integers(0, 2**16), max_size=120))
@settings(max_examples=200, deadline=None)
def test_any_order_of_events_keeps_the_bound_loses_nothing_and_never_stalls(
    config: BufferConfig, slow: set[int], choices: list[int]
) -> None:
    watched = Watched(config, slow)
    # Chosen events first, then whatever is first: from wherever the choices led, the run must come to its end.
    while not watched.is_over:
        events = watched.events()
        assert events, "the run has stalled"
        events[choices.pop() % len(events) if choices else 0]()
        watched.check()


def plain_events(plain: PlainBuffer) -> list[tuple[str, int]]:
    """What may happen, twice as likely a drop as that a group is shaped."""
    in_flight = sorted(plain.in_flight)
    events = [(name, ordinal) for ordinal in in_flight for name in ("accept", "drop", "drop")]
    events += [("admit", 0)] * (2 * len(events) + 1) * plain.can_admit()
    return events + [("take", 0)] * plain.has_batch() + [("release", 0)] * (plain.taken is not None)


@given(configs, st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_every_answer_is_that_of_the_plain_definition(config: BufferConfig, seed: int) -> None:
    buffer: GroupBuffer[int] = GroupBuffer(config)
    plain, rng = PlainBuffer(config), random.Random(seed)
    for _ in range(200):
        assert (buffer.can_admit(), buffer.has_batch()) == (plain.can_admit(), plain.has_batch())
        assert (buffer.num_in_flight, buffer.num_buffered) == (len(plain.in_flight), len(plain.buffered))
        assert [ordinal for ordinal, _ in buffer.waiting()] == sorted(plain.buffered)
        if not (events := plain_events(plain)):
            break
        event, ordinal = rng.choice(events)
        if event == "admit":
            assert buffer.admit() == plain.admit()
        elif event == "take":
            batch = buffer.take()
            assert (batch.ordinals, batch.dropped) == plain.take()
        elif event == "release":
            buffer.release(buffer.version + 1)
            plain.release()
        elif event == "accept":
            buffer.accept(ordinal, ordinal)
            plain.accept(ordinal)
        else:
            buffer.drop(ordinal, DropReason.NO_SIGNAL)
            plain.drop(ordinal, DropReason.NO_SIGNAL)


def play(config: BufferConfig, fates: list[bool], seed: int) -> list[tuple[int, ...]]:
    """The batches of a whole run whose groups finish in an order drawn from `seed`; group i is kept if `fates[i]`."""
    order = random.Random(seed)
    buffer: GroupBuffer[int] = GroupBuffer(config)
    in_flight: list[int] = []
    batches = []
    while buffer.version < config.num_steps:
        while buffer.can_admit():
            in_flight.append(buffer.admit())
        if buffer.has_batch():
            batches.append(buffer.take().ordinals)
            buffer.release(buffer.version + 1)
            continue
        ordinal = in_flight.pop(order.randrange(len(in_flight)))
        if fates[ordinal]:
            buffer.accept(ordinal, ordinal)
        else:
            buffer.drop(ordinal, DropReason.NO_SIGNAL)
    return batches


@given(st.lists(st.booleans(), min_size=64, max_size=64), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_synchronous_batches_do_not_depend_on_the_order_of_completion(fates: list[bool], seed: int) -> None:
    config = make_config(4, num_steps=4, max_attempts_per_step=16)
    first = play(config, fates, seed)
    assert first == play(config, fates, seed + 1)
    # What a batch must be: the next four groups that are kept, at most sixteen being tried.
    expected, ordinal = [], 0
    for _ in range(4):
        tried = range(ordinal, ordinal + 16)
        kept = [each for each in tried if fates[each]][:4]
        expected.append(tuple(kept))
        ordinal = kept[-1] + 1 if len(kept) == 4 else ordinal + 16
    assert first == expected


def test_a_slow_group_is_not_overtaken_beyond_the_bound() -> None:
    # B = 1, s = 1: groups 0 and 1 start at version 0 and may be trained at versions 0 and 1. Were 1 and then every
    # later group trained before the slow group 0, the bound would be lost without anyone noticing.
    buffer: GroupBuffer[str] = GroupBuffer(make_config(1, max_staleness=1, num_steps=9))
    assert [buffer.admit(), buffer.admit()] == [0, 1]
    buffer.accept(1, "fast")
    assert not buffer.has_batch()
    buffer.accept(0, "slow")
    assert buffer.take().items == ("slow",)


def test_a_dropped_group_frees_its_slot_and_is_counted() -> None:
    buffer: GroupBuffer[str] = GroupBuffer(make_config(2))
    buffer.admit(), buffer.admit()
    assert not buffer.can_admit()
    buffer.drop(0, DropReason.NO_VERDICT)
    assert buffer.can_admit()
    buffer.accept(buffer.admit(), "b")
    buffer.accept(1, "a")
    batch = buffer.take()
    assert (batch.ordinals, batch.items, batch.is_short) == ((1, 2), ("a", "b"), False)
    assert batch.dropped == Counter({DropReason.NO_VERDICT: 1})
    # Counted once: the next batch starts from nothing.
    buffer.release(1)
    for _ in range(2):
        buffer.accept(buffer.admit(), "c")
    assert buffer.take().dropped == Counter()


def test_spent_attempts_end_in_a_short_batch_and_the_next_step_starts_anew() -> None:
    buffer: GroupBuffer[str] = GroupBuffer(make_config(2, max_attempts_per_step=3))
    buffer.accept(buffer.admit(), "kept")
    for _ in range(2):
        assert not buffer.has_batch()
        buffer.drop(buffer.admit(), DropReason.NO_SIGNAL)
    assert not buffer.can_admit()
    batch = buffer.take()
    assert (batch.ordinals, batch.is_short, batch.dropped.total()) == ((0,), True, 2)
    buffer.release(1)
    # A short batch counts as a full one: step 1 has two slots, not three.
    assert [buffer.admit(), buffer.admit()] == [3, 4]
    assert not buffer.can_admit()


def test_when_every_group_is_dropped_the_batch_is_empty() -> None:
    buffer: GroupBuffer[str] = GroupBuffer(make_config(2, max_attempts_per_step=2))
    for _ in range(2):
        buffer.drop(buffer.admit(), DropReason.FILTERED)
    batch = buffer.take()
    assert (batch.items, batch.is_short, batch.dropped) == ((), True, Counter({DropReason.FILTERED: 2}))


def test_slots_are_free_only_when_the_version_is_released() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(1, max_staleness=1, num_steps=9))
    for _ in range(2):
        buffer.accept(buffer.admit(), 0)
    buffer.take()
    # One group is in a learner step, one waits: version 0 is still the only one that is live.
    assert not buffer.can_admit() and not buffer.has_batch()
    buffer.release(1)
    assert buffer.can_admit() and buffer.has_batch()


def test_versions_are_released_one_by_one_and_only_after_a_batch() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(1))
    with pytest.raises(RecordError, match="no batch was taken for it"):
        buffer.release(1)
    buffer.accept(buffer.admit(), 0)
    buffer.take()
    for version in (0, 2):
        with pytest.raises(RecordError, match=f"one by one: 0 is live, got {version}"):
            buffer.release(version)
    buffer.release(1)
    with pytest.raises(RecordError, match="one by one: 1 is live, got 1"):
        buffer.release(1)


def test_events_that_cannot_be_are_refused() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(1))
    with pytest.raises(RecordError, match="a batch was taken that is not there"):
        buffer.take()
    buffer.admit()
    with pytest.raises(RecordError, match="admission is closed"):
        buffer.admit()
    buffer.accept(0, 0)
    for event in (lambda: buffer.accept(0, 0), lambda: buffer.drop(0, DropReason.EMPTY)):
        with pytest.raises(RecordError, match="group 0 is not in flight"):
            event()
    buffer.take()
    with pytest.raises(RecordError, match="a batch was taken that is not there"):
        buffer.take()


def test_no_group_is_admitted_for_a_step_after_the_last() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(1, max_staleness=3, num_steps=2))
    assert [buffer.admit(), buffer.admit()] == [0, 1]
    assert not buffer.can_admit()
