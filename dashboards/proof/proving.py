"""A run, a Prometheus that watches it, and every dashboard asked and judged."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dashboards.build import FOLDER, dashboards, differences
from dashboards.lint import faults as lint
from dashboards.proof.allowed import ALLOWED
from dashboards.proof.asking import DashboardAnswer, ask
from dashboards.proof.filling import Window
from dashboards.proof.judging import Fault, faults, unknown_allowances
from dashboards.proof.prometheus import Prometheus, require_program, tell_ray_targets
from dashboards.proof.prometheus import started as started_prometheus
from dashboards.proof.run import ROOT, Run
from dashboards.proof.run import started as started_run
from dashboards.proof.story import Happened, play
from dashboards.proof.telling import MAX_SERIES_PER_RUN, Cost, cost_of

RECIPE = ROOT / "deploy" / "recipes" / "quickstart.yaml"
RULES = ROOT / "deploy" / "prometheus" / "rules.yml"
# Short, and with what the recipe leaves out and a panel shows: a reference, a correction, two answers to a problem.
SETTINGS = (
    "run.checkpoint.every_steps=8",
    "evaluation.num_problems=64",
    "evaluation.num_samples=2",
    "learner.kl.coefficient=0.001",
    "learner.old_logprobs=recompute",
    "learner.correction.mode=clamp",
)
SCRAPE_SECONDS = 1
POINT_SECONDS = 2
CONTROL_SECONDS = 120.0
NUM_TIMED_SCRAPES = 20
FIRING = 'ALERTS{alertstate="firing"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What came of a run.

    Args:
        alerts: points at which each alert fired.
    """

    answers: tuple[DashboardAnswer, ...]
    faults: tuple[Fault, ...]
    cost: Cost
    alerts: dict[str, int]


def prove(folder: Path, *, steps: int, pause_seconds: float, tell: Callable[[str], None]) -> Proof:
    """Play a run in a new folder, and ask its Prometheus what every dashboard asks.

    Args:
        tell: gets a line on each thing that is done.
    Raises:
        OSError: Prometheus is not installed.
        RuntimeError: the run did not go as the story says.
    """
    require_program()
    # The run works from the checkout, and Prometheus reads paths from where its configuration lies.
    folder = folder.resolve()
    watch = folder / "prometheus"
    watch.mkdir(parents=True)
    with started_run(folder, RECIPE, [*SETTINGS, f"run.steps={steps}"]) as run:
        run.wait_for("its control plane", lambda: bool(run.get("/status")), CONTROL_SECONDS)
        run.wait_for("Ray's metrics", lambda: bool(run.ray_targets()), CONTROL_SECONDS)
        tell_ray_targets(watch, run.ray_targets())
        with started_prometheus(watch, targets={"lessrl": run.address}, scrape=SCRAPE_SECONDS, rules=[RULES]) as asked:
            tell(f"run {run.run_id} at {run.address}, Ray at {', '.join(run.ray_targets())}, Prometheus at {asked.url}")
            return _proof(run, asked, pause_seconds, tell)


def _proof(run: Run, asked: Prometheus, pause_seconds: float, tell: Callable[[str], None]) -> Proof:
    start, run_id, costs = time.time(), run.run_id, []
    happened = play(run, pause_seconds=pause_seconds, tell=tell, at_full=lambda: costs.append(_cost(run)))
    window = Window(start=start, end=run.last_answer, step=POINT_SECONDS, scrape=SCRAPE_SECONDS)
    answers = tuple(ask(each, asked, window) for each in dashboards().values())
    fired = asked.range(FIRING, start=start, end=window.end, step=POINT_SECONDS)
    return Proof(
        answers=answers,
        faults=(*_faults(answers, run_id, happened), *_cost_faults(costs[0])),
        cost=costs[0],
        alerts={each.labels["alertname"]: len(each.times) for each in fired},
    )


def _faults(answers: tuple[DashboardAnswer, ...], run_id: str, happened: Happened) -> list[Fault]:
    marks = happened.by_annotation()
    found = [each for answer in answers for each in faults(answer, allowed=ALLOWED, run_id=run_id, marks=marks)]
    found += unknown_allowances(answers, ALLOWED)
    found += [Fault(name, "JSON", "is not what the code makes") for name in differences(FOLDER)]
    return found + [Fault(each.where, each.rule, each.found) for made in dashboards().values() for each in lint(made)]


def _cost_faults(cost: Cost) -> list[Fault]:
    if cost.series < MAX_SERIES_PER_RUN:
        return []
    return [Fault("/metrics", "series", f"must be below {MAX_SERIES_PER_RUN} a run, found {cost.series}")]


def _cost(run: Run) -> Cost:
    scrapes = [run.metrics() for _ in range(NUM_TIMED_SCRAPES)]
    return cost_of(scrapes[-1][0], [seconds for _, seconds in scrapes])
