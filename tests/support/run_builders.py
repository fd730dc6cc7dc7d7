"""A run over fake roles: the real orchestrator, buffer, prompts and weight sync, everything else scripted."""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from fake_evaluations import FakeBook, make_evaluation
from fake_roles import FakeControl, FakeLearner, FakeRollout, FakeShaping
from fake_store import FakeStore
from prompt_builders import make_factory, make_prompts
from report_builders import Clock

from learner.config import LearnerConfig
from rollout.buffer_config import BufferConfig
from rollout.requests import GroupFactory
from services.holding import MEMORY
from services.orchestrator import Orchestrator, OrchestratorConfig, Resumed
from services.pool import PoolConfig
from services.reports import ReleaseLevel
from services.weight_sync import WeightSync
from shaping.records import GroupRequest, Sampling


@dataclass(slots=True, kw_only=True)
class FakeRun:
    """A run that a test starts, watches and steers."""

    orchestrator: Orchestrator
    sync: WeightSync
    control: FakeControl
    learner: FakeLearner
    workers: list[FakeRollout]
    shapers: list[FakeShaping]
    store: FakeStore
    clock: Clock
    book: FakeBook

    async def finish(self) -> None:
        async with asyncio.timeout(30):
            await self.orchestrator.run()

    def begin(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.finish())

    @property
    def asked(self) -> list[str]:
        """Ids of the groups asked for so far, in order of admission, retries and later rounds left out."""
        requests = [request for worker in self.workers for request in worker.requests]
        return sorted({each.group_id for each in requests if each.group_id.startswith("g")})


def group_ids(*ordinals: int) -> tuple[str, ...]:
    """Ids of the groups admitted as these."""
    return tuple(f"g{ordinal:08d}" for ordinal in ordinals)


def make_run(
    *,
    groups_per_step: int = 2,
    num_steps: int = 2,
    max_staleness: int = 0,
    max_attempts_per_step: int | None = None,
    max_buffered_groups: int | None = None,
    num_workers: int = 1,
    num_shapers: int = 1,
    workers: list[FakeRollout] | None = None,
    shapers: list[FakeShaping] | None = None,
    num_held_out: int = 0,
    evaluate_every: int = 0,
    group_attempts: int = 2,
    group_seconds: float = 20.0,
    step_seconds: float = 20.0,
    evaluation_workers: int = 0,
    book: FakeBook | None = None,
    mini_batch_groups: int = 0,
    num_epochs: int = 1,
    factory: GroupFactory | None = None,
    store: FakeStore | None = None,
    checkpoint_every: int = 0,
    max_worker_restarts: int = 3,
    max_skipped_steps: int = 1,
    resumed: Resumed | None = None,
    with_canary: bool = False,
    can_release: frozenset[ReleaseLevel] = frozenset(MEMORY),
) -> FakeRun:
    clock = Clock()
    learner, control = FakeLearner(clock=clock), FakeControl()
    workers = workers or [FakeRollout(f"rollout-{index}", clock=clock) for index in range(num_workers)]
    shapers = shapers or [FakeShaping(f"shaping-{index}", clock=clock) for index in range(num_shapers)]
    sync = _sync(learner, clock, with_canary)
    store = store or FakeStore()
    config = _config(
        buffer=_buffer(groups_per_step, max_staleness, num_steps, max_buffered_groups, max_attempts_per_step),
        learner=_learner(mini_batch_groups, num_epochs),
        checkpoint_every=checkpoint_every,
        pool=_pool(group_seconds, group_attempts),
        step_seconds=step_seconds,
        max_worker_restarts=max_worker_restarts,
        max_skipped_steps=max_skipped_steps,
    )
    book = book or FakeBook()
    evaluation = make_evaluation(num_held_out, evaluate_every, evaluation_workers, book, attempts=group_attempts)
    shared = {"learner": learner, "control": control, "store": store, "sync": sync, "clock": clock}
    orchestrator = Orchestrator(
        config,
        factory=factory or make_factory(),
        rollout=workers,
        shaping=shapers,
        evaluation=evaluation,
        resumed=resumed,
        can_release=can_release,
        **shared,
    )
    return FakeRun(orchestrator=orchestrator, workers=workers, shapers=shapers, book=book, **shared)


def _sync(learner: FakeLearner, clock: Clock, with_canary: bool) -> WeightSync:
    canary = _canary() if with_canary else None
    return WeightSync(learner=learner, workers_per_engine=1, deadline_seconds=20.0, clock=clock, canary=canary)


def _pool(call_seconds: float, attempts: int) -> PoolConfig:
    return PoolConfig(call_seconds=call_seconds, start_seconds=20.0, heartbeat_seconds=20.0, attempts=attempts)


def _config(**chosen: Any) -> OrchestratorConfig:
    return OrchestratorConfig(seed=0, max_mismatch_nats=1.0, max_canary_nats=0.1, max_no_verdict_share=0.05, **chosen)


def _learner(mini_batch_groups: int, num_epochs: int) -> LearnerConfig:
    return LearnerConfig(
        engine="torch",
        dtype="float32",
        mini_batch_groups=mini_batch_groups,
        num_epochs=num_epochs,
        micro_batch_tokens=16,
    )


def _buffer(
    groups_per_step: int,
    max_staleness: int,
    num_steps: int,
    max_buffered_groups: int | None,
    max_attempts_per_step: int | None,
) -> BufferConfig:
    return BufferConfig(
        groups_per_step=groups_per_step,
        max_staleness=max_staleness,
        num_steps=num_steps,
        max_buffered_groups=max_buffered_groups or (max_staleness + 1) * groups_per_step,
        max_attempts_per_step=max_attempts_per_step or 4 * groups_per_step,
    )


def _canary() -> GroupRequest:
    ids = np.array([1, 2], dtype=np.int32)
    return GroupRequest(
        group_id="canary",
        prompt=make_prompts(1)[0],
        prompt_ids=ids,
        hint_ids=ids[:0],
        round_index=0,
        num_rollouts=1,
        sampling=Sampling(max_response_tokens=4),
        seed=0,
    )
