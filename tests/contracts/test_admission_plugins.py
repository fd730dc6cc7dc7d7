"""Laws of every admission. The files are found by themselves: a new one is tested unseen."""

import inspect
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.admissions.base import Admission
from rollout.buffer import GroupBuffer
from rollout.buffer_config import BufferConfig
from shaping.components import Component, ComponentSpec, kinds, load
from shaping.errors import RecipeError
from shaping.groups import DropReason
from shaping.signals import Signal

FOLDER = "rollout.admissions"
KINDS = kinds(FOLDER)


def load_kind(kind: str, **options: object) -> Component:
    return load(FOLDER, ComponentSpec(kind=kind, options=options), "run.admission")


def make_admission(kind: str, **options: object) -> Admission:
    admission: Admission = load_kind(kind, **options).build()
    return admission


@pytest.mark.parametrize("kind", KINDS)
def test_file_holds_what_the_registry_reads(kind: str) -> None:
    component = load_kind(kind)
    assert component.module.__doc__
    assert all(isinstance(need, Signal) for need in component.needs)
    (config,) = inspect.signature(component.module.build).parameters.values()
    assert config.annotation is component.module.Config


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_option_and_misspelt_kind_are_refused_with_what_is_known(kind: str) -> None:
    with pytest.raises(RecipeError, match="did you mean 'max_buffered_groups'"):
        load_kind(kind, max_buffered_group=1)
    with pytest.raises(RecipeError, match=f"did you mean '{kind}'"):
        load_kind(f"{kind}x")


@pytest.mark.parametrize("kind", KINDS)
def test_room_for_waiting_groups_is_an_option_of_every_kind(kind: str) -> None:
    assert make_admission(kind).max_buffered_groups == 0
    assert make_admission(kind, max_buffered_groups=7).max_buffered_groups == 7
    with pytest.raises(RecipeError, match="max_buffered_groups must be >= 0, got -1"):
        load_kind(kind, max_buffered_groups=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_surplus_never_falls_where_more_is_missing(kind: str) -> None:
    found = [make_admission(kind).surplus(missing) for missing in range(1, 200)]
    assert found[0] >= 0 and found == sorted(found)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if hasattr(load_kind(kind).module, "IDENTITY")])
def test_a_declared_identity_starts_as_many_groups_as_the_kind_that_it_names(kind: str) -> None:
    declared = load_kind(kind).module.IDENTITY
    ours, other = make_admission(kind, **declared["options"]), make_admission(declared["kind"])
    assert [ours.surplus(missing) for missing in range(1, 200)] == [other.surplus(missing) for missing in range(1, 200)]


@pytest.mark.parametrize("kind", KINDS)
@given(groups=st.integers(1, 4), max_staleness=st.integers(0, 2), seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_run_comes_to_its_end_with_no_group_older_than_the_bound(
    kind: str, groups: int, max_staleness: int, seed: int
) -> None:
    rng = random.Random(seed)
    config = BufferConfig(
        groups_per_step=groups,
        max_staleness=max_staleness,
        num_steps=5,
        max_buffered_groups=groups + rng.randrange(12),
        max_attempts_per_step=groups + rng.randrange(9),
        admission=make_admission(kind),
    )
    buffer: GroupBuffer[int] = GroupBuffer(config)
    in_flight: list[int] = []
    started: dict[int, int] = {}
    ended = 0
    while buffer.version < config.num_steps:
        events = ["admit"] * buffer.can_admit() + ["take"] * buffer.has_batch() + ["end"] * bool(in_flight)
        assert events, "the run has stalled"
        event = rng.choice(events)
        if event == "admit":
            started[ordinal := buffer.admit()] = buffer.version
            in_flight.append(ordinal)
        elif event == "end":
            ordinal = in_flight.pop(rng.randrange(len(in_flight)))
            if rng.random() < 0.5:
                buffer.accept(ordinal, ordinal)
            else:
                buffer.drop(ordinal, DropReason.NO_SIGNAL)
                ended += 1
        else:
            batch = buffer.take()
            ended += len(batch.ordinals)
            assert all(buffer.version - started[each] <= config.max_age_versions for each in batch.ordinals)
            buffer.release(buffer.version + 1)
    assert ended == len(started) and not in_flight
