"""Runs and points for loggers, and a logger that keeps what it is given."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.loggers.base import LoggedPoint, LoggedRun
from shaping.histograms import Histogram

AT = 1_700_000_000.0


def make_logged_run(run_dir: Path, *, first_step: int = 0, config: dict[str, Any] | None = None) -> LoggedRun:
    return LoggedRun(
        run_id="run_1",
        name="tiny",
        model="models/tiny",
        algorithm="grpo",
        shaping="less",
        run_dir=run_dir,
        first_step=first_step,
        config=config or {"seed": 7, "run": {"steps": 3}},
    )


def step_point(step: int, value: float = 0.5, *, histograms: dict[str, Histogram] | None = None) -> LoggedPoint:
    values = {"training/global_step": float(step), "critic/score/mean": value}
    return LoggedPoint(step=step, at=AT + step, is_evaluation=False, values=values, histograms=histograms or {})


def evaluation_point(step: int, accuracy: float = 0.5) -> LoggedPoint:
    values = {"val/step": float(step), "val-core/held_out/acc/mean@1": accuracy}
    return LoggedPoint(step=step, at=AT + step, is_evaluation=True, values=values)


@dataclass
class KeptLogger:
    """Keeps points and outcome.

    Args:
        gate: it takes a point only once this is set; None: at once.
        fails_at: raises at this step.
        fails_to_close: raises at the end.
    """

    gate: threading.Event | None = None
    fails_at: int | None = None
    fails_to_close: bool = False
    points: list[LoggedPoint] = field(default_factory=list)
    outcome: str = ""
    thread: str = ""

    def log(self, point: LoggedPoint) -> None:
        self.thread = threading.current_thread().name
        if self.gate is not None:
            assert self.gate.wait(30)
        if point.step == self.fails_at:
            raise OSError("No space left on device\nand more")
        self.points.append(point)

    def close(self, outcome: str) -> None:
        if self.fails_to_close:
            raise ConnectionError("nobody answers")
        self.outcome = outcome

    @property
    def steps(self) -> list[int]:
        return [each.step for each in self.points]
