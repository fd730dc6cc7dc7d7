"""The run: four concurrent loops over ports, none of which knows Ray, HTTP or a tensor.

    admission --> one task per group: generate (round by round) --> shape --> buffer --> learner step
        ^                                                                                    |
        +---- slots freed <---- version verified live <---- weight sync <--------------------+
    control: pause, resume and cancel close or open the user's gate

Three gates have three owners: the user's pause (control loop), the weight sync (services/weight_sync.py pauses engines
itself), back-pressure (GroupBuffer.can_admit). A group ends trained or counted under a reason; a failed one is asked
for again as the same group.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from learner.batch_plan import BatchPlan, SampleSize, plan_batch
from learner.config import LearnerConfig
from rollout.buffer import BufferConfig, GroupBuffer, TakenBatch
from rollout.plans.base import FinishedRound, Round
from rollout.requests import GroupFactory, OpenGroup
from rollout.selectors.base import GroupOutcome
from services.deadlines import within
from services.evaluator import Evaluator
from services.failures import first_cause
from services.ports import ControlPort, LearnerPort, RolloutPort, RoundHandle, ShapedHandle, ShapingPort
from services.reports import EvaluationReport, Intent, IntentKind, RunEvent, RunState, StepReport
from services.run_state import Happening
from services.stopwatch import Clock, Stopwatch
from services.weight_sync import WeightSync
from shaping.errors import RunFailed
from shaping.groups import DropReason
from shaping.metrics import Mean, Metrics, merge_metrics, metric_values
from shaping.records import GroupRequest
from shaping.training import StepResult

T = TypeVar("T")

MISMATCH_METRIC = "learner_logprob_difference_mean_nats"


class RunCancelled(Exception):
    """The user cancelled the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorConfig:
    """What the orchestrator decides with.

    Args:
        evaluate_every: 0 evaluates before the first and after the last step only.
    """

    buffer: BufferConfig
    learner: LearnerConfig
    seed: int
    evaluate_every: int
    group_attempts: int
    group_seconds: float
    step_seconds: float
    max_mismatch_nats: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Buffered:
    """A shaped group waiting for the learner."""

    shaped: ShapedHandle
    num_response_tokens: int


@dataclass(slots=True, kw_only=True)
class _Dropped:
    """What is told of dropped groups beside their number."""

    num_response_tokens: int = 0
    metrics: list[Metrics] = field(default_factory=list)


class Orchestrator:
    """Runs one run from its first group to its last step."""

    def __init__(
        self,
        config: OrchestratorConfig,
        *,
        factory: GroupFactory,
        rollout: Sequence[RolloutPort],
        shaping: Sequence[ShapingPort],
        learner: LearnerPort,
        sync: WeightSync,
        evaluator: Evaluator | None,
        control: ControlPort,
        clock: Clock,
    ) -> None:
        self._config = config
        self._factory = factory
        self._rollout = {port.worker_id: port for port in rollout}
        self._shaping = {port.worker_id: port for port in shaping}
        self._learner = learner
        self._sync = sync
        self._evaluator = evaluator
        self._control = control
        self._clock = clock
        self._buffer: GroupBuffer[_Buffered] = GroupBuffer(config.buffer)
        self._load: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._intent = Intent(generation=0, kind=IntentKind.RUN)
        self._is_busy = True
        self._paused_by: Intent | None = None
        self._outcomes: dict[int, tuple[OpenGroup, GroupOutcome]] = {}
        self._dropped = _Dropped()
        self._stopwatch = Stopwatch(clock)

    async def run(self) -> None:
        """All steps of the run.

        Raises:
            RunFailed: first cause first.
            RunCancelled: the user asked for it.
        """
        await self._say(Happening.STARTED, "Training", RunState.RUNNING)
        try:
            async with asyncio.TaskGroup() as tasks:
                control = tasks.create_task(self._follow_intent())
                admission = tasks.create_task(self._admit_groups(tasks))
                # A task like the others: a failure of the body itself would be listed after those that it causes.
                await asyncio.wait([tasks.create_task(self._train())])
                control.cancel()
                admission.cancel()
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from failures

    # -- control ------------------------------------------------------------------------------------------------------

    async def _follow_intent(self) -> None:
        while True:
            intent = await self._control.intent_after(self._intent.generation)
            self._intent = intent
            if intent.kind is IntentKind.CANCEL:
                raise RunCancelled(intent.reason)
            if intent.kind is IntentKind.RUN and self._paused_by is not None:
                self._paused_by = None
                self._stopwatch.resume()
                await self._say(Happening.RESUMED, "Training", RunState.RUNNING)
            self._wake()
            await self._report_drained()

    async def _report_drained(self) -> None:
        """Say `paused`, once for each pause that is asked for, as soon as nothing is under way any more."""
        is_drained = self._buffer.num_in_flight == 0 and not self._is_busy
        if self._intent.kind is IntentKind.PAUSE and is_drained and self._paused_by != self._intent:
            self._paused_by = self._intent
            self._stopwatch.pause()
            waiting = self._buffer.num_buffered
            message = f"Paused at version {self._buffer.version}; {waiting} shaped groups wait"
            await self._say(Happening.DRAINED, message, RunState.PAUSED)

    async def _say(self, happening: Happening, message: str, state: RunState) -> None:
        await self._control.report(RunEvent(kind=happening.value, message=message, state=state))

    def _wake(self) -> None:
        self._changed.set()

    async def _until_changed(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    # -- groups -------------------------------------------------------------------------------------------------------

    async def _admit_groups(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            while self._intent.kind is IntentKind.RUN and self._buffer.can_admit():
                ordinal = self._buffer.admit()
                tasks.create_task(self._run_group(self._factory.open(ordinal)))
            await self._until_changed()

    async def _run_group(self, group: OpenGroup) -> None:
        handles = await self._generate_rounds(group)
        shaped = await self._ask_shaper(lambda shaper: shaper.shape(handles), "shaping", group)
        num_tokens = sum(handle.summary.num_response_tokens for handle in handles)
        summary = shaped.summary
        outcome = GroupOutcome(
            prompt_id=group.prompt.prompt_id,
            num_correct=summary.num_correct,
            num_scored=summary.num_scored,
            was_trained=summary.drop is None,
        )
        self._outcomes[group.ordinal] = (group, outcome)
        if summary.drop is None:
            self._buffer.accept(group.ordinal, _Buffered(shaped=shaped, num_response_tokens=num_tokens))
        else:
            self._dropped.num_response_tokens += num_tokens
            self._dropped.metrics.append(summary.metrics)
            self._buffer.drop(group.ordinal, summary.drop.reason)
        self._wake()
        await self._report_drained()

    async def _generate_rounds(self, group: OpenGroup) -> tuple[RoundHandle, ...]:
        handles: list[RoundHandle] = []
        while True:
            planned = self._factory.next_request(group, num_rounds_done=len(handles), step=self._buffer.version)
            if planned is None:
                return tuple(handles)
            plan_round, request = planned
            handle = await self._generate(request)
            handles.append(handle)
            if self._factory.scores_rounds:
                group.finished.append(await self._finished(plan_round, handle, group))

    async def _finished(self, plan_round: Round, handle: RoundHandle, group: OpenGroup) -> FinishedRound:
        outcome = await self._ask_shaper(lambda shaper: shaper.score(handle), "scoring", group)
        rewards = np.array(outcome.rewards, dtype=np.float32)
        return FinishedRound(round=plan_round, rewards=rewards, num_correct=outcome.num_correct)

    async def _ask_shaper(self, call: Callable[[ShapingPort], Awaitable[T]], what: str, group: OpenGroup) -> T:
        worker = self._least_loaded(self._shaping)
        self._load[worker] += 1
        try:
            return await within(
                self._config.group_seconds,
                call(self._shaping[worker]),
                role="shaping",
                what=f"{what} by {worker}",
                key="run.deadlines.group_seconds",
                group_id=group.group_id,
            )
        finally:
            self._load[worker] -= 1

    async def _generate(self, request: GroupRequest) -> RoundHandle:
        """One round on the worker with the least to do; a failed attempt goes to another worker where there is one."""
        failed: list[str] = []
        for attempt in range(1, self._config.group_attempts + 1):
            worker = self._least_loaded(self._rollout, avoid=failed)
            self._load[worker] += request.num_rollouts
            try:
                return await within(
                    self._config.group_seconds,
                    self._rollout[worker].generate(request),
                    role="rollout",
                    what=f"generation by {worker}",
                    key="run.deadlines.group_seconds",
                    group_id=request.group_id,
                )
            except RunFailed as failure:
                failed.append(worker)
                if attempt == self._config.group_attempts:
                    raise
                message = f"attempt {attempt} of group {request.group_id}: {failure.cause}"
                await self._control.report(RunEvent(kind="group_retried", message=message, state=RunState.RUNNING))
            finally:
                self._load[worker] -= request.num_rollouts
        raise AssertionError("group_attempts is at least 1")

    def _least_loaded(self, ports: dict[str, T], avoid: Sequence[str] = ()) -> str:
        candidates = [name for name in ports if name not in avoid] or list(ports)
        return min(candidates, key=lambda name: self._load[name])

    # -- training -----------------------------------------------------------------------------------------------------

    async def _train(self) -> None:
        await self._evaluate(0)
        self._is_busy = False
        self._stopwatch.start()
        await self._report_drained()
        for step in range(self._config.buffer.num_steps):
            while self._intent.kind is not IntentKind.RUN or not self._buffer.has_batch():
                await self._until_changed()
            self._is_busy = True
            await self._train_one(step)
            self._is_busy = False
            self._wake()
            await self._report_drained()

    async def _train_one(self, step: int) -> None:
        watch = self._stopwatch
        watch.mark("wait_batch")
        batch = self._buffer.take()
        dropped = self._take_dropped()
        plan = self._plan(batch, step)
        shaped = tuple(item.shaped for item in batch.items)
        result = await within(
            self._config.step_seconds,
            self._learner.step(shaped, plan, step),
            role="learner",
            what=f"step {step + 1}",
            key="run.deadlines.step_seconds",
        )
        watch.mark("train")
        self._check_mismatch(result)
        await self._sync.publish(result.policy_version)
        watch.mark("weight_sync")
        self._settle()
        is_last = step + 1 == self._config.buffer.num_steps
        every = self._config.evaluate_every
        if is_last or (every and (step + 1) % every == 0):
            await self._evaluate(result.policy_version)
        watch.mark("evaluation")
        self._buffer.release(result.policy_version)
        self._wake()
        phases, step_seconds = watch.lap()
        await self._control.report(self._step_report(batch, dropped, result, phases, step_seconds))

    def _check_mismatch(self, result: StepResult) -> None:
        """Refuse to go on from samples of another policy than the learner's: stale or different weights somewhere."""
        found, limit = result.metrics.get(MISMATCH_METRIC), self._config.max_mismatch_nats
        if found is not None and found > limit:
            cause = (
                f"sampler and learner must agree within {limit:g} nats per token on average, found {found:.3g} in step "
                f"{result.policy_version}: they hold different policies (run.max_mismatch_nats)"
            )
            raise RunFailed(role="learner", cause=cause)

    async def _evaluate(self, policy_version: int) -> None:
        if self._evaluator is not None:
            report: EvaluationReport = await self._evaluator.evaluate(policy_version)
            await self._control.report(report)

    def _take_dropped(self) -> _Dropped:
        """Groups dropped since the last batch, counted with the step whose batch they were sampled for."""
        dropped, self._dropped = self._dropped, _Dropped()
        return dropped

    def _plan(self, batch: TakenBatch[_Buffered], step: int) -> BatchPlan:
        sizes = [
            SampleSize(
                group_index=index,
                sample_index=size.sample_index,
                num_tokens=size.num_tokens,
                num_valid_tokens=size.num_valid_tokens,
            )
            for index, item in enumerate(batch.items)
            for size in item.shaped.summary.samples
        ]
        if not sizes:
            # Every group was dropped: a step without updates, so that versions and steps stay in step.
            return BatchPlan(mini_batches=())
        learner = self._config.learner
        return plan_batch(
            sizes,
            num_ranks=learner.num_ranks,
            mini_batch_groups=learner.mini_batch_groups,
            num_epochs=learner.num_epochs,
            micro_batch_tokens=learner.micro_batch_tokens,
            layout=learner.layout,
            seed=self._config.seed * 1_000_003 + step,
        )

    def _settle(self) -> None:
        """Tell selector and plan what the groups of this step taught, in order, so that timing decides nothing."""
        for ordinal in sorted(self._outcomes):
            group, outcome = self._outcomes[ordinal]
            self._factory.settle(group, outcome)
        self._outcomes.clear()

    def _step_report(
        self,
        batch: TakenBatch[_Buffered],
        dropped: _Dropped,
        result: StepResult,
        phases: dict[str, float],
        step_seconds: float,
    ) -> StepReport:
        shaped = [item.shaped.summary for item in batch.items]
        staleness = [Mean(result.policy_version - 1 - each.min_policy_version, 1) for each in shaped]
        merged = merge_metrics([*(each.metrics for each in shaped), *dropped.metrics])
        metrics = metric_values({**merged, **merge_metrics({"learner_staleness_versions": each} for each in staleness)})
        metrics.update(result.metrics)
        num_tokens = sum(item.num_response_tokens for item in batch.items) + dropped.num_response_tokens
        groups = {"trained": len(batch.items)}
        groups.update({f"dropped_{reason.value}": batch.dropped[reason] for reason in DropReason})
        return StepReport(
            step=result.policy_version,
            total_steps=self._config.buffer.num_steps,
            policy_version=result.policy_version,
            metrics=metrics,
            phase_seconds=phases,
            step_seconds=step_seconds,
            groups=groups,
            num_response_tokens=num_tokens,
            elapsed_seconds=self._stopwatch.elapsed,
        )
