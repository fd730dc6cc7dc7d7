"""Live keys that the orchestrator itself reads, over fake roles: each one changes what the run does from then on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from fake_evaluations import FakeBook, make_evaluation
from fake_roles import FakeControl, FakeLearner, FakeRollout, FakeShaping
from fake_store import FakeStore
from prompt_builders import make_factory
from recipe_builders import make_recipe
from report_builders import Clock
from run_builders import group_ids

from services.canary import canary_request
from services.live.rows import ROWS
from services.live.settings import LiveSettings
from services.orchestrator import Orchestrator
from services.ports import RoundHandle, ShapedHandle
from services.recipe import Recipe
from services.reports import LiveChange, StepReport
from services.session import orchestrator_config
from services.weight_sync import WeightSync
from shaping.errors import RoleDied, RunFailed
from shaping.groups import DropReason, Verdict, VerdictStatus
from shaping.records import EntropySource

BASE: dict[str, Any] = {
    "rollout.groups_per_step": 2,
    "run.steps": 6,
    "run.checkpoint.every_steps": 0,
    "data.evaluation": {"kind": "arithmetic_task", "size": 2},
}


class UndecidedShaping(FakeShaping):
    """Every group has one rollout without a verdict."""

    async def shape(self, rounds: tuple[RoundHandle, ...]) -> ShapedHandle:
        handle = await super().shape(rounds)
        late = (Verdict(status=VerdictStatus.TIMED_OUT, detail="late"),)
        return replace(handle, summary=replace(handle.summary, excluded=late))


@dataclass(slots=True, kw_only=True)
class SteeredRun:
    orchestrator: Orchestrator
    live: LiveSettings
    control: FakeControl
    learner: FakeLearner
    workers: list[FakeRollout]
    shaper: FakeShaping
    store: FakeStore

    async def finish(self) -> None:
        async with asyncio.timeout(30):
            await self.orchestrator.run()

    @property
    def num_steps(self) -> int:
        return len(self.control.steps)

    @property
    def asked(self) -> int:
        """Groups asked for."""
        return len({each.group_id for worker in self.workers for each in worker.requests if each.group_id[0] == "g"})


def steer(
    change: dict[str, Any],
    *,
    after: int = 2,
    on_step: Callable[[SteeredRun, int], None] = lambda _run, _step: None,
    shaping: type[FakeShaping] = FakeShaping,
    **recipe: Any,
) -> SteeredRun:
    """A run that is asked for this change once `after` steps are reported, or before the first.

    Args:
        on_step: called with each step that is reported.
        recipe: sections of the base recipe, a double underscore for a dot.
    """
    base: Recipe = make_recipe({**BASE, **{key.replace("__", "."): value for key, value in recipe.items()}})
    clock, learner, control, store = Clock(), FakeLearner(), FakeControl(), FakeStore()
    workers = [FakeRollout(f"rollout-{index}", clock=clock) for index in range(2)]
    shaper, factory = shaping("shaping-0", clock=clock), make_factory()
    live = LiveSettings(
        base, learner=learner, shaping=[shaper], factory=factory, report=control.report, record=lambda _: None
    )
    orchestrator = Orchestrator(
        orchestrator_config(base),
        factory=factory,
        rollout=workers,
        shaping=[shaper],
        learner=learner,
        sync=WeightSync(
            learner=learner,
            workers_per_engine=1,
            deadline_seconds=20.0,
            clock=clock,
            canary=canary_request(EntropySource.RAW),
        ),
        evaluation=make_evaluation(2, base.evaluation.every_steps, 0, FakeBook()),
        control=control,
        store=store,
        clock=clock,
        live=live,
        config_of=orchestrator_config,
    )
    run = SteeredRun(
        orchestrator=orchestrator,
        live=live,
        control=control,
        learner=learner,
        workers=workers,
        shaper=shaper,
        store=store,
    )

    def heard(report: object) -> None:
        if isinstance(report, StepReport):
            on_step(run, report.step)
            if report.step == after:
                live.take([LiveChange(generation=2, values=change)])

    control.on_report = heard
    return run


async def test_the_target_can_be_raised_and_lowered_on_the_way() -> None:
    longer = steer({"run.steps": 8})
    await longer.finish()
    assert longer.num_steps == 8 and [each.policy_version for each in longer.workers] == [8, 8]
    # Told from the step on at whose border it took.
    assert [each.total_steps for each in longer.control.steps] == [6, 6, 8, 8, 8, 8, 8, 8]
    shorter = steer({"run.steps": 4})
    await shorter.finish()
    assert shorter.num_steps == 4 and shorter.asked == 8
    assert [each.policy_version for each in shorter.control.evaluations] == [0, 4]


async def test_a_target_below_the_groups_under_way_is_refused_and_the_run_goes_on() -> None:
    run = steer({"run.steps": 3}, after=2, run__max_staleness=2)
    await run.finish()
    assert run.num_steps == 6
    (failed,) = run.control.events("config_failed")
    assert "run.steps must be >= " in failed.details["error"]


async def test_groups_may_start_further_ahead_once_the_bound_is_raised() -> None:
    run = steer({"run.max_staleness": 2})
    await run.finish()
    assert set(run.learner.staleness[:6]) == {0}
    assert max(run.learner.staleness) == 2 and run.num_steps == 6


async def test_groups_start_no_further_ahead_than_a_lowered_bound_and_none_is_lost() -> None:
    run = steer({"run.max_staleness": 0}, run__max_staleness=2, run__steps=9)
    await run.finish()
    assert run.learner.batches == [group_ids(2 * step, 2 * step + 1) for step in range(9)]
    assert max(run.learner.staleness[:4]) > 0
    # What was admitted before is trained by step 6; from then on every group is of the version it is trained at.
    assert set(run.learner.staleness[-6:]) == {0}


async def test_fewer_groups_wait_once_the_room_is_less() -> None:
    waiting: list[int] = []

    def count(run: SteeredRun, step: int) -> None:
        del step
        waiting.append(run.asked - 2 * len(run.learner.batches))

    run = steer({"run.admission.max_buffered_groups": 2}, on_step=count, run__max_staleness=3, run__steps=12)
    await run.finish()
    assert max(waiting[:2]) > 2 and max(waiting[6:]) <= 2


async def test_groups_are_left_over_for_the_next_step_once_more_start_than_it_needs() -> None:
    admission = {"kind": "rsr", "over_sampling": 1.0}
    run = steer({"run.admission.over_sampling": 2.0}, run__admission=admission, run__steps=8)
    await run.finish()
    # Every group is kept. From step 4 on four start where two are missing, and every second step finds two waiting.
    assert run.learner.staleness == [0, 0] * 3 + [0, 0, 1, 1] * 2 + [0, 0]
    assert run.learner.batches == [group_ids(2 * step, 2 * step + 1) for step in range(8)]


@pytest.mark.parametrize(("value", "asked"), [(1.0, 2), (3.0, 6)])
async def test_as_many_groups_are_tried_for_a_step_as_are_allowed_now(value: float, asked: int) -> None:
    run = steer({"run.max_attempts_per_step": value})
    run.shaper.drops = lambda _: DropReason.NO_SIGNAL
    await run.finish()
    # 4 x 2 for each of the first three steps; the change took at the border after the third.
    assert [each.metrics["groups_attempts_count"] for each in run.control.steps] == [8, 8, 8, *[asked] * 3]


async def test_the_cap_does_what_is_wanted_of_it_now() -> None:
    run = steer({"run.at_attempt_cap": "stop"})
    run.shaper.drops = lambda _: DropReason.NO_SIGNAL
    with pytest.raises(RunFailed, match="all 8 attempts allowed for step 4"):
        await run.finish()


async def test_checkpoints_are_taken_as_often_as_is_wanted_now() -> None:
    run = steer({"run.checkpoint.every_steps": 1})
    await run.finish()
    assert [each.snapshot.version for each in run.store.checkpoints] == [3, 4, 5, 6]
    (change,) = run.store.checkpoints[0].snapshot.live["applied"]
    assert change == {"generation": 2, "step": 3, "values": {"run.checkpoint.every_steps": 1}}


async def test_as_many_checkpoints_are_kept_as_is_wanted_now() -> None:
    run = steer({"run.checkpoint.keep_last": 7})
    await run.finish()
    assert run.store.retention is not None and run.store.retention.keep_last == 7


async def test_evaluations_are_made_as_often_as_is_wanted_now() -> None:
    run = steer({"evaluation.every_steps": 2})
    await run.finish()
    assert [each.policy_version for each in run.control.evaluations] == [0, 4, 6]


async def test_a_budget_of_restarts_that_is_cut_is_spent() -> None:
    def kill(run: SteeredRun, step: int) -> None:
        if step in (1, 4):
            for worker in run.workers:
                worker.script["generate"] = [RoleDied(role="rollout", cause="its process ended")]

    spared = steer({"run.max_worker_restarts": 9}, on_step=kill)
    await spared.finish()
    assert len(spared.control.events("worker_restarted")) == 4
    run = steer({"run.max_worker_restarts": 2}, on_step=kill)
    with pytest.raises(RunFailed, match="no restart remains of 2"):
        await run.finish()


async def test_a_budget_of_skipped_steps_that_is_cut_ends_the_run() -> None:
    run = steer({"run.max_skipped_steps": 0})
    run.learner.skips = {4: "the loss is nan"}
    with pytest.raises(RunFailed, match="1 steps were skipped, 0 may be"):
        await run.finish()
    assert run.num_steps == 4


async def test_a_mismatch_is_judged_by_the_limit_of_now() -> None:
    run = steer({"run.max_mismatch_nats": 0.1})
    run.learner.metrics = {"learner_logprob_difference_mean_nats": 0.5}
    with pytest.raises(RunFailed, match=r"agree within 0\.1 nats"):
        await run.finish()
    assert run.num_steps == 2


async def test_a_canary_is_judged_by_the_limit_of_now() -> None:
    run = steer({"run.max_canary_nats": 0.01})
    for worker in run.workers:
        worker.canary_error_nats = 0.05
    await run.finish()
    # From step 3 on, of six.
    assert len(run.control.events("canary_alarm")) == 4


async def test_missing_verdicts_are_judged_by_the_share_of_now() -> None:
    run = steer({"run.max_no_verdict_share": 0.0}, shaping=UndecidedShaping, run__max_no_verdict_share=1.0)
    with pytest.raises(RunFailed, match="a share of 0 may"):
        await run.finish()
    # The groups of step 3 were shaped before it took.
    assert run.num_steps == 3


def test_every_live_key_of_the_run_has_its_law() -> None:
    elsewhere = {"run.dump_groups_per_step"}
    here = {
        *("run.steps", "run.max_staleness", "run.max_attempts_per_step"),
        *("run.admission.max_buffered_groups", "run.admission.over_sampling"),
        *("run.at_attempt_cap", "run.checkpoint.every_steps", "evaluation.every_steps", "run.max_worker_restarts"),
        *(
            "run.checkpoint.keep_last",
            "run.max_skipped_steps",
            "run.max_mismatch_nats",
            "run.max_canary_nats",
            "run.max_no_verdict_share",
        ),
    }
    assert here | elsewhere == {row.key for row in ROWS if row.key.startswith(("run.", "evaluation."))}
