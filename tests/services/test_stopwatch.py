"""The stopwatch: phases add up to the step, and time stands still while paused."""

from hypothesis import given
from hypothesis import strategies as st
from report_builders import Clock

from services.stopwatch import Stopwatch


def test_phases_of_a_lap_add_up_to_it() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    for phase, seconds in (("wait", 1.0), ("train", 2.0), ("wait", 0.5)):
        clock.now += seconds
        watch.mark(phase)
    assert watch.lap() == ({"wait": 1.5, "train": 2.0}, 3.5)
    clock.now += 4.0
    watch.mark("train")
    # A lap starts from nothing; the time of all laps goes on.
    assert watch.lap() == ({"train": 4.0}, 4.0)
    assert watch.elapsed == 7.5


def test_what_comes_before_the_start_belongs_to_no_phase() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now += 100.0
    watch.start()
    clock.now += 1.0
    watch.mark("wait")
    assert watch.lap() == ({"wait": 1.0}, 1.0)


def test_time_stands_still_while_paused() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now += 1.0
    watch.pause()
    clock.now += 50.0
    watch.pause()
    watch.resume()
    watch.resume()
    clock.now += 2.0
    watch.mark("wait")
    assert watch.lap() == ({"wait": 3.0}, 3.0)


def test_a_mark_in_a_pause_ends_at_its_beginning() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    clock.now += 1.0
    watch.pause()
    clock.now += 50.0
    watch.mark("train")
    clock.now += 50.0
    watch.resume()
    clock.now += 2.0
    watch.mark("wait")
    assert watch.lap() == ({"train": 1.0, "wait": 2.0}, 3.0)


def test_a_start_in_a_pause_begins_with_its_end() -> None:
    clock = Clock()
    watch = Stopwatch(clock)
    watch.pause()
    clock.now += 50.0
    watch.start()
    clock.now += 50.0
    watch.resume()
    clock.now += 2.0
    watch.mark("wait")
    assert watch.lap() == ({"wait": 2.0}, 2.0)


events = st.sampled_from(["mark", "pause", "resume", "lap", "start"])


@given(st.lists(st.tuples(events, st.integers(0, 10)), max_size=30))
def test_seconds_are_those_outside_pauses_and_never_negative(steps: list[tuple[str, int]]) -> None:
    clock = Clock(0.0)
    watch = Stopwatch(clock)
    is_paused, running, marked, lapped = False, 0, 0, 0
    for event, seconds in steps:
        clock.now += seconds
        running += 0 if is_paused else seconds
        if event == "mark":
            watch.mark("phase")
            marked, running = marked + running, 0
        elif event == "lap":
            phases, total = watch.lap()
            assert total == marked - lapped
            assert all(each >= 0 for each in phases.values()) and total == sum(phases.values())
            lapped = marked
        elif event == "start":
            watch.start()
            marked, running = lapped, 0
        else:
            (watch.pause if event == "pause" else watch.resume)()
            is_paused = event == "pause"
    assert watch.elapsed == marked
    assert watch.lap()[1] == marked - lapped
