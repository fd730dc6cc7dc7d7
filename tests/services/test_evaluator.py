"""Held-out accuracy: over decided responses, with the same seeds at every version."""

import asyncio
from collections.abc import Sequence

import pytest
from fake_roles import FakeRollout, FakeShaping
from prompt_builders import make_prompts, make_renderer
from report_builders import Clock

from services.evaluator import Evaluator
from services.pool import P, Pool, PoolConfig, RestartBudget
from services.ports import RoundHandle
from services.reports import RunEvent
from services.workers import Workers
from shaping.errors import RunFailed
from shaping.records import Sampling


def make_evaluator(
    num_prompts: int = 4,
    *,
    seed: int = 0,
    deadline_seconds: float = 20.0,
    clock: Clock | None = None,
) -> Evaluator:
    return Evaluator(
        prompts=make_prompts(num_prompts),
        renderer=make_renderer(),
        sampling=Sampling(max_response_tokens=8),
        seed=seed,
        deadline_seconds=deadline_seconds,
        clock=clock or Clock(),
    )


def make_workers(rollout: Sequence[FakeRollout] = (), shaping: FakeShaping | None = None) -> Workers:
    """Pools that try everything once."""

    async def report(event: RunEvent) -> None:
        del event

    config = PoolConfig(call_seconds=20.0, start_seconds=20.0, heartbeat_seconds=20.0, attempts=1)

    def pool(ports: Sequence[P], role: str) -> Pool[P]:
        return Pool(
            ports,
            role=role,
            config=config,
            budget=RestartBudget(0),
            joins_at_once=lambda: True,
            report=report,
            on_change=lambda: None,
        )

    return Workers(
        rollout=pool(rollout or [FakeRollout()], "rollout"), shaping=pool([shaping or FakeShaping()], "shaping")
    )


def index_of(handle: RoundHandle) -> int:
    return int(handle.summary.group_id.removeprefix("eval"))


async def test_accuracy_counts_decided_responses_alone() -> None:
    shaping = FakeShaping()
    # Problems 0 and 1 are right, 2 is wrong, 3 gets no verdict: 2 of 3, not 2 of 4.
    shaping.num_correct = lambda handle: int(index_of(handle) < 2)
    shaping.num_decided = lambda handle: int(index_of(handle) < 3)
    report = await make_evaluator().evaluate(7, make_workers([FakeRollout(num_tokens=5)], shaping))
    assert (report.step, report.policy_version) == (7, 7)
    assert report.accuracy == pytest.approx(2 / 3)
    assert (report.num_problems, report.num_decided) == (4, 3)
    assert report.mean_response_tokens == 5.0


async def test_seconds_are_those_of_the_clock() -> None:
    clock = Clock()
    shaping = FakeShaping(clock=clock)
    shaping.seconds["score"] = 1.5
    assert (await make_evaluator(2, clock=clock).evaluate(0, make_workers(shaping=shaping))).seconds == 3.0


async def test_every_version_is_asked_the_same_questions_with_the_same_seeds() -> None:
    worker = FakeRollout()
    evaluator, workers = make_evaluator(), make_workers([worker])
    await evaluator.evaluate(0, workers)
    await evaluator.evaluate(1, workers)
    asked = [(each.prompt.prompt_id, each.seed, each.num_rollouts) for each in worker.requests]
    assert asked[:4] == asked[4:]
    assert [prompt_id for prompt_id, _, _ in asked[:4]] == ["p0", "p1", "p2", "p3"]
    assert len({seed for _, seed, _ in asked}) == 4
    assert {number for _, _, number in asked} == {1}
    other = FakeRollout()
    await make_evaluator(seed=1).evaluate(0, make_workers([other]))
    assert {each.seed for each in other.requests}.isdisjoint(seed for _, seed, _ in asked)


async def test_workers_share_the_problems() -> None:
    workers = [FakeRollout("rollout-0"), FakeRollout("rollout-1")]
    await make_evaluator(5).evaluate(0, make_workers(workers))
    assert [len(each.requests) for each in workers] == [3, 2]


async def test_no_verdict_at_all_is_a_failure_and_no_accuracy_of_zero() -> None:
    shaping = FakeShaping()
    shaping.num_correct = shaping.num_decided = lambda _: 0
    with pytest.raises(RunFailed, match="shaping: no held-out response of version 3 got a verdict"):
        await make_evaluator().evaluate(3, make_workers(shaping=shaping))


async def test_a_hanging_worker_ends_at_the_deadline() -> None:
    worker = FakeRollout()
    worker.script["generate"] = [asyncio.Event()]
    with pytest.raises(RunFailed, match=r"rollout: evaluation of version 0 took longer than 0\.02 s"):
        await make_evaluator(deadline_seconds=0.02).evaluate(0, make_workers([worker]))
    assert worker.running == []


async def test_a_failing_worker_is_the_cause_and_the_others_stop() -> None:
    failing, waiting = FakeRollout("rollout-0"), FakeRollout("rollout-1")
    failing.script["generate"] = [RunFailed(role="rollout", cause="out of memory", group_id="eval000000")]
    waiting.script["generate"] = [asyncio.Event()]
    with pytest.raises(RunFailed, match=r"rollout \(group eval000000\): out of memory"):
        await make_evaluator(2).evaluate(0, make_workers([failing, waiting]))
    assert waiting.running == []
