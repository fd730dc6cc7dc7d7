"""The loggers of a run (`run.loggers`): each behind a queue on a thread of its own; none can slow or end the run.

Follows the run's reports as metrics.jsonl does. What a logger does not take in time is left out of it, what it raises
ends it: both are said once, and metrics.jsonl has everything.
"""

import asyncio
import contextlib
import logging
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from services.control.redaction import Redactor
from services.history import RunHistory
from services.loggers.base import LoggedPoint, LoggedRun, RunLogger
from services.metrics.entries import catalogue
from services.metrics.field_names import FieldNames, of_evaluation
from services.open_run import OpenRun
from services.plugins import loaded_loggers
from services.reports import EvaluationReport, RunReport, RunState, StepReport
from shaping.components import Component

MAX_WAITING_POINTS = 1000
CLOSE_SECONDS = 30.0
PAUSED, INTERRUPTED = RunState.PAUSED.value, "interrupted"

logger = logging.getLogger(__name__)


class BackgroundLogger:
    """One logger on a thread of its own. No call waits for it but `close`, and none raises.

    Args:
        kind: for what is said of it.
        open_logger: called on the thread.
        past: what earlier processes of the run reported, given to the logger before all else.
        tell: says one line to the user; called on either thread.
        mask: takes secrets out of what a library says as it fails.
    """

    def __init__(
        self,
        kind: str,
        open_logger: Callable[[], RunLogger],
        tell: Callable[[str], None],
        *,
        past: Iterable[LoggedPoint] = (),
        max_waiting: int = MAX_WAITING_POINTS,
        mask: Callable[[str], str] = str,
    ) -> None:
        self._kind = kind
        self._open_logger = open_logger
        self._past = past
        self._tell = tell
        self._mask = mask
        self._points: queue.Queue[LoggedPoint | None] = queue.Queue(max_waiting)
        self._outcome = INTERRUPTED
        self._num_left_out = 0
        # A daemon: a library that hangs must not keep the process.
        self._thread = threading.Thread(target=self._work, name=f"logger-{kind}", daemon=True)
        self._thread.start()

    def put(self, point: LoggedPoint) -> None:
        """Take in a point, or leave it out where too many wait."""
        try:
            self._points.put_nowait(point)
        except queue.Full:
            self._num_left_out += 1
            if self._num_left_out == 1:
                self._tell(
                    f"the logger {self._kind} is too slow: {self._points.maxsize} points wait for it, and others are "
                    f"left out of it from step {point.step} on; metrics.jsonl has all of them (run.loggers)"
                )

    def close(self, outcome: str, seconds: float) -> None:
        """Let it take in what waits, and end it; after so many seconds it is left alone."""
        deadline = time.monotonic() + seconds
        self._outcome = outcome
        with contextlib.suppress(queue.Full):
            self._points.put(None, timeout=seconds)
            self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            self._tell(
                f"the logger {self._kind} did not end within {seconds:g} s and is left alone: it may lack the last "
                "points, which metrics.jsonl has (run.loggers)"
            )

    def _work(self) -> None:
        coming = iter(self._points.get, None)
        try:
            opened = self._open_logger()
            for point in chain(self._past, coming):
                opened.log(point)
            opened.close(self._outcome)
        except Exception as error:
            # The border of a library: whatever it fails of, the run goes on.
            # A library names the address that it was given, with its password.
            logger.warning("the logger %s failed\n%s", self._kind, self._mask(traceback.format_exc()))
            self._tell(
                f"the logger {self._kind} failed and logs no more, the run goes on: {self._mask(_one_line(error))}; "
                "metrics.jsonl has everything (run.loggers)"
            )
            for _ in coming:
                pass


@dataclass(slots=True, kw_only=True)
class RunLoggers:
    """Listener that passes steps and evaluations on to every logger, under the field's names.

    Args:
        outcome: how the sitting ended, once it has.
    """

    loggers: Sequence[BackgroundLogger]
    names: FieldNames
    clock: Callable[[], float]
    outcome: str = RunState.FAILED.value

    def show(self, report: RunReport) -> None:
        """Take in a report; anything but a step or an evaluation is passed over."""
        if self.loggers and isinstance(report, StepReport | EvaluationReport):
            point = _point(report, self.names, self.clock())
            for each in self.loggers:
                each.put(point)

    def end_with(self, end: object) -> None:
        """Remember how the sitting ended: a state of the run; None where another process goes on; else a pause."""
        if isinstance(end, RunState):
            self.outcome = end.value
        else:
            self.outcome = INTERRUPTED if end is None else PAUSED


@contextlib.asynccontextmanager
async def open_loggers(run: OpenRun) -> AsyncIterator[RunLoggers]:
    """The loggers of one sitting; closed at the end, within CLOSE_SECONDS each.

    Raises:
        RecipeError: see `named_loggers`.
    """
    redactor = Redactor.from_environment(os.environ)
    redactor.learn_from_recipe(run.description.recipe)
    logged, names = _logged_run(run, redactor), FieldNames(catalogue())

    def opened(component: Component) -> BackgroundLogger:
        def build() -> RunLogger:
            built: RunLogger = component.build(run=logged)
            return built

        return BackgroundLogger(component.kind, build, _say, past=_past(run.history, names), mask=redactor.text)

    loggers = tuple(map(opened, loaded_loggers(run.recipe).values()))
    found = RunLoggers(loggers=loggers, names=names, clock=time.time)
    try:
        yield found
    finally:
        await asyncio.gather(*(asyncio.to_thread(each.close, found.outcome, CLOSE_SECONDS) for each in loggers))


def _past(history: RunHistory, names: FieldNames) -> Iterator[LoggedPoint]:
    """What the run has reported until now, in order of its steps; worked out by whoever reads it."""
    reports: list[StepReport | EvaluationReport] = [*history.steps, *history.evaluations]
    reports.sort(key=lambda each: each.step)
    at = time.time()
    return (_point(each, names, at) for each in reports)


def _point(report: StepReport | EvaluationReport, names: FieldNames, at: float) -> LoggedPoint:
    if isinstance(report, EvaluationReport):
        return LoggedPoint(step=report.step, at=at, is_evaluation=True, values=of_evaluation(report))
    return LoggedPoint(
        step=report.step,
        at=at,
        is_evaluation=False,
        values=names.of_step(report),
        histograms=names.of_histograms(report),
    )


def _logged_run(run: OpenRun, redactor: Redactor) -> LoggedRun:
    description = run.description
    return LoggedRun(
        run_id=description.run_id,
        name=description.name,
        model=description.model,
        algorithm=description.algorithm,
        shaping=description.shaping,
        run_dir=run.run_dir,
        first_step=run.found.checkpoint.manifest.step if run.found else 0,
        config=redactor.data(description.recipe),
    )


def _say(message: str) -> None:
    """To the user and to the run's own log."""
    logger.warning(message)
    sys.stderr.write(f"lessrl: note: {message}\n")


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
