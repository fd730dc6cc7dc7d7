"""What a run says of itself between steps: groups that were finished, and seconds of idle workers."""

import asyncio
from itertools import pairwise

from fake_roles import settle
from hypothesis import given
from hypothesis import strategies as st
from run_builders import FakeRun, group_ids, make_run

from services.counts import TOTALS_EVERY
from services.reports import BufferReport, IntentKind, PauseMode
from services.roster import ALIVE, Roster, Standing
from services.virtual_time import run_virtual

TELL_SECONDS = 1.0


def totals(run: FakeRun) -> dict[str, float]:
    """The last that was told, zeros left out."""
    told = [each for each in run.control.reports if isinstance(each, BufferReport)]
    return {name: total for name, total in told[-1].totals.items() if total}


async def until_told() -> None:
    """Everything goes on as far as it can, and the control plane is told of what has changed."""
    await settle()
    await asyncio.sleep(1.5 * TELL_SECONDS)


def test_idle_seconds_are_told_by_what_kept_work_from_workers() -> None:
    async def law() -> None:
        # Two groups of one step for three workers; the last of them gets none.
        run = make_run(groups_per_step=2, num_steps=1, num_workers=3)
        step, sending = asyncio.Event(), asyncio.Event()
        run.learner.script["step"], run.learner.script["send_weights"] = [step], [sending]
        for worker in run.workers:
            worker.holds = {each: asyncio.Event() for each in group_ids(0, 1)}
        task = run.begin()
        await settle()
        run.clock.now += 10.0
        await until_told()
        assert totals(run) == {"rollout_idle_back_pressure_s": 10.0}
        # One of the two is done: two are idle.
        for worker in run.workers:
            worker.holds["g00000000"].set()
        await settle()
        run.clock.now += 4.0
        await until_told()
        assert totals(run) == {"rollout_idle_back_pressure_s": 18.0, "rollout_finished_groups": 1.0}
        for worker in run.workers:
            worker.holds["g00000001"].set()
        await settle()
        # All three, while the learner trains and then while weights are on their way.
        run.clock.now += 1.0
        step.set()
        await settle()
        run.clock.now += 2.0
        await until_told()
        assert totals(run) == {
            "rollout_idle_back_pressure_s": 21.0,
            "rollout_idle_weights_s": 6.0,
            "rollout_finished_groups": 2.0,
        }
        sending.set()
        await task

    run_virtual(law())


def test_idle_seconds_of_a_paused_run_are_the_users() -> None:
    async def law() -> None:
        run = make_run(groups_per_step=1, num_steps=1, num_workers=2)
        run.workers[0].holds = {each: asyncio.Event() for each in group_ids(0)}
        task = run.begin()
        await settle()
        await run.control.pause(PauseMode.FREEZE)
        await settle()
        run.clock.now += 5.0
        await until_told()
        # The other worker has a request under way, which stands still.
        assert totals(run) == {"rollout_idle_pause_s": 5.0}
        for event in run.workers[0].holds.values():
            event.set()
        await run.control.want(IntentKind.RUN)
        await task

    run_virtual(law())


def test_seconds_that_rise_alone_are_told_now_and_then() -> None:
    async def law() -> None:
        run = make_run(groups_per_step=1, num_steps=1, num_workers=2, group_seconds=100.0)
        run.workers[0].holds = {each: asyncio.Event() for each in group_ids(0)}
        task = run.begin()
        for _ in range(2 * TOTALS_EVERY + 1):
            await asyncio.sleep(TELL_SECONDS)
            run.clock.now += TELL_SECONDS
        await settle()
        # At the first look, and twice after so many more.
        assert sum(isinstance(each, BufferReport) for each in run.control.reports) == 3
        for event in run.workers[0].holds.values():
            event.set()
        await task

    run_virtual(law())


def test_what_came_after_the_last_look_is_told_at_the_end() -> None:
    async def law() -> None:
        run = make_run(groups_per_step=2, num_steps=1, num_workers=1)
        # It takes no second: nobody has looked before it is over.
        await run.finish()
        assert totals(run) == {"rollout_finished_groups": 2.0}

    run_virtual(law())


def test_the_seconds_of_a_pause_are_told_as_they_pass() -> None:
    async def law() -> None:
        run = make_run(groups_per_step=1, num_steps=2, num_workers=1)
        await run.control.pause(PauseMode.DRAIN)
        task = run.begin()
        told = []
        for _ in range(12):
            await asyncio.sleep(TELL_SECONDS)
            await settle()
            told.append(sum(each for name, each in totals(run).items() if name == "rollout_idle_pause_s"))
            run.clock.now += TELL_SECONDS
        rises = [after - before for before, after in pairwise(told)]
        assert max(rises) <= 2 * TELL_SECONDS and sum(rises) >= 8 * TELL_SECONDS
        await run.control.want(IntentKind.RUN)
        await task

    run_virtual(law())


class Port:
    """A worker that nobody asks."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id

    async def start(self) -> None: ...

    async def restart(self) -> None: ...

    async def ping(self) -> None: ...


NAMES = ("a", "b", "c")
_moves = st.tuples(st.sampled_from(NAMES), st.sampled_from(list(Standing)))
_work = st.tuples(st.sampled_from(NAMES), st.integers(-2, 2).filter(bool), st.booleans())


@given(st.lists(_moves | _work, max_size=30))
def test_the_idle_are_those_that_live_and_have_nothing_to_do(events: list[tuple[object, ...]]) -> None:
    counted = [len(NAMES)]
    roster = Roster([Port(name) for name in NAMES], lambda: counted.append(roster.num_idle))
    for event in events:
        match event:
            case (str(name), Standing() as standing):
                roster.move(name, standing)
            case (str(name), int(amount), bool(lent)):
                loads = roster.lent_loads if lent else roster.loads
                roster.add_load(name, max(amount, -loads.load(name)), lent=lent)
        idle = sum(roster.standing(name) in ALIVE and not roster.load(name) for name in NAMES)
        assert roster.num_idle == idle == counted[-1]
