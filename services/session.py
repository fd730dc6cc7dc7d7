"""One run from its recipe to its summary: builds the house, starts every role, runs the orchestrator, closes.

Knows which parts exist; how they are reached (Ray or this process) is decided by the house it is given.
"""

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from rollout.engine import EngineInfo
from rollout.render import Renderer
from rollout.requests import GroupFactory
from services.buffer_plan import buffer_config
from services.canary import canary_request
from services.checkpoints.store import Checkpoint
from services.control.machine import Happening
from services.deadlines import within
from services.evaluation.evaluation_set import EvaluationSet
from services.evaluation.evaluator import Evaluator
from services.evaluation.in_run import EvaluationBook, EvaluationPlan
from services.failures import first_cause
from services.holding import MEMORY
from services.live.changes import ChangeFile, LiveState
from services.live.settings import LiveSettings
from services.orchestrator import Orchestrator, OrchestratorConfig, Resumed
from services.pausing import RunCancelled
from services.pool import PoolConfig
from services.ports import ControlPort, LearnerPort, RolloutPort, ShapingPort
from services.recipe import Recipe
from services.reports import (
    BufferReport,
    ControlReport,
    Intent,
    IntentKind,
    LiveChange,
    OperationReport,
    ReleaseLevel,
    RunEvent,
    RunReport,
    RunState,
    WorkerReport,
)
from services.roles.prompts import build_factory, build_renderer, evaluation_sets
from services.run_store import BUFFERED_FILE, LEARNER_DIR, STATE_FILE, RunStore
from services.snapshot import RunSnapshot
from services.weight_sync import WeightSync
from shaping.errors import EngineRefused, RecordError, RoleDied, RunFailed

T = TypeVar("T")


class House(Protocol):
    """The roles of a run, however they are reached."""

    @property
    def rollout(self) -> Sequence[RolloutPort]: ...

    @property
    def shaping(self) -> Sequence[ShapingPort]: ...

    @property
    def learner(self) -> LearnerPort: ...


class Listener(Protocol):
    """Anything that follows a run: files, the live view."""

    def show(self, report: RunReport) -> None: ...


class Broadcast:
    """ControlPort that passes every report on to listeners too."""

    def __init__(self, control: ControlPort, listeners: Sequence[Listener]) -> None:
        self._control = control
        self._listeners = tuple(listeners)

    async def report(self, report: ControlReport) -> None:
        if not isinstance(report, OperationReport | BufferReport):
            for listener in self._listeners:
                listener.show(report)
        await self._control.report(report)

    async def intent_after(self, generation: int) -> Intent:
        return await self._control.intent_after(generation)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """What the orchestrator's own process needs of the data, read before anything is started."""

    renderer: Renderer
    factory: GroupFactory
    evaluation: tuple[EvaluationSet, ...]


def read_prompts(recipe: Recipe) -> Prompts:
    """Read tokenizer and data.

    Raises:
        DataError: a file, a row or every prompt cannot be used.
    """
    renderer = build_renderer(recipe)
    factory = build_factory(recipe, renderer)
    return Prompts(renderer=renderer, factory=factory, evaluation=evaluation_sets(recipe, renderer))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Where a run keeps its state and its evaluations, and the checkpoint that it goes on from.

    Args:
        changes: live changes that took; None keeps none.
        live: changes to be made at steps that are known, beside those.
    """

    store: RunStore
    book: EvaluationBook
    checkpoint: Checkpoint | None
    changes: ChangeFile | None = None
    live: tuple[LiveChange, ...] = ()


async def run_session(
    recipe: Recipe,
    prompts: Prompts,
    house: House,
    control: ControlPort,
    disk: Disk,
    *,
    api_address: str,
    export_to: str,
) -> None:
    """Start every role, train, from the beginning or from a checkpoint, and export the last policy.

    Raises:
        RunFailed: first cause first.
        CheckpointError: the checkpoint does not fit the run.
        RunCancelled: the user asked for it.
    """
    message = f"Starting workers; control plane at {api_address}"
    await control.report(RunEvent(kind=Happening.STARTING.value, message=message, state=RunState.STARTING))
    engines = await unless_cancelled(control, start_roles(recipe, house, control))
    resumed = None
    if disk.checkpoint is not None:
        began = time.monotonic()
        resumed = await unless_cancelled(control, load_checkpoint(recipe, house, disk.checkpoint))
        await control.report(_loaded(disk.checkpoint, resumed, time.monotonic() - began))
    disk.store.attach(house.learner, control)
    live = _live_settings(recipe, prompts, house, control, disk, resumed)
    orchestrator = Orchestrator(
        orchestrator_config(live.recipe),
        factory=prompts.factory,
        rollout=house.rollout,
        shaping=house.shaping,
        learner=house.learner,
        sync=WeightSync(
            learner=house.learner,
            workers_per_engine=max(each.num_workers for each in engines),
            deadline_seconds=recipe.run.deadlines.weights_seconds,
            clock=time.monotonic,
            canary=canary_request(recipe.rollout.sampling.entropy_source),
        ),
        evaluation=build_evaluation(live.recipe, prompts, disk.book),
        control=control,
        store=disk.store,
        clock=time.monotonic,
        resumed=resumed,
        live=live,
        config_of=orchestrator_config,
        can_release=releasable(engines),
    )
    await orchestrator.run()
    await within(
        recipe.run.deadlines.step_seconds,
        house.learner.export(export_to),
        role="learner",
        what="export of the policy",
        key="run.deadlines.step_seconds",
    )


def _loaded(checkpoint: Checkpoint, resumed: Resumed, seconds: float) -> RunEvent:
    version = resumed.snapshot.version
    details = {"checkpoint": checkpoint.name, "step": version, "policy_version": version, "seconds": seconds}
    message = f"Goes on from {checkpoint.name}, version {version}"
    return RunEvent(kind="checkpoint_loaded", message=message, state=RunState.STARTING, details=details)


def _live_settings(
    recipe: Recipe, prompts: Prompts, house: House, control: ControlPort, disk: Disk, resumed: Resumed | None
) -> LiveSettings:
    made = disk.changes.recorded if disk.changes else ()
    return LiveSettings(
        recipe,
        learner=house.learner,
        shaping=house.shaping,
        factory=prompts.factory,
        report=control.report,
        record=disk.changes.write if disk.changes else lambda _: None,
        saved=LiveState.from_json(resumed.snapshot.live) if resumed else None,
        recorded=(*made, *disk.live),
    )


async def unless_cancelled(control: ControlPort, work: Coroutine[Any, Any, T]) -> T:
    """Do what comes before the orchestrator, which from then on listens itself.

    Raises:
        RunCancelled: the user asked for it meanwhile.
    """
    working, watching = asyncio.create_task(work), asyncio.create_task(_next_cancel(control))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise RunCancelled(watching.result())
    finally:
        for each in (working, watching):
            each.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _next_cancel(control: ControlPort) -> str:
    """Why the user cancels, once that is so."""
    intent = await control.intent_after(0)
    while intent.kind is not IntentKind.CANCEL:
        intent = await control.intent_after(intent.generation)
    return intent.reason


async def load_checkpoint(recipe: Recipe, house: House, checkpoint: Checkpoint) -> Resumed:
    """Bring started roles to a checkpoint; the engines follow with the first weight sync.

    Raises:
        CheckpointError: it is damaged, or does not fit the run.
    """
    snapshot = RunSnapshot.from_json(checkpoint.read_json(STATE_FILE))
    await within(
        recipe.run.deadlines.step_seconds,
        house.learner.load(str(checkpoint.path / LEARNER_DIR)),
        role="learner",
        what=f"loading {checkpoint.name}",
        key="run.deadlines.step_seconds",
    )
    groups = await within(
        recipe.run.deadlines.step_seconds,
        house.shaping[0].load_groups(str(checkpoint.path / BUFFERED_FILE), len(snapshot.buffered)),
        role="shaping",
        what=f"loading the groups of {checkpoint.name}",
        key="run.deadlines.step_seconds",
    )
    return Resumed(snapshot=snapshot, groups=groups)


def build_evaluation(recipe: Recipe, prompts: Prompts, book: EvaluationBook) -> EvaluationPlan | None:
    """What the run evaluates; None where it is to evaluate nothing."""
    if not prompts.evaluation:
        return None
    evaluator = Evaluator(
        prompts.evaluation,
        prompts.renderer,
        seed=recipe.seed,
        max_rollouts_in_flight=recipe.rollout.num_workers * recipe.rollout.engine.max_num_seqs,
        attempts=recipe.run.group_attempts,
    )
    return EvaluationPlan(
        evaluator=evaluator,
        book=book,
        every_steps=recipe.evaluation.every_steps,
        num_workers=recipe.evaluation.num_workers,
    )


def orchestrator_config(recipe: Recipe) -> OrchestratorConfig:
    """What the orchestrator takes of a recipe."""
    run, deadlines = recipe.run, recipe.run.deadlines
    return OrchestratorConfig(
        buffer=buffer_config(recipe),
        learner=recipe.learner,
        seed=recipe.seed,
        checkpoint_every=run.checkpoint.every_steps,
        pool=PoolConfig(
            call_seconds=deadlines.group_seconds,
            start_seconds=deadlines.start_seconds,
            heartbeat_seconds=deadlines.heartbeat_seconds,
            attempts=run.group_attempts,
        ),
        step_seconds=deadlines.step_seconds,
        max_worker_restarts=run.max_worker_restarts,
        max_skipped_steps=run.max_skipped_steps,
        max_mismatch_nats=run.max_mismatch_nats,
        max_canary_nats=run.max_canary_nats,
        max_no_verdict_share=run.max_no_verdict_share,
    )


def releasable(engines: Sequence[EngineInfo]) -> frozenset[ReleaseLevel]:
    """What every engine can give back in a pause."""
    return frozenset(level for level, memory in MEMORY.items() if all(memory in each.can_release for each in engines))


async def start_roles(recipe: Recipe, house: House, control: ControlPort) -> tuple[EngineInfo, ...]:
    """Start all roles at once and report each as it is ready.

    Returns:
        What each engine proved.
    Raises:
        RunFailed: one did not start, not within the deadline, or failed its proof.
    """
    began = time.monotonic()

    async def start(worker_id: str, role: str, begin: Callable[[], Awaitable[T]], describe: Callable[[T], str]) -> T:
        try:
            ready = await begin()
        except (EngineRefused, RecordError) as error:
            raise RunFailed(role=role, cause=f"{worker_id} did not start: {error}") from error
        seconds = time.monotonic() - began
        worker = _worker(worker_id, role, "ready", describe(ready), seconds)
        message = f"{worker_id} is ready after {seconds:.0f} s"
        event = RunEvent(kind="worker_started", message=message, state=RunState.STARTING, workers=(worker,))
        await control.report(event)
        return ready

    waiting = [_worker(port.worker_id, "rollout", "starting", "loading the engine", 0.0) for port in house.rollout]
    waiting += [_worker(port.worker_id, "shaping", "starting", "building the pipeline", 0.0) for port in house.shaping]
    waiting.append(_worker("learner", "learner", "starting", "loading the policy on every rank", 0.0))
    message = f"Waiting for {len(waiting)} roles"
    event = RunEvent(kind="workers_starting", message=message, state=RunState.STARTING, workers=tuple(waiting))
    await control.report(event)
    seconds = recipe.run.deadlines.start_seconds
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
            infos = []
            for port in house.rollout:
                begin = partial(_start_worker, port, port.start, "rollout", control)
                infos.append(tasks.create_task(start(port.worker_id, "rollout", begin, _describe_engine)))
            for shaper in house.shaping:
                shape = partial(_start_worker, shaper, shaper.start, "shaping", control)
                tasks.create_task(start(shaper.worker_id, "shaping", shape, _describe_nothing))
            tasks.create_task(start("learner", "learner", house.learner.start, str))
    except TimeoutError as error:
        cause = f"not every worker was ready within {seconds:g} s (run.deadlines.start_seconds)"
        raise RunFailed(role="orchestrator", cause=cause) from error
    except BaseExceptionGroup as failures:
        raise first_cause(failures) from failures
    return tuple(each.result() for each in infos)


async def _start_worker(
    port: RolloutPort | ShapingPort, begin: Callable[[], Awaitable[T]], role: str, control: ControlPort
) -> T:
    """One of many workers: where it dies, it is started once more, and the run need not begin anew."""
    try:
        return await begin()
    except RoleDied as death:
        worker = _worker(port.worker_id, role, "failed", death.cause, 0.0)
        message = f"{port.worker_id} died while it started, and is started again: {death.cause}"
        event = RunEvent(kind="worker_left_out", message=message, state=RunState.STARTING, workers=(worker,))
        await control.report(event)
        await port.restart()
        return await begin()


def _worker(worker_id: str, role: str, state: str, description: str, start_seconds: float) -> WorkerReport:
    return WorkerReport(
        worker_id=worker_id, role=role, state=state, description=description, start_seconds=start_seconds
    )


def _describe_engine(info: EngineInfo) -> str:
    proof = f"log-prob within {info.max_logprob_error:.0e}, entropy within {info.max_entropy_error:.0e} nats"
    return f"{info.description}; proof: {proof}"


def _describe_nothing(ready: None) -> str:
    del ready
    return "shaping pipeline"
