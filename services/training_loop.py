"""The training loop: batch, learner step, publication, report, checkpoint; at each border what is due there."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from learner.config import LearnerConfig
from rollout.buffer import GroupBuffer, TakenBatch
from rollout.buffer_config import BufferConfig
from services.bell import Bell
from services.border_work import BorderWork
from services.borders import Duty, Waiting
from services.deadlines import within
from services.evaluation.in_run import RunEvaluations
from services.group_loop import BufferedGroup, GroupLoop
from services.live_hooks import LiveHooks
from services.pauses import Pauses
from services.pausing import UserGate
from services.pool import PoolConfig
from services.ports import LearnerPort
from services.publishing import Publisher
from services.reports import StepReport
from services.run_store import RunStore
from services.run_tasks import RunTasks
from services.saving import Saver
from services.skipped_step import SkippedStep
from services.step_report import check_mismatch, plan_step, report_step, trained_lines
from services.stopwatch import Stopwatch
from services.workers import Workers
from shaping.errors import RunFailed
from shaping.training import StepResult


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorConfig:
    """What the orchestrator decides with.

    Args:
        checkpoint_every: steps between checkpoints; 0 takes none.
        pool: deadlines of workers.
        tell_seconds: how often the control plane hears of queues and workers, where they change; 0: never.
    """

    buffer: BufferConfig
    learner: LearnerConfig
    seed: int
    checkpoint_every: int
    pool: PoolConfig
    step_seconds: float
    max_worker_restarts: int
    max_skipped_steps: int
    max_mismatch_nats: float
    max_canary_nats: float
    max_no_verdict_share: float
    tell_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingParts:
    """What the training loop works with.

    Args:
        tell: reports an event: its kind and a message.
        report: tells the control plane of a step.
    """

    learner: LearnerPort
    buffer: GroupBuffer[BufferedGroup]
    groups: GroupLoop
    workers: Workers
    evaluations: RunEvaluations
    publisher: Publisher
    saver: Saver
    store: RunStore
    live: LiveHooks
    gate: UserGate
    pauses: Pauses
    tasks: RunTasks
    border: BorderWork
    waiting: Waiting
    stopwatch: Stopwatch
    bell: Bell
    tell: Callable[[str, str], Awaitable[None]]
    report: Callable[[StepReport], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Standing:
    """Where the training loop stands, for whoever works beside it.

    Args:
        is_busy: a learner step, or what belongs to it, is under way.
        is_at_border: no group may be admitted before a checkpoint or an evaluation.
        num_skipped: learner steps that were skipped so far.
    """

    is_busy: bool = True
    is_at_border: bool = False
    num_skipped: int = 0


class TrainingLoop:
    """Trains step after step, and is the only one that starts a learner step, a weight sync or a checkpoint.

    Args:
        resumed: the run goes on from a checkpoint: engines have other weights than the learner.
    """

    def __init__(self, config: OrchestratorConfig, parts: TrainingParts, standing: Standing, *, resumed: bool) -> None:
        self.config = config
        self._parts = parts
        self._standing = standing
        self._resumed = resumed

    async def run(self) -> None:
        """All steps that remain.

        Raises:
            RunFailed: the learner failed, or a budget is spent.
            RunCancelled, Released: the user asked for it.
        """
        parts, first = self._parts, self._parts.buffer.version
        await parts.live.at_start(first)
        await parts.waiting.until(lambda: parts.gate.is_open, first, [self._pause("start")])
        if self._resumed:
            await parts.publisher.publish(first)
        await parts.evaluations.recover(first)
        if parts.evaluations.is_open(first):
            await parts.border.evaluate(first, is_last=False, phase="start")
        parts.stopwatch.start()
        self._be_busy(False)
        while parts.buffer.version < self.config.buffer.num_steps:
            step = parts.buffer.version
            duties = [self._pause("wait_batch"), Duty(is_due=parts.tasks.is_due, attend=parts.tasks.attend)]
            await parts.waiting.until(self._has_work, step, duties)
            self._be_busy(True)
            await self._train(step)
            self._be_busy(False)

    async def catch_up(self, version: int) -> None:
        """Bring engines that came back to the learner's version."""
        was_busy = self._standing.is_busy
        self._be_busy(True)
        await self._parts.publisher.publish_to(self._parts.workers.rollout.behind, version)
        self._be_busy(was_busy)

    def _pause(self, phase: str) -> Duty:
        """Every pause; time until then belongs to this phase."""
        pauses = self._parts.pauses
        return Duty(is_due=pauses.is_due, attend=lambda: pauses.attend(phase))

    def _be_busy(self, is_busy: bool) -> None:
        self._standing.is_busy = is_busy
        self._parts.bell.ring()

    def _open_border(self) -> None:
        self._standing.is_at_border = False
        self._parts.bell.ring()

    def _has_work(self) -> bool:
        return self._parts.gate.is_open and self._parts.buffer.has_batch()

    async def _train(self, step: int) -> None:
        parts, watch = self._parts, self._parts.stopwatch
        watch.mark("wait_batch")
        batch = parts.buffer.take()
        dropped, times = parts.groups.take_dropped(), parts.groups.times(batch.items)
        await parts.live.before_step(step)
        result = await self._step(batch, step)
        watch.mark("train")
        check_mismatch(result, self.config.max_mismatch_nats)
        await parts.live.after_step(step)
        num_steps, every = self.config.buffer.num_steps, self.config.checkpoint_every
        is_last = step + 1 == num_steps
        is_measured = parts.evaluations.is_due(step + 1, is_last=is_last)
        is_saved = bool(every) and (is_last or (step + 1) % every == 0)

        def go_on() -> None:
            """Settle and free the slots, once: engines sample for the next step while the canary is compared."""
            if parts.buffer.version <= step:
                parts.groups.settle()
                self._standing.is_at_border = is_saved or is_measured
                parts.buffer.release(result.policy_version)
                for line in trained_lines(batch, result):
                    parts.store.write_ledger(line)
                parts.bell.ring()

        synced = await parts.publisher.publish(result.policy_version, on_live=go_on)
        watch.mark("weight_sync")

        async def report() -> None:
            watch.mark("evaluation")
            phases, step_seconds = watch.lap()
            told = report_step(
                batch,
                dropped,
                result,
                total_steps=num_steps,
                metrics={**synced.metrics(), "learner_skipped_steps_count": float(bool(result.skipped))},
                histograms=times,
                phases=phases,
                step_seconds=step_seconds,
                elapsed_seconds=watch.elapsed,
            )
            parts.saver.metrics = told.metrics
            await parts.report(told)

        if is_measured:
            measured = await parts.border.evaluate(step + 1, is_last=is_last, phase="evaluation", before=report)
            parts.saver.metrics = {**parts.saver.metrics, **measured}
        else:
            await report()
        if is_saved:
            await parts.saver.save(on_begun=self._open_border)
        self._open_border()

    async def _step(self, batch: TakenBatch[BufferedGroup], step: int) -> StepResult:
        plan = plan_step(batch.items, self.config.learner, seed=self.config.seed, step=step)
        result = await within(
            self.config.step_seconds,
            self._parts.learner.step(tuple(item.shaped for item in batch.items), plan, step),
            role="learner",
            what=f"step {step + 1}",
            key="run.deadlines.step_seconds",
        )
        if result.skipped:
            await self._count_skipped(batch, result)
        return result

    async def _count_skipped(self, batch: TakenBatch[BufferedGroup], result: StepResult) -> None:
        """A step that could not be trained costs one of the budget; its groups are kept for `lessrl replay`.

        Raises:
            RunFailed: the budget is spent.
        """
        parts = self._parts
        self._standing.num_skipped += 1
        step, cause = result.policy_version, result.skipped
        skipped = SkippedStep(step=step, cause=cause, lines=tuple(trained_lines(batch, result)))
        kept = await parts.store.keep_skipped(skipped, tuple(item.shaped for item in batch.items), parts.workers)
        limit, number = self.config.max_skipped_steps, self._standing.num_skipped
        message = f"step {step} was skipped: {cause}; its groups are in {kept} (lessrl replay)"
        if number > limit:
            count = f"{number} steps were skipped, {limit} may be (run.max_skipped_steps)"
            raise RunFailed(role="learner", cause=f"{count}; the last: {message}")
        await parts.tell("step_skipped", message)
