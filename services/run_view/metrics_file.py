"""The numbers of metrics.jsonl by step, read as the file grows.

Names: those of a step's metrics (the catalogue's); `groups_<outcome>_count`; `phase_<phase>_s`, `step_s`, `elapsed_s`
and `response_tokens` of a step; `evaluation_accuracy`, `evaluation_decided_share`, `evaluation_response_tokens`,
`evaluation_s`, and the metrics of an evaluation under their full names.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.control.machine import Happening
from services.metrics.entries import catalogue
from services.run_dir import METRICS_FILE
from services.run_view.columns import Columns, Floats, join
from services.run_view.confined import ConfinedFolder
from services.run_view.growing import GrowingFile
from services.run_view.thinning import least_points, thin
from shaping.errors import UserError

ACCURACY = "evaluation_accuracy"
MAX_POINTS = 20_000
_OF_STEP = {"step_s": "step_seconds", "elapsed_s": "elapsed_seconds", "response_tokens": "num_response_tokens"}
_OF_EVALUATION = {
    ACCURACY: "accuracy",
    "evaluation_response_tokens": "mean_response_tokens",
    "evaluation_s": "seconds",
}
_DECIDED = "evaluation_decided_share"
_OUTCOME = re.compile(r"groups_(trained|skipped|dropped_[a-z_]+)_count")
_OPEN = re.compile(r"phase_[a-z_]+_s|groups_[a-z_]+_count|val-(core|aux)/.+")


class MetricsFile:
    """Not for two threads at once."""

    def __init__(self, folder: ConfinedFolder) -> None:
        self._file = GrowingFile(lambda: folder.open(METRICS_FILE), forget=self._forget, take=self._take)
        self._known = catalogue()
        self._steps, self._evaluations = Columns(), Columns()
        self._reports: dict[int, dict[str, Any]] = {}
        self.num_processes = 0
        """Rises with each process of the run, which cuts its files back first, and where this one is read anew."""
        self.num_unreadable = 0

    def catch_up(self) -> None:
        self._file.catch_up()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all numbers that there are, sorted."""
        return tuple(sorted({*self._steps.names, *self._evaluations.names}))

    @property
    def evaluations(self) -> dict[int, dict[str, Any]]:
        """What the run reported of each evaluation but its metrics, by policy version."""
        return dict(sorted(self._reports.items()))

    def outcomes(self, step: int) -> dict[str, int]:
        """Groups of one step by how they ended; nothing for a step that has not been reported."""
        rows = np.flatnonzero(self._steps.steps() == step)
        names = {found[1]: found[0] for each in self._steps.names if (found := _OUTCOME.fullmatch(each))}
        values = {outcome: self._steps.values(each)[rows[-1]] for outcome, each in names.items()} if len(rows) else {}
        return {outcome: int(each) for outcome, each in values.items() if np.isfinite(each)}

    def series(
        self, names: Sequence[str], *, min_step: int | None, max_step: int | None, max_points: int
    ) -> dict[str, Any]:
        """Curves over the steps that at least one of them has.

        Raises:
            UserError: a name that no run has, no name or one twice, or too few points for the names.
        """
        self._check(names, max_points)
        steps, curves = join((self._steps, self._evaluations), names)
        low, high = -np.inf if min_step is None else min_step, np.inf if max_step is None else max_step
        rows = np.flatnonzero((steps >= low) & (steps <= high))
        rows = rows[thin([curves[name][rows] for name in names], max_points)]
        return {
            "step": steps[rows].tolist(),
            "series": {name: _with_null(curves[name][rows]) for name in names},
        }

    def _check(self, names: Sequence[str], max_points: int) -> None:
        if not names or len(set(names)) < len(names):
            raise UserError(
                f"names must be given, each once, got {', '.join(names) or 'none'}; /series/names lists them"
            )
        for name in names:
            if not self._is_known(name):
                close = difflib.get_close_matches(name, self.names, n=1)
                hint = f"did you mean {close[0]!r}?" if close else "/series/names lists them"
                raise UserError(f"a name must be one of a metric of runs, got {name[:80]!r}; {hint}")
        least = least_points(len(names))
        if not least <= max_points <= MAX_POINTS:
            raise UserError(
                f"max_points must lie in {least} to {MAX_POINTS} for {len(names)} names, got {max_points}: each window "
                "keeps the smallest and the largest value of each"
            )

    def _is_known(self, name: str) -> bool:
        fixed = name in _OF_STEP or name in _OF_EVALUATION or name == _DECIDED
        is_there = name in self._steps.names or name in self._evaluations.names
        return fixed or is_there or self._known.find(name) is not None or _OPEN.fullmatch(name) is not None

    def _forget(self) -> None:
        self._steps.clear()
        self._evaluations.clear()
        self._reports.clear()
        self.num_unreadable = 0

    def _take(self, start: int, lines: bytes) -> None:
        del start
        for line in lines.splitlines():
            try:
                record = json.loads(line)
                self._add(record)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                self.num_unreadable += 1

    def _add(self, record: dict[str, Any]) -> None:
        kind = record["kind"]
        if kind == "step":
            phases = {f"phase_{name}_s": each for name, each in record["phase_seconds"].items()}
            outcomes = {f"groups_{name}_count": each for name, each in record["groups"].items()}
            own = {name: record[key] for name, key in _OF_STEP.items()}
            self._steps.add(record["step"], _numbers({**record["metrics"], **phases, **outcomes, **own}))
        elif kind == "evaluation":
            own = {name: record[key] for name, key in _OF_EVALUATION.items()}
            own[_DECIDED] = record["num_decided"] / record["num_answers"] if record["num_answers"] else None
            self._evaluations.add(record["step"], _numbers({**record["metrics"], **own}))
            self._reports[record["policy_version"]] = {name: each for name, each in record.items() if name != "metrics"}
        elif kind == "event" and record["event"] == Happening.STARTING:
            self.num_processes += 1


def _numbers(values: Mapping[str, Any]) -> dict[str, float | None]:
    """Each one a number or null, or nothing of the line is taken."""
    return {str(name): None if each is None else float(each) for name, each in values.items()}


def _with_null(values: Floats) -> list[float | None]:
    return [each if np.isfinite(each) else None for each in values.tolist()]
