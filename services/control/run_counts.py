"""What Prometheus is told of one run, from what is believed of it."""

from collections.abc import Callable, Mapping, Sequence

from services.control.draft import RunFacts
from services.control.machine import Happening, OperationKind
from services.control.records import Operation, OperationState
from services.metrics.entries import catalogue
from services.metrics.run_metrics import RunMetrics
from services.reports import (
    BufferReport,
    ControlReport,
    EvaluationReport,
    OperationReport,
    PauseMode,
    ReleaseLevel,
    RunEvent,
    RunState,
    StepReport,
    WorkerReport,
)


class RunCounts:
    """Feeds the metrics of a run. Begin anew with `recall` where what is known of the run begins anew.

    Args:
        clock: seconds since the epoch.
        version: of lessrl.

    Attributes:
        metrics: None before the first `recall`: of a run that ended before this control plane began.
    """

    def __init__(self, *, clock: Callable[[], float], version: str) -> None:
        self.metrics: RunMetrics | None = None
        self._clock = clock
        self._version = version
        self._paused_to: float | None = None
        self._last_step = 0
        self._last_evaluation = -1
        # Of the run's process; None until it tells them, where it began before this control plane.
        self._totals: Mapping[str, float] | None = {}

    def recall(self, facts: RunFacts, reports: Sequence[ControlReport], *, is_new_process: bool) -> None:
        """Begin anew with these reports. What was counted before stays counted, also where it is to be done again.

        Args:
            is_new_process: the run's process begins now, or has yet to.
        """
        record, before = facts.record, self.metrics
        self._totals = {} if is_new_process else None
        self.metrics = RunMetrics(record.description, catalogue=catalogue(), version=self._version, clock=self._clock)
        self.metrics.observe_state(record.life.state)
        self._last_step, self._last_evaluation = 0, -1
        self._paused_to = self._clock() if record.life.state is RunState.PAUSED else None
        # Events of an earlier attempt were counted when they came, by this control plane or by the one before it.
        self.observe([each for each in reports if record.attempt == 1 or not isinstance(each, RunEvent)])
        if record.last_step_at is not None:
            self.metrics.set_step_time(record.last_step_at)
        self.metrics.set_checkpoint(record.checkpoint)
        if before is not None:
            self.metrics.values.stay_above(before.values)

    def observe(self, reports: Sequence[ControlReport]) -> None:
        """Count reports; a step and an evaluation that are said again are not counted again."""
        if self.metrics is None:
            return
        for report in reports:
            if isinstance(report, StepReport):
                is_new, self._last_step = report.step > self._last_step, max(report.step, self._last_step)
            elif isinstance(report, EvaluationReport):
                is_new = report.policy_version > self._last_evaluation
                self._last_evaluation = max(report.policy_version, self._last_evaluation)
            else:
                is_new = True
            if is_new and not isinstance(report, OperationReport):
                self.metrics.observe(report)
            if isinstance(report, BufferReport):
                self._count_totals(report.totals)
            elif isinstance(report, RunEvent):
                self._follow_sitting(report)

    def _follow_sitting(self, event: RunEvent) -> None:
        """A process may hold several sittings, each with workers and totals of its own, from any checkpoint on."""
        details, begins = event.details, event.kind == Happening.STARTING
        if begins:
            self._totals = {}
        if event.kind == "checkpoint_loaded":
            step = int(details.get("step", self._last_step))
            self._last_step, self._last_evaluation = min(self._last_step, step), min(self._last_evaluation, step)
        is_released = details.get("released") == ReleaseLevel.ALL or details.get("process") == "ended"
        if self.metrics is not None and (begins or (event.kind == Happening.PAUSED and is_released)):
            self.metrics.forget_process()

    def _count_totals(self, totals: Mapping[str, float]) -> None:
        before = totals if self._totals is None else self._totals
        self._totals = totals
        if self.metrics is not None:
            self.metrics.add_totals({name: max(0.0, total - before.get(name, 0.0)) for name, total in totals.items()})

    def follow(self, before: RunFacts, after: RunFacts, ended: Sequence[Operation]) -> None:
        """Count what a change did.

        Args:
            ended: operations that ended with it.
        """
        if self.metrics is None:
            return
        self.count_paused_time(before)
        if after.record.link_id != before.record.link_id:
            self._totals, self._last_step, self._last_evaluation = {}, 0, -1
            self.metrics.forget_process()
        for each in ended:
            if each.kind is OperationKind.PAUSE:
                succeeded = each.state is OperationState.SUCCEEDED
                self.metrics.count_pause(mode=_mode(each), succeeded=succeeded)
        state = after.record.life.state
        if state is not before.record.life.state:
            self._paused_to = self._clock() if state is RunState.PAUSED else None
            self.metrics.observe_state(state)

    def see_workers(self, workers: Sequence[WorkerReport]) -> None:
        """Workers that were there before this control plane began."""
        if self.metrics is not None:
            self.metrics.see_workers(workers)

    def count_missed(self, reports: int) -> None:
        """So many reports never came."""
        if self.metrics is not None:
            self.metrics.count_missed(reports)

    def count_paused_time(self, facts: RunFacts) -> None:
        """Count the time since the last call, where the run is paused."""
        if self._paused_to is None or self.metrics is None:
            return
        now, pause = self._clock(), facts.record.life.pause
        mode = pause.mode if pause else PauseMode.DRAIN
        self.metrics.add_paused_seconds(max(0.0, now - self._paused_to), mode=PauseMode(mode))
        self._paused_to = now


def _mode(operation: Operation) -> PauseMode:
    return PauseMode(operation.request.get("mode", PauseMode.DRAIN))
