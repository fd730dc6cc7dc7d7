"""`lessrl study`: plan every arm, run what is not finished yet, and write down what it all amounts to."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.client.errors import EXIT_FAILED
from services.durable_files import replace_file
from services.metrics.entries import catalogue
from services.plain_data import plain_data
from services.run_lock import hold_run_dir
from services.study.directory import (
    CURVES_FILE,
    DIFFERENCES_FILE,
    RESULTS_FILE,
    TABLE_FILE,
    Standing,
    StudyDirectory,
)
from services.study.document import load_study
from services.study.measures import ACCURACY, OF_EVALUATIONS, SECONDS, TOKENS
from services.study.planning import PlannedRun, StudyPlan, plan_study
from services.study.processes import Ending, Launcher, Outcome, ProcessLauncher, run_all, stoppable
from services.study.reading import read_run
from services.study.results import StudyResults, make_results
from services.study.table import results_table
from shaping.components import import_module_of
from shaping.errors import UserError

EXIT_INTERRUPTED = 130
MAX_CAUSE_CHARACTERS = 300

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRequest:
    """What the command line asks.

    Args:
        out: the study's directory; None: studies/NAME.
        jobs: runs side by side, in place of the study's own number.
        is_dry: plan, and start nothing.
    """

    file: Path
    out: Path | None = None
    jobs: int | None = None
    is_dry: bool = False
    as_json: bool = False


def study(request: StudyRequest, *, say: Tell, remark: Tell) -> int:
    """Run the command.

    Args:
        say: prints what was asked for.
        remark: prints how it goes.
    Returns:
        0 all runs are finished, 1 some failed, 130 interrupted.
    Raises:
        UserError: the study, or an arm, cannot work, or the directory holds something else; nothing was started.
    """
    asked = load_study(request.file)
    _check_metrics(asked.measures)
    plan = plan_study(asked, base_dir=request.file.parent.resolve())
    jobs = request.jobs or asked.run.jobs
    directory = StudyDirectory((request.out or Path("studies") / asked.name).resolve())
    if request.is_dry:
        directory.check(plan)
        as_json = json.dumps(plain_data(plan.as_dict() | {"jobs": jobs}), indent=2)
        say(as_json if request.as_json else plan_text(plan, directory, jobs=jobs))
        return 0
    _make(directory.root)
    with hold_run_dir(directory.root):
        directory.claim(plan)
        launcher = ProcessLauncher(directory, asked.run.address)
        outcomes = run_study(plan, directory, launcher, jobs=jobs, remark=remark)
        if outcomes is None:
            return EXIT_INTERRUPTED
        failures = [each for each in outcomes if each.ending is Ending.FAILED]
        results = write_results(plan, directory, failures)
    if request.as_json:
        say(json.dumps(results.as_dict(), indent=2))
    else:
        say(results_table(results))
        say(f"wrote {RESULTS_FILE}, {TABLE_FILE}, {CURVES_FILE} and {DIFFERENCES_FILE} in {directory.root}")
    return EXIT_FAILED if failures else 0


def run_study(
    plan: StudyPlan, directory: StudyDirectory, launcher: Launcher, *, jobs: int, remark: Tell
) -> list[Outcome] | None:
    """Run what is not finished yet.

    Returns:
        What became of it; None where the user ended the study first.
    """
    waiting = [run for run in plan.runs if directory.standing(run) is not Standing.FINISHED]
    count = len(plan.runs) - len(waiting)
    if not waiting:
        return []
    remark(f"{count} of {len(plan.runs)} runs are finished, {min(jobs, len(waiting))} at a time")

    def tell(outcome: Outcome) -> None:
        nonlocal count
        count += outcome.ending is Ending.FINISHED
        remark(f"{count:4} of {len(plan.runs)}  {outcome.run.name}  {_told(directory, outcome)}")

    work = partial(run_all, waiting, launcher, jobs=jobs, settle=partial(_settle, directory), tell=tell)
    outcomes = asyncio.run(stoppable(lambda stop: work(stop=stop)))
    if len(outcomes) < len(waiting) or any(each.ending is Ending.INTERRUPTED for each in outcomes):
        remark(f"interrupted: {count} of {len(plan.runs)} runs are finished; the same command goes on")
        return None
    return outcomes


def write_results(plan: StudyPlan, directory: StudyDirectory, failures: Sequence[Outcome] = ()) -> StudyResults:
    """Read every finished run, and write table, pictures and results.json.

    Raises:
        UserError: no run is finished.
    """
    finished = [run for run in plan.runs if directory.standing(run) is Standing.FINISHED]
    records = [
        read_run(directory.run_dir(run), arm=run.arm, seed=run.seed, measures=plan.study.measures) for run in finished
    ]
    results = make_results(plan, records, failures)
    replace_file(directory.root / RESULTS_FILE, json.dumps(results.as_dict(), indent=2).encode() + b"\n")
    replace_file(directory.root / TABLE_FILE, results_table(results).encode())
    # Matplotlib takes a second, which only this waits for.
    figure = import_module_of("services.study", "figure")
    figure.write_curves(directory.root / CURVES_FILE, results)
    figure.write_differences(directory.root / DIFFERENCES_FILE, results)
    return results


def plan_text(plan: StudyPlan, directory: StudyDirectory, *, jobs: int) -> str:
    """What a study would do, in words."""
    study = plan.study
    finished = sum(directory.standing(run) is Standing.FINISHED for run in plan.runs)
    lines = [
        f"{study.name}: {len(study.arms)} arms x {len(study.seeds)} seeds = {len(plan.runs)} runs of "
        f"{plan.plans[study.baseline].steps} steps, {finished} of them finished, {jobs} at a time, "
        f"address {study.run.address}",
        f"  judged      {study.measures[0]}, {plan.num_comparisons} comparisons with {study.baseline}",
        f"  directory   {directory.root}",
    ]
    for name, arm in study.arms.items():
        changes = [*(f"with {each}" for each in arm.layers), *(f"{key}={each}" for key, each in arm.overrides.items())]
        lines.append(f"  arm {name:15} {', '.join(changes) or 'as it is'}")
    return "\n".join([*lines, *(f"  note: {each}" for each in (*plan.notes, *plan.warnings))])


def _check_metrics(measures: Sequence[str]) -> None:
    """Refuse names that no step reports."""
    own = {ACCURACY, TOKENS, SECONDS, *OF_EVALUATIONS}
    if unknown := catalogue().unknown(name for name in measures if name not in own):
        raise UserError(f"a measure must be a metric of docs/metrics.md, got {unknown[0]!r} (measures in the study)")


def _make(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out must be a writable directory, found {error.strerror} ({root}); choose another"
        ) from None


def _told(directory: StudyDirectory, outcome: Outcome) -> str:
    if outcome.ending is not Ending.FINISHED:
        return ": ".join(filter(None, (outcome.ending.value, outcome.cause)))
    found = directory.summary(outcome.run)
    return (
        f"accuracy {found.get('accuracy_first', 0):.3f} to {found.get('accuracy_last', 0):.3f} "
        f"in {found.get('seconds_training', 0):.0f} s"
    )


def _settle(directory: StudyDirectory, run: PlannedRun, code: int) -> Outcome:
    """By what the run left: one that was interrupted after its last step has finished all the same."""
    if directory.standing(run) is Standing.FINISHED:
        return Outcome(run=run, ending=Ending.FINISHED)
    return Outcome(run=run, ending=Ending.FAILED, cause=_cause(directory, run) or f"exit code {code}")


def _cause(directory: StudyDirectory, run: PlannedRun) -> str:
    """Why a run failed: its own word, or the last that its process said; "" where neither said anything."""
    failure = directory.summary(run).get("failure")
    if failure:
        return f"{failure['role']}: {failure['cause']}"
    try:
        said = directory.log_path(run).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    lines = [each.strip() for each in said if each.strip()]
    return lines[-1][:MAX_CAUSE_CHARACTERS] if lines else ""
