"""Event files for TensorBoard in RUN_DIR/tensorboard: `tensorboard --logdir RUN_DIR`.

A process that goes on from a checkpoint tells TensorBoard to forget what was logged from there on. Distributions are
histograms there; the ends of their outer ranges, which nobody measured, are the bounds beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.loggers.base import LoggedPoint, LoggedRun
from services.metrics.field_names import EVALUATION_STEP_NAME, STEP_NAME
from shaping.components import import_module_of
from shaping.histograms import Histogram
from shaping.signals import Signal

NEEDS: frozenset[Signal] = frozenset()
LIBRARY = "tensorboard"
FOLDER = "tensorboard"
PREFIX = "events.out.tfevents."


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Args:
    histograms: write distributions too, which makes the files larger.
    """

    histograms: bool = True


def build(config: Config, *, run: LoggedRun) -> "TensorBoardLogger":
    """Open an event file.

    Raises:
        OSError: it cannot be written.
    """
    return TensorBoardLogger(config, run)


class TensorBoardLogger:
    """Writes scalars and histograms with TensorBoard's own writer, which needs neither torch nor TensorFlow."""

    def __init__(self, config: Config, run: LoggedRun) -> None:
        writer = import_module_of("tensorboard.summary.writer", "event_file_writer")
        self._events = import_module_of("tensorboard.compat.proto", "event_pb2")
        self._summaries = import_module_of("tensorboard.compat.proto", "summary_pb2")
        self._config = config
        folder = run.run_dir / FOLDER
        # What is there stays but for the step that the run goes on from: its evaluation may be told again.
        self._kept = {each for each in _logged_points(folder) if each[1] < run.first_step}
        self._writer = writer.EventFileWriter(str(folder))
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._writer.add_event(self._events.Event(step=run.first_step, session_log=start))

    def log(self, point: LoggedPoint) -> None:
        if (EVALUATION_STEP_NAME if point.is_evaluation else STEP_NAME, point.step) in self._kept:
            return
        values = [self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in point.values.items()]
        if self._config.histograms:
            values += self._histograms(point.histograms)
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=point.at, step=point.step, summary=summary))
        self._writer.flush()

    def close(self, outcome: str) -> None:
        del outcome
        self._writer.close()

    def _histograms(self, histograms: Mapping[str, Histogram]) -> list[Any]:
        values = []
        for name, each in histograms.items():
            edges, counts = finite_ranges(each)
            proto = self._summaries.HistogramProto(
                min=edges[0],
                max=edges[-1],
                num=each.count,
                sum=each.total,
                bucket_limit=edges[1:],
                bucket=counts,
            )
            values.append(self._summaries.Summary.Value(tag=name, histo=proto))
        return values


def _logged_points(folder: Path) -> set[tuple[str, int]]:
    """What TensorBoard shows of the files that are there: points by their mark and step."""
    loaders = import_module_of("tensorboard.backend.event_processing", "event_file_loader")
    start = import_module_of("tensorboard.compat.proto", "event_pb2").SessionLog.START
    found: set[tuple[str, int]] = set()
    for path in sorted(folder.glob(f"{PREFIX}*")):
        for event in loaders.LegacyEventFileLoader(str(path)).Load():
            if event.session_log.status == start:
                found = {each for each in found if each[1] < event.step}
            tags = {each.tag for each in event.summary.value}
            found |= {(mark, event.step) for mark in (STEP_NAME, EVALUATION_STEP_NAME) if mark in tags}
    return found


def finite_ranges(histogram: Histogram) -> tuple[list[float], list[int]]:
    """Edges, rising, and the counts between them, from the first range that holds a value to the last.

    The lowest and the highest range have no outer end: they are drawn as wide as the range beside them.
    """
    bounds = histogram.bounds
    low, high = (bounds[1] - bounds[0], bounds[-1] - bounds[-2]) if len(bounds) > 1 else (1.0, 1.0)
    edges = [bounds[0] - low, *bounds, bounds[-1] + high]
    held = [index for index, count in enumerate(histogram.counts) if count]
    first, last = held[0], held[-1]
    return edges[first : last + 2], list(histogram.counts[first : last + 1])
