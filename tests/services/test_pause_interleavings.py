"""Orders of a user at any time, on a virtual clock: no group is lost, and `paused` is never said too early."""

import asyncio
from typing import Any

from fake_roles import FakeRollout, FakeShaping, make_order
from hypothesis import given, settings
from hypothesis import strategies as st
from run_builders import FakeRun, make_run

from services.pausing import Released, RunCancelled
from services.ports import RoundHandle
from services.reports import IntentKind, PauseMode, ReleaseLevel, RunEvent
from services.virtual_time import run_virtual
from shaping.errors import RolloutAborted
from shaping.groups import DropReason
from shaping.records import GroupRequest

STEPS, GROUPS = 5, 2
LONGEST_S = 50_000.0
SECONDS = {"generate": 4.0, "shape": 1.0, "step": 3.0, "commit_weights": 0.7, "stage_weights": 1.3, "save_groups": 1.5}


class Slow:
    """A role whose calls take time, and are counted while they do."""

    busy: dict[str, int]

    async def called(self, method: str) -> None:
        self.busy[method] = self.busy.get(method, 0) + 1
        try:
            await asyncio.sleep(SECONDS.get(method, 0.1))
        finally:
            self.busy[method] -= 1
        await super().called(method)  # type: ignore[misc]


class SlowRollout(Slow, FakeRollout):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.busy = {}

    async def generate(self, request: GroupRequest) -> RoundHandle:
        while self.is_paused:
            # Time passes on a virtual clock only while everybody waits for it.
            await asyncio.sleep(0.05)
        self.busy["generate"] = self.busy.get("generate", 0) + 1
        try:
            return await super().generate(request)
        except RolloutAborted:
            # What was given up takes a while to come back.
            await asyncio.sleep(0.5)
            raise
        finally:
            self.busy["generate"] -= 1


class SlowShaping(Slow, FakeShaping):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.busy = {}


def make_slow(staleness: int, held_out: int, lent: int) -> FakeRun:
    run = make_run(
        groups_per_step=GROUPS,
        num_steps=STEPS,
        max_staleness=staleness,
        workers=[SlowRollout(f"rollout-{index}") for index in range(2)],
        shapers=[SlowShaping(f"shaping-{index}") for index in range(2)],
        num_held_out=held_out,
        evaluate_every=2,
        evaluation_workers=lent,
        checkpoint_every=2,
        group_attempts=1,
        with_canary=True,
    )
    for shaper in run.shapers:
        shaper.drops = lambda group_id: (
            DropReason.NO_SIGNAL if group_id.startswith("g") and int(group_id[1:]) % 5 == 1 else None
        )
    return run


def watch(run: FakeRun, problems: list[str]) -> None:
    """At `paused` no role does anything; a frozen engine holds what it has."""
    steps_busy = {"learner": 0}
    step, save = run.learner.step, run.learner.send_weights

    def counted(call: Any) -> Any:
        async def wrapped(*arguments: Any) -> Any:
            steps_busy["learner"] += 1
            try:
                await asyncio.sleep(SECONDS["step"])
                return await call(*arguments)
            finally:
                steps_busy["learner"] -= 1

        return wrapped

    run.learner.step, run.learner.send_weights = counted(step), counted(save)  # type: ignore[method-assign]

    def look(report: Any) -> None:
        if not isinstance(report, RunEvent) or report.kind != "paused":
            return
        frozen = all(worker.is_frozen for worker in run.workers)
        busy = [name for worker in run.workers for name, count in worker.busy.items() if count and name != "ping"]
        busy += [name for shaper in run.shapers for name, count in shaper.busy.items() if count and name != "ping"]
        running = [each for worker in run.workers for each in worker.running]
        if steps_busy["learner"] or (set(busy) - ({"generate"} if frozen else set())) or (running and not frozen):
            problems.append(f"{report.details}: learner {steps_busy}, {busy}, {running} under way")

    run.control.on_report = look


orders = st.tuples(
    st.floats(0.0, 25.0),
    st.sampled_from(["pause", "pause", "resume", "harder", "cancel"]),
    st.sampled_from(list(PauseMode)),
    st.booleans(),
    st.sampled_from([ReleaseLevel.NONE, ReleaseLevel.NONE, ReleaseLevel.KV_CACHE, ReleaseLevel.ROLLOUT_WEIGHTS]),
)


async def steer(run: FakeRun, plan: list[Any]) -> None:
    control = run.control
    for seconds, call, mode, checkpoint, release in plan:
        await asyncio.sleep(seconds)
        order = control.intent.order
        if call == "cancel":
            # Only the last thing that a user wants.
            continue
        if call == "resume":
            await control.want(IntentKind.RUN)
        elif call == "harder" and order is not None and not control.events("paused"):
            changed = make_order(order.operation_id, mode=mode, checkpoint=order.checkpoint, release=ReleaseLevel.NONE)
            await control.want(IntentKind.PAUSE, order=changed)
        elif call == "pause":
            given = release if mode is not PauseMode.FREEZE else ReleaseLevel.NONE
            await control.pause(mode, checkpoint=checkpoint, release=given)
    if any(call == "cancel" for _, call, _, _, _ in plan):
        order = make_order("cancel", mode=PauseMode.ABORT, checkpoint=True)
        await control.want(IntentKind.CANCEL, order=order)
        return
    # The last pause is answered before it is taken back.
    if control.intent.kind is IntentKind.PAUSE:
        wanted = control.intent.order
        assert wanted is not None
        named = wanted.operation_id
        await control.until(
            lambda _: any(each.details["operation_id"] == named for each in control.events("paused")), seconds=LONGEST_S
        )
    await control.want(IntentKind.RUN)


async def law(plan: list[Any], staleness: int, held_out: int, lent: int) -> None:
    run, problems = make_slow(staleness, held_out, lent), []  # type: ignore[var-annotated]
    watch(run, problems)
    running = asyncio.ensure_future(run.orchestrator.run())
    steering = asyncio.ensure_future(steer(run, plan))
    done, _ = await asyncio.wait([running], timeout=LONGEST_S)
    assert done, f"no wait is without end, but after {len(run.control.steps)} steps the run stands"
    steering.cancel()
    await asyncio.gather(steering, return_exceptions=True)
    is_cancelled = isinstance(running.exception(), RunCancelled)
    if not is_cancelled:
        running.result()
    assert problems == []
    ordinals = [line.ordinal for line in run.store.ledger]
    assert len(set(ordinals)) == len(ordinals), "a group ends once"
    assert run.control.events("group_retried") == [] and run.control.events("worker_left_out") == []
    assert max(run.learner.staleness, default=0) <= staleness
    if is_cancelled:
        saved = run.store.checkpoints[-1].snapshot
        named = {each.ordinal for each in (*saved.in_flight, *saved.buffered)}
        admitted = range(int(saved.buffer["next_ordinal"]))
        assert named.isdisjoint(ordinals) and named | set(ordinals) == set(admitted), "none is lost"
        return
    assert [each.step for each in run.control.steps] == list(range(1, STEPS + 1))
    assert sum(line.outcome == "trained" for line in run.store.ledger) == STEPS * GROUPS


@settings(max_examples=300, deadline=None)
@given(st.lists(orders, max_size=6), st.integers(0, 2), st.sampled_from([0, 2]), st.sampled_from([0, 1]))
def test_no_orders_in_any_order_lose_a_group_or_say_paused_too_early(
    plan: list[Any], staleness: int, held_out: int, lent: int
) -> None:
    run_virtual(law(plan, staleness, held_out, lent))


def test_everything_given_back_is_an_end_at_any_time() -> None:
    async def until_released(seconds: float) -> None:
        run = make_slow(1, 2, 1)
        running = asyncio.ensure_future(run.orchestrator.run())
        await asyncio.sleep(seconds)
        await run.control.pause(PauseMode.ABORT, checkpoint=True, release=ReleaseLevel.ALL)
        await asyncio.wait([running], timeout=LONGEST_S)
        assert isinstance(running.exception(), Released)
        assert run.store.checkpoints

    for tenths in range(0, 250, 7):
        run_virtual(until_released(tenths / 10))
