"""A group buffer whose sizes change while it works: nothing is lost, each group keeps the bound it started under."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.admissions.rsr import RecentSampleRecovery
from rollout.buffer import GroupBuffer
from rollout.buffer_config import BufferConfig
from shaping.errors import RecipeError
from shaping.groups import DropReason


def make_config(
    *, staleness: int = 0, steps: int = 4, room: int = 100, attempts: int = 100, over_sampling: float = 1.0
) -> BufferConfig:
    """Two groups a step."""
    return BufferConfig(
        groups_per_step=2,
        max_staleness=staleness,
        num_steps=steps,
        max_buffered_groups=room,
        max_attempts_per_step=attempts,
        admission=RecentSampleRecovery(over_sampling=over_sampling),
    )


def admit_all(buffer: GroupBuffer[int]) -> list[int]:
    admitted = []
    while buffer.can_admit():
        admitted.append(buffer.admit())
    return admitted


def train(buffer: GroupBuffer[int]) -> tuple[int, ...]:
    batch = buffer.take()
    buffer.release(buffer.version + 1)
    return batch.ordinals


def test_a_higher_bound_admits_more_at_once() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config())
    assert admit_all(buffer) == [0, 1]
    buffer.resize(make_config(staleness=2))
    # (2 + 0 + 1) x 2 slots, two of them charged.
    assert admit_all(buffer) == [2, 3, 4, 5]


def test_a_lower_bound_admits_none_until_what_is_over_is_trained() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(staleness=2))
    for ordinal in admit_all(buffer):
        buffer.accept(ordinal, ordinal)
    buffer.resize(make_config(staleness=0))
    trained = []
    for version in (1, 2):
        trained += train(buffer)
        # 6 slots are charged, and (0 + version + 1) x 2 are there: none is free before version 3.
        assert admit_all(buffer) == [] and buffer.version == version
    trained += train(buffer)
    assert trained == [0, 1, 2, 3, 4, 5]
    assert admit_all(buffer) == [6, 7]


def test_a_checkpoint_taken_while_more_wait_than_the_bound_allows_can_be_gone_on_from() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(staleness=2))
    for ordinal in admit_all(buffer):
        buffer.accept(ordinal, ordinal)
    buffer.resize(make_config(staleness=0))
    state, items = json.loads(json.dumps(buffer.state())), dict(buffer.waiting())
    again: GroupBuffer[int] = GroupBuffer(make_config(staleness=0))
    again.restore(state, items)
    assert again.state() == buffer.state() and train(again) == (0, 1)
    # A bound below the one that was saved is as wrong as ever.
    buffer.resize(make_config(staleness=2))
    with pytest.raises(RecipeError, match=r"6 slots were admitted, and the run has 2 at step 0"):
        GroupBuffer[int](make_config(staleness=0)).restore(buffer.state(), items)


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_target_below_the_groups_that_were_admitted_is_refused(is_taken: bool) -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(staleness=2, steps=9))
    for ordinal in admit_all(buffer):
        buffer.accept(ordinal, ordinal)
    if is_taken:
        buffer.take()
    before = buffer.state()
    # Six groups are those of three steps.
    with pytest.raises(RecipeError, match=r"run\.steps must be >= 3, got 2"):
        buffer.resize(make_config(staleness=0, steps=2))
    assert buffer.state() == before
    buffer.resize(make_config(staleness=2, steps=3))
    assert admit_all(buffer) == []


def test_the_step_under_way_counts_even_without_groups() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(attempts=2))
    for ordinal in admit_all(buffer):
        buffer.drop(ordinal, DropReason.NO_SIGNAL)
    assert buffer.take().items == ()
    with pytest.raises(RecipeError, match=r"run\.steps must be >= 1, got 0"):
        buffer.resize(make_config(steps=0))
    buffer.resize(make_config(steps=1))
    buffer.release(1)
    assert not buffer.can_admit() and not buffer.has_batch()


def test_what_is_left_of_a_round_starts_no_more_when_the_run_becomes_shorter() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(over_sampling=2.5))
    # The first of a round of five; the run then has two groups in all.
    assert buffer.admit() == 0
    buffer.resize(make_config(over_sampling=2.5, steps=1))
    assert admit_all(buffer) == []
    buffer.accept(0, 0)
    assert admit_all(buffer) == [1]


def test_groups_of_a_step_stay_as_many() -> None:
    with pytest.raises(RecipeError, match="groups_per_step must stay 2, got 3"):
        GroupBuffer[int](make_config()).resize(replace(make_config(), groups_per_step=3))


def test_a_shortage_is_foreseen_by_the_attempts_that_are_allowed_now() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(staleness=20, steps=99))
    # One of four is kept: a step of two needs eight attempts.
    for ordinal in admit_all(buffer)[:16]:
        buffer.accept(ordinal, 0) if ordinal % 4 == 0 else buffer.drop(ordinal, DropReason.NO_SIGNAL)
    assert buffer.pop_notices() == ()
    buffer.resize(make_config(staleness=20, steps=99, attempts=4))
    for ordinal in range(16, 32):
        buffer.accept(ordinal, 0) if ordinal % 4 == 0 else buffer.drop(ordinal, DropReason.NO_SIGNAL)
    assert [each.kind for each in buffer.pop_notices()] == ["starvation_predicted"]


sizes = st.builds(
    make_config,
    staleness=st.integers(0, 3),
    steps=st.integers(1, 7),
    room=st.integers(2, 9),
    attempts=st.integers(2, 9),
    over_sampling=st.sampled_from([1.0, 1.0, 1.5, 2.5]),
)


@given(first=sizes, later=st.lists(sizes, max_size=6), seed=st.integers(0, 2**16))
@settings(max_examples=300, deadline=None)
def test_sizes_that_change_at_any_moment_lose_nothing_and_keep_each_groups_bound(
    first: BufferConfig, later: list[BufferConfig], seed: int
) -> None:
    rng = random.Random(seed)
    buffer: GroupBuffer[int] = GroupBuffer(first)
    config, changes = first, list(later)
    started: dict[int, tuple[int, int]] = {}
    in_flight: list[int] = []
    ended = 0
    is_taken = False
    while buffer.version < config.num_steps:
        events = ["resize"] * bool(changes) + ["admit"] * buffer.can_admit() + ["take"] * buffer.has_batch()
        events += ["release"] * is_taken + ["accept", "drop"] * bool(in_flight)
        assert events, "the run can go on"
        event = rng.choice(events)
        if event == "resize":
            wanted = changes.pop()
            try:
                buffer.resize(wanted)
                config = wanted
            except RecipeError:
                assert wanted.num_steps < config.num_steps
        elif event == "admit":
            ordinal = buffer.admit()
            started[ordinal] = (buffer.version, config.max_age_versions)
            in_flight.append(ordinal)
        elif event == "take":
            batch, is_taken = buffer.take(), True
            ended += len(batch.ordinals)
            assert all(buffer.version - started[each][0] <= started[each][1] for each in batch.ordinals)
        elif event == "release":
            buffer.release(buffer.version + 1)
            is_taken = False
        else:
            ordinal = in_flight.pop(rng.randrange(len(in_flight)))
            if event == "accept":
                buffer.accept(ordinal, ordinal)
            else:
                buffer.drop(ordinal, DropReason.NO_SIGNAL)
                ended += 1
        assert ended + len(in_flight) + buffer.num_buffered == len(started)


def test_sizes_that_stay_leave_a_round_as_it_is() -> None:
    # A round of 4 of which 3 may be tried: the fourth belongs to it still, once "wait" allows as many more.
    config = replace(make_config(over_sampling=2.0, attempts=3), at_cap="wait")
    buffer: GroupBuffer[int] = GroupBuffer(config)
    assert admit_all(buffer) == [0, 1, 2]
    # A run that goes on from here is told of the changes before, whatever they were of.
    buffer.resize(replace(config))
    buffer.accept(0, 0)
    for ordinal in (1, 2):
        buffer.drop(ordinal, DropReason.NO_SIGNAL)
    assert admit_all(buffer) == [3]


@pytest.mark.parametrize("over_sampling", [1.0, 1.5])
def test_more_attempts_while_a_short_batch_is_trained_start_no_group_under_the_version_before(
    over_sampling: float,
) -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(attempts=2))
    assert admit_all(buffer) == [0, 1]
    buffer.accept(0, 0)
    buffer.drop(1, DropReason.NO_SIGNAL)
    assert buffer.take().is_short
    buffer.resize(make_config(attempts=9, over_sampling=over_sampling))
    assert admit_all(buffer) == []
    buffer.release(1)
    assert len(admit_all(buffer)) == 2 * over_sampling
