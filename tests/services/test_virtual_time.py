"""Virtual time: waits take no time, keep their order, and end in an error where nothing can end them."""

import asyncio
import random
import time

import pytest

from services.deadlines import within
from services.stopwatch import Stopwatch
from services.virtual_time import EndlessWait, run_virtual, virtual_clock
from shaping.errors import RunFailed

DAY = 86_400.0


def test_waits_take_their_seconds_on_the_virtual_clock_and_none_on_the_real_one() -> None:
    async def wait() -> float:
        watch = Stopwatch(virtual_clock)
        # Longer than asyncio ever sleeps at once (one day), and so short that it must not be lost after that.
        for seconds in (400 * DAY, 0.25, 1e-3):
            await asyncio.sleep(seconds)
        watch.mark("wait")
        return watch.elapsed

    began = time.monotonic()
    assert run_virtual(wait()) == pytest.approx(400 * DAY + 0.251, abs=1e-6)
    assert time.monotonic() - began < DAY


def test_tasks_wake_at_their_time_and_in_order() -> None:
    async def wake_all() -> list[tuple[float, int]]:
        woken: list[tuple[float, int]] = []

        async def wake(index: int, seconds: float) -> None:
            await asyncio.sleep(seconds)
            woken.append((virtual_clock(), index))

        order = [3.0, 1.0, 2.0, 1.0, 0.0]
        await asyncio.gather(*(wake(index, seconds) for index, seconds in enumerate(order)))
        return woken

    assert run_virtual(wake_all()) == [(0.0, 4), (1.0, 1), (1.0, 3), (2.0, 2), (3.0, 0)]


def test_the_same_program_takes_the_same_course() -> None:
    async def play(seed: int) -> list[tuple[float, int]]:
        rng, course = random.Random(seed), list[tuple[float, int]]()
        lock = asyncio.Lock()

        async def one(index: int) -> None:
            for _ in range(5):
                await asyncio.sleep(rng.expovariate(1.0))
                async with lock:
                    await asyncio.sleep(rng.choice((0.0, 0.5)))
                    course.append((virtual_clock(), index))

        await asyncio.gather(*(one(index) for index in range(8)))
        return course

    assert run_virtual(play(0)) == run_virtual(play(0))
    assert run_virtual(play(0)) != run_virtual(play(1))


def test_a_deadline_is_met_on_the_virtual_clock() -> None:
    async def miss() -> None:
        event = asyncio.Event()
        await within(900.0, event.wait(), role="learner", what="a call", key="run.deadlines.step_seconds")

    with pytest.raises(RunFailed, match="a call took longer than 900 s"):
        run_virtual(miss())


def test_a_wait_that_nothing_can_end_is_an_error_that_names_who_waits() -> None:
    async def never() -> None:
        await asyncio.Event().wait()

    async def parent() -> None:
        await asyncio.sleep(2.0)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(never(), name="lost")

    with pytest.raises(EndlessWait, match=r"at 2 s every task waits .* lost in .*never:\d+ > Event.wait:\d+"):
        run_virtual(parent())


def test_what_a_coroutine_raises_comes_out() -> None:
    async def fail() -> None:
        await asyncio.sleep(1.0)
        raise ValueError("found")

    with pytest.raises(ValueError, match="found"):
        run_virtual(fail())
