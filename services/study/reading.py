"""What the finished runs of a study left, as arrays: curves over steps and tokens, and one number a run for the rest.

Run directories -> StudyData. Reads metrics.jsonl and ledger.jsonl; judges nothing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.report_lines import read_report
from services.reports import EvaluationReport, StepReport
from services.run_dir import LEDGER_FILE, METRICS_FILE
from services.study.measures import OF_EVALUATIONS, SECONDS, TOKENS, evaluation_measures
from shaping.errors import DataError
from shaping.evaluation.bootstrap import Column

LAST_SHARE = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One finished run.

    Args:
        steps: [E] finished steps at each evaluation.
        tokens: [E] response tokens sampled by then, for training.
        evaluations: by measure, [E]; of measures that every evaluation has.
        curves: step metrics that were asked for, by name: [T], NaN where a step has none.
        measures: one number each, see services/study/measures.py.
        prompts: in order of admission, those of dropped groups included.
    """

    arm: str
    seed: int
    steps: tuple[int, ...]
    tokens: Column
    evaluations: Mapping[str, Column]
    curves: Mapping[str, Column]
    measures: Mapping[str, float]
    prompts: tuple[str, ...]


def read_run(run_dir: Path, *, arm: str, seed: int, measures: Sequence[str]) -> RunRecord:
    """Read a run that completed.

    Raises:
        DataError: it has no evaluation, or none of its last step.
        CheckpointError: a line that this version of lessrl did not write.
    """
    steps, evaluations = _read_reports(run_dir)
    if not steps or not evaluations or evaluations[-1].step != steps[-1].step:
        raise DataError(
            f"a run of a study must have evaluated its last step, found {len(evaluations)} evaluations of "
            f"{len(steps)} steps ({run_dir})"
        )
    sampled = np.cumsum([0, *(each.num_response_tokens for each in steps)]).astype(np.float64)
    found = [evaluation_measures(each.accuracy, each.metrics) for each in evaluations]
    names = [name for name in found[0] if all(name in each for each in found)]
    curves = {
        name: np.array([each.metrics.get(name, math.nan) for each in steps])
        for name in measures
        if name not in (*found[0], *OF_EVALUATIONS, TOKENS, SECONDS)
    }
    single = {name: _mean_of_last(curve) for name, curve in curves.items()}
    single |= {TOKENS: float(sampled[-1]), SECONDS: steps[-1].elapsed_seconds, **found[-1]}
    return RunRecord(
        arm=arm,
        seed=seed,
        steps=tuple(each.step for each in evaluations),
        tokens=np.array([sampled[each.step] for each in evaluations]),
        evaluations={name: np.array([each[name] for each in found]) for name in names},
        curves=curves,
        measures=single,
        prompts=_prompts(run_dir),
    )


def _read_reports(run_dir: Path) -> tuple[list[StepReport], list[EvaluationReport]]:
    path = run_dir / METRICS_FILE
    steps: list[StepReport] = []
    evaluations: list[EvaluationReport] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        report = read_report(line, f"line {number} of {path}")
        if isinstance(report, StepReport):
            steps.append(report)
        elif isinstance(report, EvaluationReport):
            evaluations.append(report)
    # One beside training may be reported late.
    return steps, sorted(evaluations, key=lambda each: each.step)


def _mean_of_last(curve: Column) -> float:
    """Over the last quarter of the steps, rounded up, of those that have it; NaN where none has."""
    last = curve[-max(1, math.ceil(LAST_SHARE * len(curve))) :]
    known = last[np.isfinite(last)]
    return float(known.mean()) if len(known) else math.nan


def _prompts(run_dir: Path) -> tuple[str, ...]:
    groups = map(json.loads, (run_dir / LEDGER_FILE).read_bytes().splitlines())
    return tuple(prompt for _, prompt in sorted((each["ordinal"], each["prompt_id"]) for each in groups))
