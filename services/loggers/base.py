"""What a logger is: takes the numbers of steps and evaluations under the field's names to a tool that draws them.

A kind's file is light to import: `LIBRARY` names the package that it needs, which `build` alone imports. It is built,
used and closed on a thread of its own (services/run_loggers.py), may take its time, and may fail: the run goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from shaping.histograms import Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedRun:
    """What a logger is told of its run.

    Args:
        run_id: the same for every process that goes on with the run.
        run_dir: what a logger keeps on this machine belongs below it.
        first_step: finished steps of the checkpoint that this process goes on from; what an earlier process logged
            of later ones is logged again.
        config: the recipe as JSON data, secrets masked.
    """

    run_id: str
    name: str
    model: str
    algorithm: str
    shaping: str
    run_dir: Path
    first_step: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPoint:
    """One step, or one evaluation.

    Args:
        step: finished learner steps; of an evaluation those of the policy that was evaluated, which may lie back.
        at: seconds since the epoch.
        values: finite numbers by the field's name.
    """

    step: int
    at: float
    is_evaluation: bool
    values: Mapping[str, float]
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


class RunLogger(Protocol):
    """One tool, opened for one process of a run. Whatever a method raises ends the logger, not the run.

    It is first given what earlier processes of the run have reported up to `first_step`, and passes over what the tool
    has: neither a resumed run nor a logger that is added to it has a point twice, or misses one.
    """

    def log(self, point: LoggedPoint) -> None:
        """Take in a point."""
        ...

    def close(self, outcome: str) -> None:
        """The process ends, or the run.

        Args:
            outcome: completed, failed or cancelled; paused or interrupted where it may go on.
        """
        ...
