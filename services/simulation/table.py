"""Simulated runs as a person reads them, and as JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from services.simulation.simulate import SimulatedRun

_COLUMNS: Mapping[str, Callable[[SimulatedRun], str]] = {
    "\nworkers": lambda run: f"{run.num_workers}",
    "step\ns": lambda run: f"{run.step_s:.1f}",
    "of\nbound": lambda run: f"{run.efficiency:.1%}",
    "learner\nidle": lambda run: f"{run.learner_idle_share:.1%}",
    "rollout\nidle": lambda run: f"{run.rollout_idle_share:.1%}",
    "staleness\nmean, max": lambda run: f"{run.staleness_mean:.2f}, {run.staleness_max}",
    "\ngroups/s": lambda run: f"{run.groups_per_s:.2f}",
    "\ntokens/s": lambda run: f"{run.tokens_per_s:,.0f}",
    "us per\ngroup": lambda run: f"{run.cpu_us_per_group:.0f}",
}


def as_table(runs: Sequence[SimulatedRun]) -> Table:
    """One row per run, 80 characters wide."""
    table = Table(box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*(show(run) for show in _COLUMNS.values()))
    return table


def verdict(run: SimulatedRun) -> str:
    """Who sets the pace, and what to enlarge; or why the run ended."""
    if run.failure:
        return f"{run.num_workers} workers: failed after {run.num_steps} steps: {run.failure}"
    if run.bottleneck == "waiting":
        return f"{run.num_workers} workers: sides wait for each other; {run.advice}"
    return f"{run.num_workers} workers: {run.bottleneck} sets the pace; {run.advice}"


def as_dict(run: SimulatedRun) -> dict[str, Any]:
    """Everything that was found, derived figures included."""
    derived = ("bound_s", "efficiency", "staleness_mean", "staleness_max", "bottleneck", "advice")
    return asdict(run) | {name: getattr(run, name) for name in derived}
