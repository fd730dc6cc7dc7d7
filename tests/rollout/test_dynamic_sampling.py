"""Dropping and refilling: whatever share is kept, no policy at the cap stalls, and no accepted group is lost."""

import heapq
import itertools
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.buffer import GroupBuffer, Notice, NoticeKind, TakenBatch
from rollout.buffer_config import AtCap, BufferConfig
from shaping.errors import RecipeError, RecordError
from shaping.groups import DropReason


def make_config(
    *, at_cap: AtCap, max_staleness: int = 0, num_steps: int = 20, groups: int = 4, cap: int = 16
) -> BufferConfig:
    return BufferConfig(
        groups_per_step=groups,
        max_staleness=max_staleness,
        num_steps=num_steps,
        max_buffered_groups=(max_staleness + 1) * groups,
        max_attempts_per_step=cap,
        at_cap=at_cap,
    )


@dataclass(slots=True, kw_only=True)
class Course:
    """What became of a run."""

    num_tried: int = 0
    num_tried_at_take: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    batches: list[TakenBatch[int]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    notices: list[tuple[int, Notice]] = field(default_factory=list)
    starvation: str | None = None
    ended_at: int = 0


def play(config: BufferConfig, rate: float, *, max_tried: int = 20_000) -> Course:
    """A run on a clock of its own: groups take their time and are kept at `rate`, a learner step takes a while.

    Ends with the last step, where the policy stops it, or when `max_tried` groups were tried; fails if it stalls.
    """
    rng = random.Random(0)
    buffer: GroupBuffer[int] = GroupBuffer(config)
    course, now, timers = Course(), 0.0, list[tuple[float, int]]()
    while buffer.version < config.num_steps and course.num_tried < max_tried:
        while buffer.can_admit():
            heapq.heappush(timers, (now + rng.expovariate(1.0), buffer.admit()))
            course.num_tried += 1
        if buffer.has_batch():
            course.batches.append(buffer.take())
            course.num_tried_at_take.append(course.num_tried)
            heapq.heappush(timers, (now + 2.0, -1))
        course.starvation = buffer.starvation()
        if course.starvation is not None:
            break
        assert timers, "the run has stalled"
        now, ordinal = heapq.heappop(timers)
        if ordinal < 0:
            buffer.release(buffer.version + 1)
        elif rng.random() < rate:
            buffer.accept(ordinal, ordinal)
            course.kept.append(ordinal)
        else:
            buffer.drop(ordinal, DropReason.NO_SIGNAL)
        course.notices += ((buffer.version, each) for each in buffer.pop_notices())
    course.waiting = [ordinal for ordinal, _ in buffer.waiting()]
    course.ended_at = buffer.version
    return course


@pytest.mark.parametrize("at_cap", ["train_smaller", "wait", "stop"])
@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("max_staleness", [0, 2])
def test_no_share_of_kept_groups_stalls_a_run_or_loses_an_accepted_group(
    at_cap: AtCap, rate: float, max_staleness: int
) -> None:
    config = make_config(at_cap=at_cap, max_staleness=max_staleness)
    course = play(config, rate)
    trained = [ordinal for batch in course.batches for ordinal in batch.ordinals]
    assert trained + course.waiting == sorted(course.kept)
    # Bernoulli(rate): within 4 standard deviations of the mean, exact at the ends.
    attempts = sum(batch.num_attempts for batch in course.batches)
    kept = sum(batch.num_kept for batch in course.batches)
    assert abs(kept - rate * attempts) <= 4 * math.sqrt(attempts * rate * (1 - rate))
    if at_cap == "train_smaller" or rate >= 0.5:
        assert (course.ended_at, course.starvation) == (config.num_steps, None)
    elif at_cap == "wait":
        # At 0.02 a step needs 200 attempts; at 0 nothing ever comes, and the run goes on trying.
        assert course.ended_at == (config.num_steps if rate else 0)
    else:
        assert course.starvation is not None


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.5])
def test_train_smaller_tries_no_more_than_the_cap_and_trains_what_there_is(rate: float) -> None:
    config = make_config(at_cap="train_smaller")
    course = play(config, rate)
    tried = [b - a for a, b in itertools.pairwise([0, *course.num_tried_at_take])]
    for batch, num_tried in zip(course.batches, tried, strict=True):
        assert num_tried <= config.max_attempts_per_step
        assert batch.is_short == (len(batch.items) < config.groups_per_step)
        assert not batch.is_short or num_tried == config.max_attempts_per_step
        assert batch.num_attempts == num_tried


def test_where_every_group_is_kept_no_group_is_tried_in_vain() -> None:
    course = play(make_config(at_cap="wait"), 1.0)
    assert [batch.num_attempts for batch in course.batches] == [4] * 20
    assert [batch.keep_share for batch in course.batches] == [1.0] * 20
    assert course.notices == []


def test_wait_fills_every_batch_and_says_once_a_step_that_its_attempts_are_spent() -> None:
    course = play(make_config(at_cap="wait"), 0.1)
    assert [len(batch.items) for batch in course.batches] == [4] * 20
    said = [version for version, notice in course.notices if notice.kind is NoticeKind.ATTEMPTS_SPENT]
    # 16 attempts keep 1.6 groups on average: a step that needs 4 meets the cap, but for a lucky few.
    needed = [b - a for a, b in itertools.pairwise([0, *course.num_tried_at_take])]
    assert said == [version for version, num_tried in enumerate(needed) if num_tried > 16]
    assert len(said) > 10
    first = next(notice for _, notice in course.notices if notice.kind is NoticeKind.ATTEMPTS_SPENT)
    assert first.message.startswith("all 16 attempts allowed for step 1 have ended, and ")
    assert "of the 4 groups that it needs are there; dropped since the last step: no_signal " in first.message


def test_stop_says_attempts_kept_groups_reasons_share_and_what_to_do() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(at_cap="stop", groups=2, cap=4))
    buffer.accept(buffer.admit(), 0)
    buffer.drop(buffer.admit(), DropReason.NO_SIGNAL)
    buffer.drop(buffer.admit(), DropReason.NO_VERDICT)
    ordinal = buffer.admit()
    assert buffer.starvation() is None
    buffer.drop(ordinal, DropReason.NO_SIGNAL)
    assert not buffer.can_admit() and not buffer.has_batch()
    # The share is of groups that count a little less with age: near 1 of 4.
    assert buffer.starvation() == (
        "all 4 attempts allowed for step 1 have ended, and 1 of the 2 groups that it needs are there; dropped since "
        "the last step: no_signal 2, no_verdict 1; 24.6% of the groups are kept; raise run.max_attempts_per_step, "
        "choose prompts that are neither too hard nor too easy (rollout.selector), or raise rollout.group_size, or let "
        "run.at_attempt_cap be train_smaller or wait"
    )
    assert [ordinal for ordinal, _ in buffer.waiting()] == [0]


def test_starvation_is_predicted_before_it_is_there() -> None:
    # 8 a step, at most 32: 16 groups without one that is kept are half a step's attempts.
    course = play(make_config(at_cap="stop", groups=8, cap=32), 0.0)
    ((version, notice),) = course.notices
    assert (version, notice.kind) == (0, NoticeKind.STARVATION_PREDICTED)
    assert course.starvation is not None and course.num_tried == 32


class Driven:
    """A buffer that takes events by number, so that two of them can be given the same ones."""

    def __init__(self, config: BufferConfig) -> None:
        self.buffer: GroupBuffer[int] = GroupBuffer(config)

    def answers(self) -> tuple[object, ...]:
        buffer = self.buffer
        counts = (buffer.version, buffer.num_in_flight, buffer.num_buffered, buffer.keep_rate, buffer.waiting())
        return (buffer.can_admit(), buffer.has_batch(), buffer.starvation(), buffer.pop_notices(), *counts)

    def happen(self, choice: int) -> object:
        """One of the events that may come next, twice as likely a drop as that a group is shaped."""
        buffer, state = self.buffer, self.buffer.state()
        in_flight = state["in_flight"]
        assert isinstance(in_flight, list)
        events: list[Callable[[], object]] = []
        for ordinal in in_flight:
            events.append(partial(buffer.accept, ordinal, 10 * ordinal))
            events += [partial(buffer.drop, ordinal, reason) for reason in (DropReason.NO_SIGNAL, DropReason.FILTERED)]
        if buffer.can_admit():
            events += [buffer.admit] * (len(events) + 1)
        if buffer.has_batch():
            events.append(buffer.take)
        if state["taken"] is not None:
            events.append(partial(buffer.release, buffer.version + 1))
        return events[choice % len(events)]() if events else None


configs = st.builds(
    make_config,
    at_cap=st.sampled_from(["train_smaller", "wait", "stop"]),
    max_staleness=st.integers(0, 2),
    num_steps=st.integers(1, 4),
    groups=st.integers(1, 3),
    cap=st.integers(3, 8),
)
choices = st.lists(st.integers(0, 2**16), max_size=150)


@given(configs, choices, choices)
@settings(max_examples=300, deadline=None)
def test_at_any_moment_a_restored_buffer_goes_on_as_the_saved_one(
    config: BufferConfig, before: list[int], after: list[int]
) -> None:
    saved, restored = Driven(config), Driven(config)
    for choice in before:
        saved.happen(choice)
        saved.answers()
    state = json.loads(json.dumps(saved.buffer.state()))
    restored.buffer.restore(state, dict(saved.buffer.waiting()))
    assert restored.buffer.state() == saved.buffer.state()
    for choice in after:
        assert restored.answers() == saved.answers()
        assert restored.happen(choice) == saved.happen(choice)


def make_saved() -> GroupBuffer[int]:
    """One group waits, one is in flight, one slot of the second step is charged."""
    buffer: GroupBuffer[int] = GroupBuffer(make_config(at_cap="wait", max_staleness=1, groups=2))
    ordinals = [buffer.admit() for _ in range(4)]
    buffer.accept(ordinals[1], 10)
    return buffer


def test_a_state_goes_only_into_a_run_that_it_fits() -> None:
    state, config = make_saved().state(), make_config(at_cap="wait", max_staleness=1, groups=2)
    restored: GroupBuffer[int] = GroupBuffer(config)
    with pytest.raises(RecordError, match=r"the buffered groups must be \[1\], got \[\]"):
        restored.restore(state, {})
    with pytest.raises(RecipeError, match="saved with groups_per_step 2, the run has 3"):
        GroupBuffer[int](replace(config, groups_per_step=3)).restore(state, {1: 10})
    for changed in (replace(config, max_staleness=0), replace(config, num_steps=1)):
        with pytest.raises(RecipeError, match="groups of 4 slots were admitted, and the run has 2 at step 0"):
            GroupBuffer[int](changed).restore(state, {1: 10})
    restored.restore(state, {1: 10})
    assert restored.waiting() == ((1, 10),)
