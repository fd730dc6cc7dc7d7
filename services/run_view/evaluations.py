"""Evaluations of a run: those that it made, and those of `lessrl evaluate`, as their directories hold them.

A run's own also stand in its reports; one whose directory is gone is told from there.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.evaluation.directory import ASKED_FILE, EVALUATIONS_DIR, IN_RUN, RESULTS_FILE, in_run_name
from services.run_view.confined import ConfinedFolder
from services.run_view.refusals import NotFound
from shaping.errors import DataError, UserError
from shaping.evaluation.catalogue import short_name

MAX_FILE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvaluation:
    """One evaluation.

    Args:
        name: of its directory.
        step: learner steps of the policy; None where it is not one that the run made of its own.
        created_at: seconds since the epoch; None where nothing says it.
        is_complete: every answer is there and measured.
        benchmarks: by name, values by short name ("acc/mean@32"); empty before it is measured.
        details: `report` of the run, `results` with intervals and notes, `asked` without the lists of problems; a
            member that is not known is absent.
        problem: why its files cannot be read; "" where they can.
    """

    name: str
    step: int | None
    created_at: float | None
    is_complete: bool
    benchmarks: Mapping[str, Mapping[str, float | None]]
    details: Mapping[str, Any]
    problem: str


def list_evaluations(folder: ConfinedFolder, reports: Mapping[int, Mapping[str, Any]]) -> tuple[StoredEvaluation, ...]:
    """All of them, newest first.

    Args:
        reports: what the run reported, by policy version.
    """
    reported = {in_run_name(version): report for version, report in reports.items()}
    names = {*folder.names(EVALUATIONS_DIR), *reported}
    found = [_evaluation(folder, name, reported.get(name)) for name in names]
    there = [each for each in found if each is not None]
    return tuple(sorted(there, key=lambda each: (each.created_at or 0.0, each.step or 0, each.name), reverse=True))


def find_evaluation(folder: ConfinedFolder, reports: Mapping[int, Mapping[str, Any]], name: str) -> StoredEvaluation:
    """One of them.

    Raises:
        NotFound: there is none of this name.
    """
    all_of_them = list_evaluations(folder, reports)
    for each in all_of_them:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in all_of_them[:5]) or "none"
    raise NotFound("evaluation", f"an evaluation must be one of those there are, found no {name[:80]!r} but {known}")


def _evaluation(folder: ConfinedFolder, name: str, report: Mapping[str, Any] | None) -> StoredEvaluation | None:
    """None for a directory that is no evaluation's."""
    asked_at, asked, results, problem = None, None, None, ""
    try:
        asked_at, asked = _read(folder, name, ASKED_FILE)
        _, results = _read(folder, name, RESULTS_FILE)
    except UserError as error:
        problem = str(error)
    if asked is None and report is None and not problem:
        return None
    in_run = IN_RUN.fullmatch(name)
    told = {"report": report, "asked": _without_problems(asked), "results": results}
    return StoredEvaluation(
        name=name,
        step=int(in_run[1]) if in_run else None,
        created_at=asked_at if report is None else _time(report.get("time")),
        is_complete=results is not None and results.get("num_missing") == 0,
        benchmarks=_values(results),
        details={name: dict(each) for name, each in told.items() if each is not None},
        problem=problem,
    )


def _read(folder: ConfinedFolder, name: str, file: str) -> tuple[float | None, dict[str, Any] | None]:
    """When a file was written, and what is in it; None and None without it.

    Raises:
        UserError: it is no JSON object, or nothing that may be read.
    """
    try:
        with folder.open(EVALUATIONS_DIR, name, file) as opened:
            data, written_at = opened.read(MAX_FILE_BYTES), os.fstat(opened.fileno()).st_mtime
    except FileNotFoundError:
        return None, None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise DataError(f"{file} must be JSON, found: {error} ({EVALUATIONS_DIR}/{name})") from error
    if not isinstance(value, dict):
        raise DataError(f"{file} must be a JSON object, found another value ({EVALUATIONS_DIR}/{name})")
    return written_at, value


def _without_problems(asked: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is asked, but for a digest of each of thousands of problems."""
    if asked is None:
        return None
    benchmarks = {
        name: {key: each for key, each in benchmark.items() if key not in ("problems", "left_out")}
        for name, benchmark in _objects(asked.get("benchmarks"))
    }
    return {**asked, "benchmarks": benchmarks}


def _values(results: Mapping[str, Any] | None) -> dict[str, dict[str, float | None]]:
    return {
        benchmark: {
            short_name(name, benchmark=benchmark): estimate.get("value")
            for name, estimate in _objects(report.get("metrics"))
        }
        for benchmark, report in _objects((results or {}).get("benchmarks"))
    }


def _objects(value: object) -> list[tuple[str, dict[str, Any]]]:
    """The objects among the members of an object, by name; another value has none."""
    return [(name, each) for name, each in value.items() if isinstance(each, dict)] if isinstance(value, dict) else []


def _time(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return None
