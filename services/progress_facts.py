"""What a person who watches a run wants to read, out of its reports: numbers, without layout or terminal."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.history import seconds_left
from services.reports import (
    EvaluationReport,
    Failure,
    RunDescription,
    RunEvent,
    RunReport,
    RunState,
    StepReport,
    WorkerReport,
)
from shaping.support import SegmentClass

RECENT_STEPS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorker:
    """A worker's newest report, and when its first one came (seconds of the clock)."""

    report: WorkerReport
    since: float


class ProgressFacts:
    """The run as it stands; `take` every report.

    Args:
        clock: seconds that only rise.
    """

    def __init__(self, description: RunDescription, *, clock: Callable[[], float]) -> None:
        self.description = description
        self.state = RunState.PENDING
        self.last_event: RunEvent | None = None
        self.failure: Failure | None = None
        self.workers: dict[str, SeenWorker] = {}
        self.steps: tuple[StepReport, ...] = ()
        self.evaluations: tuple[EvaluationReport, ...] = ()
        self._clock = clock
        self._began = clock()
        self._event_at = self._began
        self._step_at = self._began

    def take(self, report: RunReport) -> None:
        if isinstance(report, StepReport):
            self.steps = (*self.steps, report)
            self._step_at = self._clock()
        elif isinstance(report, EvaluationReport):
            self.evaluations = (*self.evaluations, report)
        else:
            self._take_event(report)

    def _take_event(self, event: RunEvent) -> None:
        now = self._clock()
        self.state, self.last_event, self._event_at = event.state, event, now
        self.failure = self.failure or event.failure
        for worker in event.workers:
            seen = self.workers.get(worker.worker_id)
            self.workers[worker.worker_id] = SeenWorker(report=worker, since=seen.since if seen else now)

    @property
    def is_starting(self) -> bool:
        return not self.steps and not self.evaluations and not self.state.is_terminal

    @property
    def seconds_since_start(self) -> float:
        return self._clock() - self._began

    @property
    def seconds_since_event(self) -> float:
        return self._clock() - self._event_at

    def worker_seconds(self, worker: SeenWorker) -> float:
        """How long a worker took to start, or has been starting."""
        return worker.report.start_seconds if worker.report.state == "ready" else self._clock() - worker.since

    @property
    def seconds_left(self) -> float | None:
        """Until the last step, at the mean pace so far; None while no step is being made."""
        if not self.steps or self.state not in (RunState.RUNNING, RunState.STARTING):
            return None
        return max(0.0, seconds_left(self.steps[-1]) - (self._clock() - self._step_at))

    @property
    def seconds_per_step(self) -> float | None:
        """Mean over the last steps."""
        recent = self.steps[-RECENT_STEPS:]
        return sum(step.step_seconds for step in recent) / len(recent) if recent else None

    @property
    def tokens_per_second(self) -> float | None:
        """Response tokens sampled, over the wall time of the last steps."""
        recent = self.steps[-RECENT_STEPS:]
        seconds = sum(step.step_seconds for step in recent)
        return sum(step.num_response_tokens for step in recent) / seconds if seconds > 0 else None

    def metric(self, name: str) -> float | None:
        """Of the last step; None when it was not measured or is not finite."""
        value = self.steps[-1].metrics.get(name) if self.steps else None
        return value if value is not None and math.isfinite(value) else None

    def curve(self, name: str) -> list[float]:
        """A metric over all steps that measured it."""
        values = (step.metrics.get(name) for step in self.steps)
        return [value for value in values if value is not None and math.isfinite(value)]

    @property
    def class_shares(self) -> dict[SegmentClass, float] | None:
        """Segment tokens of the last step by class, as shares; None when there were no segments."""
        return class_shares(lambda each: self.metric(f"segments_{each}_tokens"))

    @property
    def dropped(self) -> dict[str, int]:
        """Groups of the last step that were not trained, by reason."""
        groups = self.steps[-1].groups if self.steps else {}
        return {name.removeprefix("dropped_"): n for name, n in groups.items() if name.startswith("dropped_") and n}


def class_shares(tokens_of: Callable[[SegmentClass], float | None]) -> dict[SegmentClass, float] | None:
    """Segment tokens by class as shares; None where there are none.

    Args:
        tokens_of: how many a class has; None where nobody counted.
    """
    tokens = {each: tokens_of(each) or 0.0 for each in SegmentClass}
    total = sum(tokens.values())
    return {each: count / total for each, count in tokens.items()} if total > 0 else None


def duration(seconds: float) -> str:
    """12 s, 2 min 05 s, 1 h 02 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def printable(text: str) -> str:
    """One line without control characters: what a run reports may quote what a model wrote."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
