"""Workers that die, hang or are slow: their work is done elsewhere, and they come back current or not at all."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from services.pool import Pool, PoolConfig, RestartBudget
from services.reports import RunEvent
from services.virtual_time import run_virtual, virtual_clock
from shaping.errors import RoleDied, RolloutAborted, RunFailed

GONE = RoleDied(role="rollout", cause="its process ended")
NEVER = 1e9


@dataclass(slots=True)
class Hand:
    """A worker whose calls take `seconds`; a dead one answers nothing until it is restarted."""

    worker_id: str
    seconds: float = 1.0
    is_dead: bool = False
    start_fails: int = 0
    num_starts: int = 0
    done: list[str] = field(default_factory=list)

    async def start(self) -> None:
        self.num_starts += 1
        await asyncio.sleep(5.0)
        if self.num_starts <= self.start_fails:
            raise RunFailed(role="rollout", cause="no memory")
        self.is_dead = False

    async def restart(self) -> None:
        self.is_dead = True
        self.seconds = 1.0

    async def ping(self) -> None:
        if self.is_dead:
            raise GONE

    async def work(self, name: str) -> str:
        await asyncio.sleep(self.seconds)
        if self.is_dead:
            raise GONE
        self.done.append(name)
        return f"{name} by {self.worker_id}"


@dataclass(slots=True)
class Team:
    pool: Pool[Hand]
    hands: list[Hand]
    events: list[RunEvent]

    async def call(self, name: str) -> str:
        return await self.pool.call(lambda hand: hand.work(name), what="work", group_id=name)

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def make_team(
    number: int, *, restarts: int = 3, attempts: int = 2, joins_at_once: Callable[[], bool] = lambda: True
) -> Team:
    events: list[RunEvent] = []

    async def report(event: RunEvent) -> None:
        events.append(event)

    hands = [Hand(f"rollout-{index}") for index in range(number)]
    pool = Pool(
        hands,
        role="rollout",
        config=PoolConfig(call_seconds=10.0, start_seconds=20.0, heartbeat_seconds=30.0, attempts=attempts),
        budget=RestartBudget(restarts),
        joins_at_once=joins_at_once,
        report=report,
        on_change=lambda: None,
    )
    return Team(pool, hands, events)


async def watched(team: Team, *, seconds: float) -> None:
    """Let the pool look after its workers for so long."""
    async with asyncio.timeout(seconds + NEVER):
        watch = asyncio.ensure_future(team.pool.supervise())
        await asyncio.wait([watch], timeout=seconds)
        if watch.done():
            await watch
        watch.cancel()


def test_work_goes_to_the_worker_with_the_least_to_do() -> None:
    async def law() -> None:
        team = make_team(2)
        team.hands[0].seconds = 3.0
        slow = asyncio.ensure_future(team.call("a"))
        await asyncio.sleep(0)
        # rollout-0 is at work, so both go to rollout-1, one after the other.
        assert [await team.call("b"), await team.call("c")] == ["b by rollout-1", "c by rollout-1"]
        assert await slow == "a by rollout-0"

    run_virtual(law())


def test_work_of_a_dead_worker_is_done_by_another_and_costs_no_attempt() -> None:
    async def law() -> None:
        team = make_team(2, attempts=1)
        team.hands[0].is_dead = True
        assert await team.call("a") == "a by rollout-1"
        assert [port.worker_id for port in team.pool.serving] == ["rollout-1"]
        assert team.events[0].message == "group a is asked for again, rollout-0 is gone: its process ended"

    run_virtual(law())


def test_a_dead_worker_is_started_again_and_its_work_waits_where_it_was_the_only_one() -> None:
    async def law() -> None:
        team = make_team(1)
        team.hands[0].is_dead = True
        working = asyncio.ensure_future(team.call("a"))
        await watched(team, seconds=10.0)
        assert await working == "a by rollout-0"
        assert team.kinds() == ["group_retried", "worker_left_out", "worker_restarted"]
        assert team.events[1].workers[0].state == "failed" and team.events[2].workers[0].start_seconds == 5.0

    run_virtual(law())


def test_a_silent_death_is_found_by_its_heartbeat() -> None:
    async def law() -> None:
        team = make_team(2)
        team.hands[1].is_dead = True
        await watched(team, seconds=29.0)
        assert team.kinds() == []
        await watched(team, seconds=31.0)
        assert team.kinds() == ["worker_left_out"]
        assert "rollout-1 is out and started again, restart 1 of 3" in team.events[0].message

    run_virtual(law())


def test_a_worker_that_is_too_slow_is_left_out_and_the_failure_counts() -> None:
    async def law() -> None:
        team = make_team(2, attempts=2)
        team.hands[0].seconds = NEVER
        began = virtual_clock()
        assert await team.call("a") == "a by rollout-1"
        assert virtual_clock() - began == 11.0  # its deadline of 10 s, then 1 s of work
        assert [port.worker_id for port in team.pool.serving] == ["rollout-1"]
        team.hands[1].seconds = NEVER
        watch = asyncio.ensure_future(watched(team, seconds=100.0))
        assert await team.call("b") == "b by rollout-0"
        await watch

    run_virtual(law())


def test_a_worker_that_came_back_gets_no_work_before_it_is_current() -> None:
    async def law() -> None:
        team = make_team(1, joins_at_once=lambda: False)
        team.hands[0].is_dead = True
        working = asyncio.ensure_future(team.call("a"))
        await watched(team, seconds=10.0)
        assert not working.done() and not team.pool.serving
        assert [port.worker_id for port in team.pool.behind] == ["rollout-0"]
        team.pool.admit(["rollout-0"], since=team.pool.num_starts)
        assert await working == "a by rollout-0"

    run_virtual(law())


def test_what_is_known_of_a_worker_ends_with_its_restart() -> None:
    async def law() -> None:
        team = make_team(2, joins_at_once=lambda: False)
        before = team.pool.num_starts
        team.pool.leave_out("rollout-0", "its process ended")
        await watched(team, seconds=10.0)
        # It has lost what it was given before, and what failed before is no fault of its own.
        team.pool.admit(["rollout-0", "rollout-1"], since=before)
        team.pool.leave_out("rollout-0", "no answer in time", since=before)
        assert [port.worker_id for port in team.pool.behind] == ["rollout-0"]
        team.pool.admit(["rollout-0"], since=team.pool.num_starts)
        assert [port.worker_id for port in team.pool.serving] == ["rollout-0", "rollout-1"]

    run_virtual(law())


def test_a_start_that_fails_is_tried_again_until_the_budget_is_spent() -> None:
    async def law() -> None:
        team = make_team(2, restarts=2)
        team.hands[0].is_dead, team.hands[0].start_fails = True, 9
        await team.call("a")
        await watched(team, seconds=100.0)
        assert team.kinds()[-1] == "worker_lost"
        assert team.events[-1].message == "rollout-0 is lost, the others go on: rollout: no memory"
        assert await team.call("b") == "b by rollout-1"

    run_virtual(law())


def test_a_run_whose_last_worker_is_lost_ends_with_its_cause() -> None:
    async def law() -> None:
        team = make_team(1, restarts=0)
        team.pool.leave_out("rollout-0", "its process ended")
        with pytest.raises(BaseExceptionGroup) as caught:
            await watched(team, seconds=1.0)
        (failure,) = caught.value.exceptions
        assert str(failure) == (
            "rollout: no worker is left: rollout-0 went out and no restart remains of 0 (run.max_worker_restarts); "
            "its cause: its process ended"
        )

    run_virtual(law())


def test_restarts_of_all_roles_come_out_of_one_budget() -> None:
    budget = RestartBudget(2)
    assert [budget.take() for _ in range(3)] == [True, True, False]
    assert RestartBudget(2, spent=2).take() is False


def test_a_pool_that_is_held_gives_no_work_and_asks_again_for_what_was_given_up() -> None:
    async def law() -> None:
        team = make_team(2, attempts=1)
        given_up: list[str] = []

        async def aborted(hand: Hand) -> str:
            await asyncio.sleep(1.0)
            if not given_up:
                given_up.append(hand.worker_id)
                raise RolloutAborted("given up")
            return hand.worker_id

        calls = [asyncio.ensure_future(team.pool.call(aborted, what="work", group_id="a"))]
        await asyncio.sleep(0.5)
        team.pool.hold()
        calls.append(asyncio.ensure_future(team.call("b")))
        await asyncio.sleep(100.0)
        assert team.pool.num_asked == 2 and team.pool.num_under_way == 0
        team.pool.let_go()
        first, second = await asyncio.gather(*calls)
        assert {first, second} <= {"rollout-0", "rollout-1", "b by rollout-0", "b by rollout-1"} and len(given_up) == 1
        assert virtual_clock() == 101.5 and team.events == [] and team.pool.num_asked == 0

    run_virtual(law())


def test_a_worker_that_drains_finishes_and_is_no_longer_asked() -> None:
    async def law() -> None:
        team = make_team(2)
        team.hands[0].seconds = 7.0
        first = asyncio.ensure_future(team.call("a"))
        await asyncio.sleep(0.5)
        team.pool.drain("rollout-0")
        assert await asyncio.gather(*(team.call(name) for name in "bcd")) == [f"{x} by rollout-1" for x in "bcd"]
        assert not team.pool.is_idle("rollout-0")
        assert await first == "a by rollout-0" and team.pool.is_idle("rollout-0")

    run_virtual(law())


def test_a_worker_whose_user_starts_it_again_costs_nothing_of_the_budget() -> None:
    async def law() -> None:
        team = make_team(1, restarts=1)
        supervising = asyncio.ensure_future(team.pool.supervise())
        for number in (1, 2, 3):
            team.pool.renew("rollout-0", "asked for")
            await asyncio.sleep(6.0)
            assert team.pool.restarts("rollout-0") == number
        assert await team.call("a") == "a by rollout-0"
        supervising.cancel()

    run_virtual(law())


def test_no_worker_is_started_while_restarts_are_postponed() -> None:
    async def law() -> None:
        team = make_team(1)
        supervising = asyncio.ensure_future(team.pool.supervise())
        team.pool.revival.postpone()
        team.pool.leave_out("rollout-0", "gone")
        await asyncio.sleep(1000.0)
        assert team.hands[0].num_starts == 0
        team.pool.revival.go_on()
        await asyncio.sleep(6.0)
        assert team.hands[0].num_starts == 1
        supervising.cancel()

    run_virtual(law())


def test_a_call_that_dies_with_its_worker_leaves_nothing_of_its_successor_out() -> None:
    async def law() -> None:
        team = make_team(1)
        supervising = asyncio.ensure_future(team.pool.supervise())

        async def dies_late(hand: Hand) -> str:
            if hand.num_starts == 0:
                await asyncio.sleep(30.0)
                raise GONE
            return hand.worker_id

        late = asyncio.ensure_future(team.pool.call(dies_late, what="work", group_id="a"))
        await asyncio.sleep(1.0)
        team.pool.renew("rollout-0", "asked for")
        assert await late == "rollout-0"
        # The news of the first one's death came when the second had long started.
        assert team.hands[0].num_starts == 1 and virtual_clock() < 40.0
        supervising.cancel()

    run_virtual(law())
