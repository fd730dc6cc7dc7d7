"""Least loaded: the same choice as looking at everyone, without looking at everyone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.least_loaded import LeastLoaded

NAMES = tuple("abcdef")
names = st.sampled_from(NAMES)
events = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), names),
        st.tuples(st.just("remove"), names),
        st.tuples(st.just("add"), names, st.integers(-3, 5)),
        st.tuples(st.just("pick"), st.sets(names)),
    ),
    max_size=300,
)


def smallest(loads: dict[str, int], members: list[str], avoid: set[str]) -> str:
    """The definition: look at everyone, in order of insertion."""
    candidates = [name for name in members if name not in avoid] or members
    return min(candidates, key=lambda name: loads[name])


@given(events)
@settings(max_examples=300, deadline=None)
def test_any_course_of_events_picks_as_the_definition_does(course: list[tuple]) -> None:  # type: ignore[type-arg]
    found, loads, members = LeastLoaded("ab"), dict.fromkeys(NAMES, 0), ["a", "b"]
    for event, *arguments in course:
        if event == "insert" and arguments[0] not in members:
            found.insert(arguments[0])
            members.append(arguments[0])
        elif event == "remove" and arguments[0] in members:
            found.remove(arguments[0])
            members.remove(arguments[0])
        elif event == "add":
            found.add(*arguments)
            loads[arguments[0]] += arguments[1]
        elif event == "pick" and members:
            assert found.pick(arguments[0]) == smallest(loads, members, arguments[0])
        assert {name: found.load(name) for name in NAMES} == loads
        assert {name for name in NAMES if name in found} == set(members)
        assert len(found) == len(members)


def test_equal_loads_are_picked_in_order_of_insertion_and_nobody_twice_before_all() -> None:
    workers = [f"w{index}" for index in range(10)]
    crew = LeastLoaded(workers)
    picked = []
    for _ in workers:
        name = crew.pick()
        crew.add(name, 8)
        picked.append(name)
    assert picked == workers


def test_work_that_outlives_a_removal_is_counted_to_its_end() -> None:
    crew = LeastLoaded("ab")
    crew.add("a", 8)
    crew.remove("a")
    crew.insert("a")
    # Its group of before is still under way: b is free, a is not.
    assert (crew.load("a"), crew.pick()) == (8, "b")
    crew.add("a", -8)
    crew.add("b", 8)
    assert (crew.load("a"), crew.pick()) == (0, "a")


def test_memory_does_not_grow_with_the_number_of_groups() -> None:
    crew = LeastLoaded("abcd")
    for _ in range(1000):
        name = crew.pick()
        crew.add(name, 8)
        crew.add(name, -8)
    assert len(crew._heap) <= 4 * len(crew) + 16


def test_what_cannot_be_is_refused() -> None:
    crew = LeastLoaded("a")
    with pytest.raises(ValueError, match="must be inserted once, got 'a'"):
        crew.insert("a")
    crew.remove("a")
    with pytest.raises(IndexError, match="found no member"):
        crew.pick()
    with pytest.raises(KeyError):
        crew.remove("a")
