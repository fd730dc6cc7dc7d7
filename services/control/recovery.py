"""What a control plane that begins anew finds out about a run from the run's own files, where they are here."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.control.draft import Seen
from services.control.machine import Happening
from services.report_lines import read_report
from services.reports import EvaluationReport, RunDescription, RunEvent, RunReport, StepReport, WorkerReport
from services.run_dir import METRICS_FILE, read_history
from shaping.errors import CheckpointError

TAIL_BYTES = 256 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """Steps and evaluations to count, and what was seen last."""

    reports: tuple[RunReport, ...] = ()
    seen: Seen = field(default_factory=Seen)


def recover(description: RunDescription) -> Recovered:
    """All that a run under way has reported; nothing where its files are not to be read here. Blocks."""
    try:
        history = read_history(Path(description.run_dir), description)
    except (OSError, CheckpointError) as error:
        logger.warning("run_id=%s its metrics cannot be read: %s", description.run_id, error)
        return Recovered()
    seen = Seen(
        last_step=history.steps[-1] if history.steps else None,
        last_evaluation=history.evaluations[-1] if history.evaluations else None,
        workers=_workers(history.events),
    )
    # Events that its process has not handed over yet will be counted when it does.
    return Recovered(reports=(*history.evaluations, *history.steps), seen=seen)


def recover_last(description: RunDescription) -> Seen:
    """The last step and evaluation of a run that has ended, as far as they are near the end of its file. Blocks."""
    path = Path(description.run_dir) / METRICS_FILE
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
        # The first one may be cut, unless it is the file's own first.
        whole = lines[:-1] if size <= TAIL_BYTES else lines[1:-1]
        reports = [read_report(line, str(path)) for line in whole]
    except FileNotFoundError:
        return Seen()
    except (OSError, CheckpointError) as error:
        logger.warning("run_id=%s its metrics cannot be read: %s", description.run_id, error)
        return Seen()
    steps = [each for each in reports if isinstance(each, StepReport)]
    evaluations = [each for each in reports if isinstance(each, EvaluationReport)]
    return Seen(last_step=steps[-1] if steps else None, last_evaluation=evaluations[-1] if evaluations else None)


def _workers(events: Sequence[RunEvent]) -> dict[str, WorkerReport]:
    """Of the newest process."""
    workers: dict[str, WorkerReport] = {}
    for event in events:
        if event.kind == Happening.STARTING:
            workers.clear()
        workers.update({worker.worker_id: worker for worker in event.workers})
    return workers
