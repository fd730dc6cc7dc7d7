"""The run: concurrent loops over ports, none of which knows Ray, HTTP or a tensor.

    groups (group_loop.py) --> buffer --> learner step --> weight sync --> version verified live --> slots freed
        ^                                                                                                 |
        +-------------------------------------------------------------------------------------------------+
    control: what the user wants (pausing.py), a pause at a step border (pauses.py), tasks (run_tasks.py)
    pools (pool.py): workers that die are started again, brought to the current version, and only then given work

Three gates have three owners: the user's pause (pausing.py), the weight sync (services/weight_sync.py pauses engines
itself), back-pressure (GroupBuffer.can_admit). A group ends trained or counted under a reason. The step border, when
the learner is between two steps, is the only moment at which a checkpoint is taken and a run is paused.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence, Set
from typing import Any

from rollout.buffer import GroupBuffer
from rollout.requests import GroupFactory, OpenGroup
from services.bell import Bell
from services.border_work import BorderWork
from services.borders import Waiting
from services.control.machine import Happening
from services.counts import CountTeller
from services.deadlines import within
from services.evaluation.in_run import EvaluationPlan, RunEvaluations
from services.failures import first_cause
from services.group_loop import BufferedGroup, GroupLoop
from services.holding import EngineHold
from services.idle_time import IdleTime
from services.live_hooks import LiveHooks, NoLiveChanges
from services.pauses import PausedParts, Pauses
from services.pausing import UserGate
from services.pool import P, Pool, RestartBudget
from services.ports import ControlPort, LearnerPort, RolloutPort, ShapingPort
from services.publishing import Publisher
from services.recipe import Recipe
from services.reports import PauseOrder, ReleaseLevel, RunEvent, RunState, TaskKind
from services.run_store import RunStore
from services.run_tasks import RunTasks
from services.saving import Resumed, Saver
from services.stopwatch import Clock, Stopwatch
from services.training_loop import OrchestratorConfig, Standing, TrainingLoop, TrainingParts
from services.verdict_budget import VerdictBudget
from services.weight_sync import WeightSync
from services.workers import Workers

__all__ = ["Orchestrator", "OrchestratorConfig", "Resumed"]


def _unchangeable(recipe: Recipe) -> OrchestratorConfig:
    raise AssertionError(f"this run has no live changes, got {recipe.name}")


class Orchestrator:
    """Runs one run from its first group, or from a checkpoint, to its last step.

    Args:
        live: changes of the config while the run goes on.
        config_of: what this decides with under another recipe.
        can_release: what every engine can give back while the run is paused.
    """

    def __init__(
        self,
        config: OrchestratorConfig,
        *,
        factory: GroupFactory,
        rollout: Sequence[RolloutPort],
        shaping: Sequence[ShapingPort],
        learner: LearnerPort,
        sync: WeightSync,
        evaluation: EvaluationPlan | None,
        control: ControlPort,
        store: RunStore,
        clock: Clock,
        resumed: Resumed | None = None,
        live: LiveHooks | None = None,
        config_of: Callable[[Recipe], OrchestratorConfig] = _unchangeable,
        can_release: Set[ReleaseLevel] = frozenset(),
    ) -> None:
        self._config = config
        self._config_of = config_of
        self._learner = learner
        self._control = control
        self._store = store
        self._live = live or NoLiveChanges()
        self._buffer: GroupBuffer[BufferedGroup] = GroupBuffer(config.buffer)
        self._bell = Bell()
        self._standing = Standing()
        self._restarts = RestartBudget(config.max_worker_restarts)
        self._rollout = self._pool(rollout, "rollout", self._is_at_start, on_idle=lambda: self._idle.look())
        self._workers = Workers(rollout=self._rollout, shaping=self._pool(shaping, "shaping", lambda: True))
        self._evaluations = RunEvaluations(
            evaluation, self._workers, self._bell, report=control.report, tell=self._tell, clock=clock
        )
        self._verdicts = VerdictBudget(config.max_no_verdict_share)
        self._groups = self._make_groups(factory, clock)
        self._publisher = Publisher(
            sync,
            self._rollout,
            self._bell,
            give_back=self._evaluations.give_back,
            tell=self._tell,
            max_canary_nats=config.max_canary_nats,
        )
        stopwatch = Stopwatch(clock)
        self._saver = Saver(
            store=store,
            factory=factory,
            buffer=self._buffer,
            groups=self._groups,
            workers=self._workers,
            stopwatch=stopwatch,
            restarts=self._restarts,
            live=self._live,
            num_skipped=lambda: self._standing.num_skipped,
        )
        self._steer(stopwatch, clock, can_release)
        self._training = self._make_training(stopwatch, resumed=resumed is not None)
        self._live.attach(on_recipe=self._go_on_with, has_groups=self._has_groups)
        if resumed is not None:
            self._standing.num_skipped = self._saver.restore(resumed)

    def _make_groups(self, factory: GroupFactory, clock: Clock) -> GroupLoop:
        return GroupLoop(
            factory=factory,
            workers=self._workers,
            buffer=self._buffer,
            bell=self._bell,
            is_open=lambda: self._gate.is_open and not self._standing.is_at_border,
            write_ledger=self._store.write_ledger,
            tell=self._tell,
            verdicts=self._verdicts,
            attempts=self._config.pool.attempts,
            clock=clock,
        )

    def _steer(self, stopwatch: Stopwatch, clock: Clock, can_release: Set[ReleaseLevel]) -> None:
        """Build what follows the user."""
        self._tasks = RunTasks(
            self._workers,
            self._bell,
            is_open=lambda: self._gate.is_open,
            at_border={
                TaskKind.CHECKPOINT: lambda task: self._border.save_now(task),
                TaskKind.EVAL: lambda task: self._border.evaluate_now(task),
            },
            report=self._control.report,
        )
        self._gate = UserGate(
            self._control,
            self._bell,
            live=self._live,
            tasks=self._tasks,
            can_release=can_release,
            refuse=self._refuse,
        )
        self._hold = EngineHold(
            self._rollout,
            self._publisher,
            self._bell,
            wanted=lambda: self._gate.hold,
            seconds=self._config.pool.heartbeat_seconds,
            memory_seconds=self._config.pool.start_seconds,
        )
        parts = PausedParts(
            gate=self._gate,
            hold=self._hold,
            saver=self._saver,
            workers=self._workers,
            buffer=self._buffer,
            evaluations=self._evaluations,
            stopwatch=stopwatch,
            bell=self._bell,
        )
        self._pauses = Pauses(parts, is_busy=lambda: self._standing.is_busy, report=self._control.report)
        self._counts = self._make_counts(clock)

    def _make_counts(self, clock: Clock) -> CountTeller:
        self._idle = IdleTime(
            clock,
            self._bell,
            num_idle=lambda: self._rollout.num_idle,
            is_syncing=lambda: self._publisher.is_syncing,
            is_paused=lambda: not self._gate.is_open,
            is_full=lambda: not self._buffer.can_admit(),
        )
        return CountTeller(
            self._buffer, self._workers, self._pauses, self._groups, self._idle, report=self._control.report
        )

    def _make_training(self, stopwatch: Stopwatch, *, resumed: bool) -> TrainingLoop:
        waiting = Waiting(
            self._bell, self._evaluations, self._rollout, catch_up=lambda version: self._training.catch_up(version)
        )
        self._border = BorderWork(
            gate=self._gate,
            pauses=self._pauses,
            saver=self._saver,
            evaluations=self._evaluations,
            buffer=self._buffer,
            stopwatch=stopwatch,
            waiting=waiting,
            bell=self._bell,
            report=self._control.report,
        )
        parts = TrainingParts(
            learner=self._learner,
            buffer=self._buffer,
            groups=self._groups,
            workers=self._workers,
            evaluations=self._evaluations,
            publisher=self._publisher,
            saver=self._saver,
            store=self._store,
            live=self._live,
            gate=self._gate,
            pauses=self._pauses,
            tasks=self._tasks,
            border=self._border,
            waiting=waiting,
            stopwatch=stopwatch,
            bell=self._bell,
            tell=self._tell,
            report=self._control.report,
        )
        return TrainingLoop(self._config, parts, self._standing, resumed=resumed)

    @property
    def in_flight(self) -> tuple[OpenGroup, ...]:
        """Groups under way, in order of admission."""
        return tuple(self._groups.in_flight)

    def _pool(
        self,
        ports: Sequence[P],
        role: str,
        joins: Callable[[], bool],
        *,
        on_idle: Callable[[], None] = lambda: None,
    ) -> Pool[P]:
        return Pool(
            ports,
            role=role,
            config=self._config.pool,
            budget=self._restarts,
            joins_at_once=joins,
            report=self._control.report,
            on_change=self._bell.ring,
            on_idle=on_idle,
        )

    async def run(self) -> None:
        """All steps that remain.

        Raises:
            RunFailed: first cause first.
            RunCancelled, Released: the user asked for it (services/pausing.py).
        """
        await self._say(Happening.STARTED, "Training", RunState.RUNNING)
        # Before anything is admitted: a run may begin paused.
        await self._gate.fetch()
        try:
            async with asyncio.TaskGroup() as tasks:
                beside = [tasks.create_task(loop) for loop in self._loops()]
                # A task like the others: a failure of the body itself would be listed after those that it causes.
                await asyncio.wait([tasks.create_task(self._training.run())])
                for each in beside:
                    each.cancel()
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from failures
        finally:
            if self._config.tell_seconds:
                await self._counts.tell_last()

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        loops = [self._gate.follow(), self._hold.follow(), self._pauses.tell_phases(), self._tasks.see_through()]
        loops += [self._rollout.supervise(), self._workers.shaping.supervise()]
        loops += [self._watch_learner(), self._evaluations.run(), self._groups.run()]
        if self._config.tell_seconds:
            loops += [self._counts.tell(self._config.tell_seconds), self._idle.follow()]
        return loops

    def _is_at_start(self) -> bool:
        """Whether an engine with its starting weights has the current ones."""
        return self._buffer.version == 0 and not self._standing.is_busy

    def _has_groups(self) -> bool:
        return bool(self._buffer.num_in_flight or self._buffer.num_buffered)

    def _go_on_with(self, recipe: Recipe) -> None:
        """Decide by another recipe from now on.

        Raises:
            RecipeError: the buffer cannot; nothing has changed then.
        """
        config = self._config_of(recipe)
        self._buffer.resize(config.buffer)
        self._evaluations.set_interval(recipe.evaluation.every_steps)
        self._restarts.limit = config.max_worker_restarts
        self._verdicts.max_share = config.max_no_verdict_share
        self._publisher.max_canary_nats = config.max_canary_nats
        self._store.keep(recipe.run.checkpoint)
        self._config = self._training.config = config
        self._bell.ring()

    async def _say(self, happening: Happening, message: str, state: RunState) -> None:
        await self._control.report(RunEvent(kind=happening.value, message=message, state=state))

    async def _tell(self, kind: str, message: str) -> None:
        await self._control.report(RunEvent(kind=kind, message=message, state=RunState.RUNNING))

    async def _refuse(self, order: PauseOrder, phase: str, why: str) -> None:
        await self._control.report(self._pauses.refusal(order, phase, why))

    async def _watch_learner(self) -> None:
        """A learner that died or hangs ends this process of the run; the next one goes on from the last checkpoint."""
        seconds, key = self._config.pool.heartbeat_seconds, "run.deadlines.heartbeat_seconds"
        while True:
            await asyncio.sleep(seconds)
            await within(seconds, self._learner.ping(), role="learner", what="a heartbeat of the learner", key=key)
