"""A run that goes on from a checkpoint: nothing is trained twice, nothing is left out, in any mode, at any moment."""

import asyncio
import contextlib
import random
from collections import Counter

import pytest
from fake_roles import settle
from fake_store import FakeStore
from prompt_builders import make_factory
from run_builders import FakeRun, group_ids, make_run

from rollout.selectors.shuffled import ShuffledSelector
from services.ledger import LedgerLine
from services.orchestrator import Resumed
from services.sync_phases import SyncPhase
from shaping.errors import GroupLost, RoleDied, RunFailed
from shaping.groups import DropReason

SIZES = {"groups_per_step": 2, "num_workers": 2, "num_shapers": 2, "checkpoint_every": 1}


def begin(steps: int, staleness: int, store: FakeStore, resumed: Resumed | None, **more: object) -> FakeRun:
    """A run over seven prompts in a shuffled order, in which every third group has no signal."""
    factory = make_factory(num_prompts=7, selector=ShuffledSelector(num_prompts=7, seed=3))
    options = {**SIZES, "num_steps": steps, "max_staleness": staleness, **more}
    run = make_run(factory=factory, store=store, resumed=resumed, **options)  # type: ignore[arg-type]
    for shaper in run.shapers:
        shaper.drops = lambda group_id: DropReason.NO_SIGNAL if int(group_id[1:]) % 3 == 1 else None
    if resumed is not None:
        run.learner.policy_version = resumed.snapshot.version
    return run


def requests(run: FakeRun) -> set[tuple[str, str, int]]:
    return {(each.group_id, each.prompt.prompt_id, each.seed) for worker in run.workers for each in worker.requests}


async def test_a_synchronous_run_that_goes_on_is_the_run_that_never_stopped() -> None:
    straight, store = begin(6, 0, FakeStore(), None), FakeStore()
    await straight.finish()
    await begin(6, 0, store, None).finish()
    for checkpoint in store.checkpoints[:-1]:
        version = checkpoint.snapshot.version
        again = begin(6, 0, FakeStore(), checkpoint)
        await again.finish()
        assert again.learner.batches == straight.learner.batches[version:]
        assert requests(again) == {each for each in requests(straight) if int(each[0][1:]) >= first_of(again)}
        assert [each.step for each in again.control.steps] == list(range(version + 1, 7))
        assert [each.policy_version for each in again.workers] == [6, 6]
        # The checkpoint's own ledger, then what came after it, is the whole run's.
        assert [*store.ledger[: lines_at(store, version)], *again.store.ledger] == straight.store.ledger


async def test_a_group_that_an_earlier_process_shaped_has_no_waiting_time() -> None:
    store = FakeStore()
    await begin(4, 2, store, None).finish()
    checkpoint = next(each for each in store.checkpoints if each.snapshot.buffered)
    run = begin(4, 2, FakeStore(), checkpoint)
    await run.finish()
    restored = {each.ordinal for each in checkpoint.snapshot.buffered}
    ours = [[each for each in batch if int(each[1:]) not in restored] for batch in run.learner.batches]
    assert any(len(left) < len(right) for left, right in zip(ours, run.learner.batches, strict=True))
    for name in ("rollout_group_s", "queue_shaping_wait_s", "queue_learner_wait_s"):
        assert [step.histograms[name].count for step in run.control.steps] == [len(each) for each in ours]
    staleness = [step.histograms["learner_group_staleness_versions"].count for step in run.control.steps]
    assert staleness == [len(batch) for batch in run.learner.batches]


def first_of(run: FakeRun) -> int:
    return min(int(each.group_id[1:]) for worker in run.workers for each in worker.requests)


def lines_at(store: FakeStore, version: int) -> int:
    return sum(line.step <= version for line in store.ledger)


async def test_nothing_serves_before_it_has_the_checkpoints_version() -> None:
    store = FakeStore()
    await begin(3, 0, store, None).finish()
    run = begin(3, 0, FakeStore(), store.checkpoints[0])
    held = asyncio.Event()
    run.workers[1].script["commit_weights"] = [held]
    task = run.begin()
    await settle()
    assert run.asked == []
    held.set()
    await task
    # Version 1 at first, and no group was sampled with the starting weights.
    assert set(run.learner.staleness) == {0}


@pytest.mark.parametrize("seed", range(50))
async def test_killed_at_any_moment_every_prompt_is_consumed_once_or_dropped_with_a_reason(seed: int) -> None:
    """Asynchronous mode: the process dies at random moments, again and again, and goes on from its last checkpoint."""
    chance, steps, staleness = random.Random(seed), 8, 1 + seed % 3
    ledger: list[LedgerLine] = []
    resumed: Resumed | None = None
    for _ in range(100):
        store = FakeStore(ledger=list(ledger))
        run = begin(steps, staleness, store, resumed, checkpoint_every=1 + seed % 2)
        for worker in run.workers:
            worker.holds_all = True
        task = run.begin()
        await play(run, task, chance, moves=chance.randrange(5, 60))
        if task.done():
            await task
            ledger = store.ledger
            break
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if store.checkpoints:
            resumed = store.checkpoints[-1]
            ledger = store.ledger[: store.lengths[-1]]
    outcomes = Counter(line.outcome for line in ledger)
    assert outcomes["trained"] == steps * 2
    ordinals = [line.ordinal for line in ledger]
    assert len(set(ordinals)) == len(ordinals)
    # No gap: every group that was ever admitted is in the ledger, or was in flight when the last step ended.
    missing = set(range(max(ordinals) + 1)) - set(ordinals)
    assert missing <= {each.ordinal for each in run.orchestrator.in_flight}
    # Visits of a prompt are numbered without gap or repetition.
    visits = sorted((line.prompt_id, line.visit) for line in ledger)
    assert len(set(visits)) == len(visits)
    assert {line.outcome for line in ledger} == {"trained", "dropped_no_signal"}
    for step in range(1, steps + 1):
        assert sum(line.step == step and line.outcome == "trained" for line in ledger) == 2


async def play(run: FakeRun, task: asyncio.Task[None], chance: random.Random, *, moves: int) -> None:
    """Let one group at a time end, in a random order."""
    for _ in range(moves):
        await asyncio.sleep(0)
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        held = [(worker, each) for worker in run.workers for each in worker.running if each in worker.holds]
        if task.done():
            return
        if held:
            worker, group_id = chance.choice(held)
            worker.holds.pop(group_id).set()


async def test_a_step_that_was_skipped_is_counted_kept_and_not_the_end() -> None:
    run = make_run(groups_per_step=2, num_steps=3, max_skipped_steps=1)
    run.learner.skips[1] = "the loss is nan in update 1 of 1"
    await run.finish()
    (event,) = run.control.events("step_skipped")
    assert "step 2 was skipped: the loss is nan" in event.message
    assert [each.summary.group_id for each in run.store.skipped[2]] == list(group_ids(2, 3))
    assert [line.outcome for line in run.store.ledger] == ["trained"] * 2 + ["skipped"] * 2 + ["trained"] * 2
    assert [each.metrics["learner_skipped_steps_count"] for each in run.control.steps] == [0.0, 1.0, 0.0]
    # A loss that was not finite is no zero: it is not there.
    assert ["learner_loss" in each.metrics for each in run.control.steps] == [True, False, True]
    assert run.control.steps[1].groups["skipped"] == 2 and run.control.steps[1].groups["trained"] == 0
    assert [each.metrics["groups_trained_count"] for each in run.control.steps] == [2.0, 0.0, 2.0]


async def test_a_budget_of_skipped_steps_ends_the_run_and_its_groups_are_kept() -> None:
    run = make_run(groups_per_step=1, num_steps=4, max_skipped_steps=1)
    run.learner.skips = {0: "the loss is nan", 2: "the gradient norm is inf"}
    with pytest.raises(
        RunFailed, match=r"2 steps were skipped, 1 may be .*step 3 was skipped: the gradient norm is inf"
    ):
        await run.finish()
    assert sorted(run.store.skipped) == [1, 3]


async def test_an_engine_that_died_is_brought_to_the_live_version_before_it_samples_again() -> None:
    run = make_run(groups_per_step=1, num_steps=4, num_workers=1)
    gone = RoleDied(role="rollout", cause="its process ended")
    run.workers[0].script["generate"] = [None, None, gone]
    await run.finish()
    assert run.learner.batches == [group_ids(each) for each in range(4)]
    # Its third group was asked for again after the restart, at version 2, not at the starting weights.
    assert run.learner.staleness == [0, 0, 0, 0]
    kinds = [each.kind for each in run.control.reports if hasattr(each, "kind")]
    assert kinds == ["started", "group_retried", "worker_left_out", "worker_restarted"]


@pytest.mark.parametrize("calls_before", [0, 2], ids=["before the first step", "at a step border"])
async def test_an_evaluation_whose_only_engine_dies_goes_on_once_it_is_back_and_current(calls_before: int) -> None:
    run = make_run(groups_per_step=1, num_steps=2, num_held_out=1, evaluate_every=1)
    gone = RoleDied(role="rollout", cause="its process ended")
    run.workers[0].script["generate"] = [*[None] * calls_before, gone]
    await run.finish()
    assert [each.policy_version for each in run.control.evaluations] == [0, 1, 2]
    assert run.workers[0].calls.count("restart") == 1
    assert run.learner.staleness == [0, 0]


async def test_an_engine_that_is_started_again_while_others_end_a_sync_gets_no_work_at_its_starting_weights() -> None:
    run = make_run(groups_per_step=2, num_steps=4, max_staleness=1, num_workers=2, with_canary=True)
    first, second = run.workers
    held = asyncio.Event()
    second.script["canary"] = [held]
    # It dies at its second group, which it works on beside the sync of version 1, when it has answered its canary.
    first.holds = {group_id: asyncio.Event() for group_id in group_ids(2, 4, 5)}
    first.script["generate"] = [None, RoleDied(role="rollout", cause="its process ended")]
    task = run.begin()
    await settle()
    assert run.sync.phase is SyncPhase.CANARY and first.policy_version == 1
    first.holds[group_ids(2)[0]].set()
    await settle()
    assert run.sync.phase is SyncPhase.CANARY and first.policy_version == 0
    for each in (held, *first.holds.values()):
        each.set()
    await task
    assert first.calls.count("restart") == 1 and max(run.learner.staleness) == 1


async def test_an_engine_that_did_not_take_a_version_gets_no_work_while_the_others_answer_the_canary() -> None:
    run = make_run(groups_per_step=2, num_steps=3, num_workers=2, with_canary=True)
    held = asyncio.Event()
    run.workers[0].script["canary"] = [held]
    run.workers[1].script["commit_weights"] = [RoleDied(role="rollout", cause="its process ended")]
    task = run.begin()
    await settle()
    # Slots are free already, and both go to the engine that has the version.
    assert run.sync.phase is SyncPhase.CANARY
    assert [each.group_id for each in run.workers[0].requests[-2:]] == list(group_ids(2, 3))
    held.set()
    await task
    assert run.learner.staleness == [0] * 6


async def test_a_group_whose_arrays_are_lost_with_a_node_is_generated_again_as_the_same_group() -> None:
    run = make_run(groups_per_step=1, num_steps=1, num_workers=2)
    run.shapers[0].script["shape"] = [GroupLost(role="shaping", cause="its arrays are lost", group_id=group_ids(0)[0])]
    await run.finish()
    asked = [(each.group_id, each.seed) for worker in run.workers for each in worker.requests]
    assert len(asked) == 2 and len(set(asked)) == 1
    assert run.learner.batches == [group_ids(0)]
    (event,) = run.control.events("group_retried")
    assert event.message == "group g00000000 is generated again: its arrays are lost"


async def test_a_group_that_is_lost_again_and_again_ends_the_run() -> None:
    run = make_run(groups_per_step=1, num_steps=1, group_attempts=2)
    run.shapers[0].script["shape"] = [GroupLost(role="shaping", cause="its arrays are lost")] * 2
    with pytest.raises(GroupLost):
        await run.finish()


async def test_groups_go_on_being_sampled_while_a_checkpoint_is_written() -> None:
    run = make_run(groups_per_step=1, num_steps=2, checkpoint_every=1)
    held = asyncio.Event()
    run.shapers[0].script["save_groups"] = [held]
    task = run.begin()
    await settle()
    assert run.asked == list(group_ids(0, 1)) and run.learner.calls.count("step") == 1
    held.set()
    await task
    assert [each.snapshot.version for each in run.store.checkpoints] == [1, 2]


async def test_a_canary_that_is_no_number_raises_an_alarm() -> None:
    run = make_run(groups_per_step=1, num_steps=1, with_canary=True)
    run.workers[0].canary_error_nats = float("nan")
    await run.finish()
    assert len(run.control.events("canary_alarm")) == 1


async def test_a_canary_far_from_the_learner_raises_an_alarm() -> None:
    run = make_run(groups_per_step=1, num_steps=1, with_canary=True)
    run.workers[0].canary_error_nats = -0.5
    await run.finish()
    (alarm,) = run.control.events("canary_alarm")
    assert "differ by 0.5 nats on the canary prompt at version 1" in alarm.message
    assert run.control.steps[0].metrics["weight_sync_canary_difference_nats"] == 0.5


async def test_a_learner_that_dies_ends_the_process_as_one_that_may_go_on() -> None:
    run = make_run(groups_per_step=1, num_steps=3)
    run.learner.script["step"] = [None, RoleDied(role="learner", cause="rank 1: its process ended")]
    with pytest.raises(RoleDied, match="rank 1: its process ended"):
        await run.finish()
