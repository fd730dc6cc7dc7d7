"""Idle workers by cause: worker-seconds worked by hand."""

import asyncio

from report_builders import Clock

from services.bell import Bell
from services.idle_time import IdleCause, IdleTime


class World:
    """Two workers, and what may keep work from them."""

    def __init__(self) -> None:
        self.clock, self.bell = Clock(), Bell()
        self.num_idle = 2
        self.is_syncing = self.is_paused = self.is_full = False
        self.idle = IdleTime(
            self.clock,
            self.bell,
            num_idle=lambda: self.num_idle,
            is_syncing=lambda: self.is_syncing,
            is_paused=lambda: self.is_paused,
            is_full=lambda: self.is_full,
        )

    def seconds(self) -> dict[str, float]:
        return {cause.value: each for cause, each in self.idle.seconds().items() if each}


def test_nobody_is_idle_before_the_first_look() -> None:
    world = World()
    world.clock.now += 50.0
    assert world.seconds() == {}
    world.clock.now += 3.0
    assert world.seconds() == {"no_work": 6.0}


def test_time_belongs_to_those_who_were_idle_and_to_the_cause_that_held_until_it_changed() -> None:
    world = World()
    world.is_full = True
    world.idle.look()
    world.clock.now += 4.0
    # One gets work: until now both were idle.
    world.num_idle = 1
    world.idle.look()
    world.clock.now += 2.0
    world.is_full, world.is_syncing = False, True
    world.idle.look()
    world.clock.now += 0.5
    world.num_idle, world.is_syncing = 0, False
    world.idle.look()
    world.clock.now += 100.0
    assert world.seconds() == {"back_pressure": 2 * 4.0 + 2.0, "weights": 0.5}


def test_of_several_causes_the_first_counts() -> None:
    world = World()
    world.is_full = world.is_paused = world.is_syncing = True
    for cause in ("is_syncing", "is_paused", "is_full", "num_idle"):
        world.idle.look()
        world.clock.now += 1.0
        setattr(world, cause, 0)
    assert world.seconds() == dict.fromkeys(("weights", "pause", "back_pressure", "no_work"), 2.0)
    assert [each.value for each in IdleCause] == ["weights", "pause", "back_pressure", "no_work"]


def test_seconds_never_fall_and_are_read_as_often_as_one_likes() -> None:
    world = World()
    found = []
    for _ in range(3):
        found.append(world.seconds().get("no_work", 0.0))
        world.clock.now += 1.5
    assert found == [0.0, 3.0, 6.0]


async def test_another_cause_is_seen_at_the_ring_of_the_bell() -> None:
    world = World()
    following = asyncio.create_task(world.idle.follow())
    await asyncio.sleep(0)
    world.clock.now += 1.0
    world.is_paused = True
    world.bell.ring()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    world.clock.now += 10.0
    assert world.seconds() == {"no_work": 2.0, "pause": 20.0}
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
