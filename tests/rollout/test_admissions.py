"""Recent sample recovery: what is kept beyond a step opens the next one, and nothing of it depends on timing."""

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.admissions.base import Admission
from rollout.admissions.exact import Exact
from rollout.admissions.rsr import RecentSampleRecovery
from rollout.buffer import GroupBuffer
from rollout.buffer_config import BufferConfig
from shaping.components import ComponentSpec, load
from shaping.errors import RecipeError
from shaping.groups import DropReason

Trace = list[tuple[tuple[int, ...], tuple[int, ...]]]
"""Of each batch: the ordinals, and the versions at which these were admitted."""


def make_config(
    admission: Admission, *, groups: int = 2, max_staleness: int = 0, num_steps: int = 3, attempts: int = 1000
) -> BufferConfig:
    return BufferConfig(
        groups_per_step=groups,
        max_staleness=max_staleness,
        num_steps=num_steps,
        max_buffered_groups=1000,
        max_attempts_per_step=attempts,
        admission=admission,
    )


def admit_all(buffer: GroupBuffer[int]) -> list[int]:
    admitted = []
    while buffer.can_admit():
        admitted.append(buffer.admit())
    return admitted


def finish(buffer: GroupBuffer[int], ordinal: int, *, is_kept: bool) -> None:
    if is_kept:
        buffer.accept(ordinal, ordinal)
    else:
        buffer.drop(ordinal, DropReason.NO_SIGNAL)


def play(config: BufferConfig, fates: list[bool], seed: int, *, is_interrupted: bool = False) -> Trace:
    """A whole run whose groups end in an order drawn from `seed`; group i is kept if `fates[i]`.

    Args:
        is_interrupted: each event happens to a buffer that was just restored from the state of the one before.
    """
    order, trace = random.Random(seed), Trace()
    buffer: GroupBuffer[int] = GroupBuffer(config)
    in_flight: list[int] = []
    started: dict[int, int] = {}
    while buffer.version < config.num_steps:
        if is_interrupted:
            state, waiting = json.loads(json.dumps(buffer.state())), dict(buffer.waiting())
            buffer = GroupBuffer(config)
            buffer.restore(state, waiting)
        if buffer.can_admit() and (not in_flight or order.random() < 0.5):
            ordinal = buffer.admit()
            started[ordinal] = buffer.version
            in_flight.append(ordinal)
        elif buffer.has_batch():
            taken = buffer.take().ordinals
            trace.append((taken, tuple(started[each] for each in taken)))
            buffer.release(buffer.version + 1)
        elif in_flight:
            ordinal = in_flight.pop(order.randrange(len(in_flight)))
            finish(buffer, ordinal, is_kept=fates[ordinal])
    return trace


def test_the_third_legitimate_group_of_step_one_opens_step_two_which_needs_one_more() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(RecentSampleRecovery(over_sampling=1.5)))
    # ceil(1.5 x 2) start; all are legitimate, two are trained and c waits.
    assert admit_all(buffer) == [0, 1, 2]
    for ordinal in (2, 0, 1):
        assert not buffer.has_batch()
        buffer.accept(ordinal, ordinal)
    batch = buffer.take()
    assert (batch.ordinals, batch.num_surplus, batch.is_short) == ((0, 1), 1, False)
    assert not buffer.can_admit()
    buffer.release(1)
    # One is missing, ceil(1.5 x 1) start; the first of them completes the step.
    assert admit_all(buffer) == [3, 4]
    buffer.drop(4, DropReason.NO_SIGNAL)
    buffer.accept(3, 3)
    batch = buffer.take()
    assert (batch.ordinals, batch.num_surplus) == ((2, 3), 0)
    buffer.release(2)
    # The last step: two are missing, and none may be left over.
    assert admit_all(buffer) == [5, 6]


def test_a_round_ends_before_another_opens_and_opens_for_what_is_missing_then() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(RecentSampleRecovery(over_sampling=1.5), groups=4))
    assert admit_all(buffer) == [0, 1, 2, 3, 4, 5]
    for ordinal in (5, 3, 1, 0, 2):
        finish(buffer, ordinal, is_kept=ordinal in (2, 3))
        # One that was dropped is not replaced while others are under way.
        assert admit_all(buffer) == []
    buffer.drop(4, DropReason.NO_SIGNAL)
    # Two of four are there: ceil(1.5 x 2) more.
    assert admit_all(buffer) == [6, 7, 8]


def test_beside_training_a_dropped_group_is_replaced_at_once_and_surplus_needs_no_round() -> None:
    config = make_config(RecentSampleRecovery(over_sampling=1.5), groups=2, max_staleness=1, num_steps=9)
    buffer: GroupBuffer[int] = GroupBuffer(config)
    # (1 + 0 + 1) x 2 slots are missing, and one more may start for a step.
    assert admit_all(buffer) == [0, 1, 2, 3, 4]
    buffer.drop(2, DropReason.NO_SIGNAL)
    assert admit_all(buffer) == [5]
    buffer.accept(0, 0)
    buffer.accept(1, 1)
    assert buffer.take().ordinals == (0, 1)
    assert config.max_age_versions == 2  # 1 + ceil(1 / 2)


@pytest.mark.parametrize(
    ("over_sampling", "missing", "surplus"),
    # ceil(1.5 x 3) - 3 = 2; 1.1 x 10 is 11 and a rounding error; a whole group for any fraction.
    [(1.5, 3, 2), (1.5, 1, 1), (1.1, 10, 1), (1.1, 11, 2), (1.0, 7, 0), (2.0, 7, 7), (3.0, 2, 4)],
)
def test_whole_groups_start(over_sampling: float, missing: int, surplus: int) -> None:
    assert RecentSampleRecovery(over_sampling=over_sampling).surplus(missing) == surplus


@given(
    st.sampled_from([1.25, 1.5, 2.0, 2.5]),
    st.integers(1, 4),
    st.lists(st.booleans(), min_size=400, max_size=400).filter(lambda fates: sum(fates) > 60),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_synchronous_batches_and_ages_are_those_of_the_paper_whatever_the_order_of_completion(
    over_sampling: float, groups: int, fates: list[bool], seed: int
) -> None:
    num_steps = 4
    config = make_config(RecentSampleRecovery(over_sampling=over_sampling), groups=groups, num_steps=num_steps)
    # The paper's loop: sample a round for what is missing, filter, until a step is full; the rest opens the next one.
    expected, pool, ordinal = Trace(), list[tuple[int, int]](), 0
    for version in range(num_steps):
        while len(pool) < groups:
            size = math.ceil(over_sampling * (groups - len(pool)))
            size = min(size, (num_steps - version) * groups - len(pool))
            pool += [(each, version) for each in range(ordinal, ordinal + size) if fates[each]]
            ordinal += size
        taken, pool = pool[:groups], pool[groups:]
        expected.append((tuple(each for each, _ in taken), tuple(at for _, at in taken)))
    assert play(config, fates, seed) == expected
    ages = [step - at for step, (_, started) in enumerate(expected) for at in started]
    assert max(ages) <= math.ceil((math.ceil(over_sampling * groups) - groups) / groups) == config.max_age_versions


@given(
    st.integers(0, 2),
    st.sampled_from([1.0, 1.5, 2.5]),
    st.lists(st.booleans(), min_size=400, max_size=400),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_a_buffer_restored_after_every_event_goes_on_as_the_one_that_was_saved(
    max_staleness: int, over_sampling: float, fates: list[bool], seed: int
) -> None:
    admission = RecentSampleRecovery(over_sampling=over_sampling)
    config = make_config(admission, max_staleness=max_staleness, num_steps=5, attempts=6)
    assert play(config, fates, seed, is_interrupted=True) == play(config, fates, seed)


@given(st.integers(0, 2), st.lists(st.integers(0, 2**16), min_size=1, max_size=150))
@settings(max_examples=100, deadline=None)
def test_a_factor_of_one_is_exact_admission_event_for_event(max_staleness: int, choices: list[int]) -> None:
    admissions: tuple[Admission, ...] = (RecentSampleRecovery(over_sampling=1.0), Exact())
    pair = [GroupBuffer[int](make_config(each, max_staleness=max_staleness, attempts=5)) for each in admissions]
    in_flight: list[int] = []
    is_taken = False
    for choice in choices:
        ours, exact = pair
        assert (ours.can_admit(), ours.has_batch(), ours.state()) == (
            exact.can_admit(),
            exact.has_batch(),
            exact.state(),
        )
        events = ["admit"] * ours.can_admit() + ["take"] * ours.has_batch() + ["release"] * is_taken
        events += ["keep", "drop"] * bool(in_flight)
        if not events:
            break
        event = events[choice % len(events)]
        if event == "admit":
            in_flight.append({each.admit() for each in pair}.pop())
        elif event == "take":
            first, second = (each.take() for each in pair)
            assert first == second and first.num_surplus is None
            is_taken = True
        elif event == "release":
            for each in pair:
                each.release(each.version + 1)
            is_taken = False
        else:
            ordinal = in_flight.pop(choice % len(in_flight))
            for each in pair:
                finish(each, ordinal, is_kept=event == "keep")


@pytest.mark.parametrize("over_sampling", [1.5, 2.0])
def test_no_more_is_sampled_than_the_cap_and_a_short_batch_leaves_nothing_over(over_sampling: float) -> None:
    config = make_config(RecentSampleRecovery(over_sampling=over_sampling), groups=4, attempts=6)
    buffer: GroupBuffer[int] = GroupBuffer(config)
    # A round of 6 or 8, of which 6 may be tried: the cap is spent, and one group is there.
    assert admit_all(buffer) == [0, 1, 2, 3, 4, 5]
    for ordinal in range(6):
        finish(buffer, ordinal, is_kept=ordinal == 0)
    assert admit_all(buffer) == []
    batch = buffer.take()
    assert (batch.ordinals, batch.is_short, batch.num_attempts, batch.num_surplus) == ((0,), True, 6, 0)
    buffer.release(1)
    assert len(admit_all(buffer)) == 6


def test_surplus_that_the_run_no_longer_allows_is_refused_when_it_goes_on() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(RecentSampleRecovery(over_sampling=2.0)))
    for ordinal in admit_all(buffer):
        buffer.accept(ordinal, ordinal)
    with pytest.raises(RecipeError, match=r"groups of 4 slots were admitted, and the run has 2 at step 0: .*admission"):
        GroupBuffer[int](make_config(Exact())).restore(buffer.state(), dict(buffer.waiting()))


def test_the_surplus_and_the_mean_age_of_carried_groups_are_told() -> None:
    buffer: GroupBuffer[int] = GroupBuffer(make_config(RecentSampleRecovery(over_sampling=1.5)))
    for ordinal in admit_all(buffer):
        buffer.accept(ordinal, ordinal)
    batch = buffer.take()
    assert batch.surplus_metrics([0, 0]) == {"admission_surplus_groups_count": 1.0}
    # Two of three are older than the step, by one and two versions.
    assert batch.surplus_metrics([1, 0, 2])["admission_carried_age_versions_mean"] == 1.5
    exact: GroupBuffer[int] = GroupBuffer(make_config(Exact()))
    for ordinal in admit_all(exact):
        exact.accept(ordinal, ordinal)
    assert exact.take().surplus_metrics([0, 0]) == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"over_sampling": 0.9}, r"over_sampling must be in \[1, 1 \+ max_age\], got 0\.9 and max_age 1"),
        ({"over_sampling": 2.1}, "what is left over must fit into the steps that it may wait for; raise max_age"),
        ({"over_sampling": float("nan")}, "got nan"),
        ({"over_sampling": 1.5, "max_age": 0}, "got 1.5 and max_age 0"),
        ({"max_age": -1}, "max_age must be >= 0, got -1"),
    ],
)
def test_a_factor_that_would_let_groups_grow_older_than_max_age_is_refused(
    options: dict[str, float], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        load("rollout.admissions", ComponentSpec(kind="rsr", options=dict(options)), "run.admission")
