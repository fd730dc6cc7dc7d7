"""What the training loop does at a step border beside training: evaluations, and a checkpoint that a user wants now."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from rollout.buffer import GroupBuffer
from services.bell import Bell
from services.borders import Duty, Waiting
from services.evaluation.in_run import RunEvaluations
from services.failures import first_cause
from services.group_loop import BufferedGroup
from services.pauses import Pauses
from services.pausing import UserGate
from services.reports import EvaluationReport, RunReport, RunTask
from services.run_tasks import TaskFailed
from services.saving import Saver
from services.stopwatch import Stopwatch
from shaping.errors import RunFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class BorderWork:
    """Called by the training loop alone.

    Args:
        report: tells the control plane of results.
    """

    gate: UserGate
    pauses: Pauses
    saver: Saver
    evaluations: RunEvaluations
    buffer: GroupBuffer[BufferedGroup]
    stopwatch: Stopwatch
    waiting: Waiting
    bell: Bell
    report: Callable[[RunReport], Awaitable[None]]

    async def evaluate(
        self,
        policy_version: int,
        *,
        is_last: bool,
        phase: str,
        before: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> dict[str, float]:
        """Evaluate, while training waits or beside it.

        Args:
            phase: of the step, that the time belongs to.
            before: done once the evaluation has ended, or before a pause that does not wait for that.
        Returns:
            What is known of it now.
        """
        at_once = Duty(is_due=self.pauses.is_due_at_once, attend=lambda: self.pauses.attend(phase))
        try:
            async with asyncio.TaskGroup() as tasks:
                asking = tasks.create_task(self._measure(policy_version, is_last=is_last))
                asking.add_done_callback(lambda _: self.bell.ring())
                if before is not None:
                    await self.waiting.until(lambda: asking.done() or self.gate.stops_at_once, policy_version, [])
                    await before()
                await self.waiting.until(asking.done, policy_version, [at_once])
        except BaseExceptionGroup as failures:
            raise first_cause(failures) from failures
        report = asking.result()
        return {} if report is None else {"accuracy": report.accuracy}

    async def save_now(self, task: RunTask) -> Awaitable[Mapping[str, Any]]:
        """A checkpoint that a user wants, of this moment.

        Raises:
            TaskFailed: it could not be written.
        """
        self.stopwatch.mark("wait_batch")
        outcome = await self.saver.save(tag=str(task.options.get("tag") or ""))
        if outcome.error:
            raise TaskFailed(outcome.error)
        return _known({"checkpoint": outcome.name})

    async def evaluate_now(self, task: RunTask) -> Awaitable[Mapping[str, Any]]:
        """An evaluation that a user wants, as if it were due.

        Returns:
            What is left to wait for beside training.
        Raises:
            TaskFailed: it cannot be, or it failed.
        """
        del task
        version, evaluations = self.buffer.version, self.evaluations
        if not evaluations.is_planned:
            raise TaskFailed("the recipe must name what to evaluate on, found nothing (data.evaluation, evaluation)")
        if evaluations.is_measured(version):
            return _known({"policy_version": version})
        if evaluations.lends_engines:
            if why := await evaluations.begin(version):
                raise TaskFailed(why)
            return self._outcome(version)
        self.stopwatch.mark("wait_batch")
        try:
            measured = await self.evaluate(version, is_last=False, phase="evaluation")
        except RunFailed as failure:
            raise TaskFailed(str(failure)) from failure
        self.stopwatch.mark("evaluation")
        return _known({"policy_version": version, **measured})

    async def _outcome(self, policy_version: int) -> Mapping[str, Any]:
        outcome = await self.evaluations.outcome(policy_version)
        if isinstance(outcome, str):
            raise TaskFailed(outcome)
        return {"policy_version": policy_version, "accuracy": outcome.accuracy}

    async def _measure(self, policy_version: int, *, is_last: bool) -> EvaluationReport | None:
        """The result, once it is there; None where it is left to engines beside training."""
        evaluations = self.evaluations
        if evaluations.lends_engines and not is_last:
            await evaluations.begin(policy_version)
            return None
        await self.bell.wait_until(lambda: not evaluations.is_beside_training)
        report = await evaluations.measure(policy_version)
        await self.report(report)
        return report


async def _known(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nothing is left to wait for."""
    return result
