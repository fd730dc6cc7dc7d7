"""The proof's table, and what `/metrics` costs, as text."""

import statistics
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from dashboards.proof.asking import DashboardAnswer
from dashboards.proof.judging import Allowance, Fault, is_allowed

MAX_SERIES_PER_RUN = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a scrape of a control plane costs.

    Args:
        size: of the answer, in bytes.
        series: samples of the run's own families, in each run.
        seconds: of each request.
    """

    size: int
    series: int
    seconds: tuple[float, ...]

    def __str__(self) -> str:
        middle, last = statistics.median(self.seconds), max(self.seconds)
        return (
            f"/metrics: {self.size / 1000:.0f} kB, {self.series} series of the run, "
            f"{1000 * middle:.1f} ms (median of {len(self.seconds)}), {1000 * last:.1f} ms at most"
        )


def cost_of(text: str, seconds: Collection[float]) -> Cost:
    """Of the text of a scrape, and of how long each took."""
    lines = [line for line in text.splitlines() if line.startswith("less_") and "run_id=" in line]
    return Cost(size=len(text.encode()), series=len(lines), seconds=tuple(seconds))


def table(answers: Collection[DashboardAnswer], allowed: Collection[Allowance]) -> Iterator[str]:
    """A line per dashboard."""
    yield f"{'dashboard':<24}{'panels':>8}{'queries':>9}{'series':>8}{'points':>9}{'gaps':>7}{'may be empty':>14}"
    for answer in answers:
        targets = [(panel, target) for panel in answer.panels for target in panel.targets]
        empty = sum(not each.num_finite and is_allowed(answer.uid, panel, each, allowed) for panel, each in targets)
        numbers = (
            f"{sum(bool(panel.targets) for panel in answer.panels):>8}{len(targets):>9}",
            f"{sum(len(each.series) for _, each in targets):>8}{sum(each.num_finite for _, each in targets):>9}",
            f"{sum(each.num_nan for _, each in targets):>7}{empty:>14}",
        )
        yield f"{answer.uid:<24}{''.join(numbers)}"


def marks(answers: Collection[DashboardAnswer]) -> Iterator[str]:
    """How often each annotation was there, on the first dashboard that has it."""
    found: dict[str, int] = {}
    for answer in answers:
        for each in answer.annotations:
            found.setdefault(each.annotation.name, len(each.marks))
    yield "marks: " + ", ".join(f"{name} {number}" for name, number in found.items())


def allowances(answers: Collection[DashboardAnswer], allowed: Collection[Allowance]) -> Iterator[str]:
    """Panels that were empty and may be, with the reason."""
    for answer in answers:
        for panel in answer.panels:
            title = panel.panel.title
            if any(not each.num_finite and is_allowed(answer.uid, panel, each, allowed) for each in panel.targets):
                yield f"may be empty: {answer.uid}: {title}: {_reason(answer.uid, title, allowed)}"


def complaints(found: Collection[Fault]) -> Iterator[str]:
    """Each fault, and their number."""
    yield from (f"FAULT {each}" for each in found)
    yield f"{len(found)} faults" if found else "every panel, variable and annotation shows the run"


def alerts(counts: Mapping[str, int]) -> str:
    """Alerts that fired in the run."""
    return "alerts that fired: " + (", ".join(sorted(counts)) or "none")


def _reason(uid: str, title: str, allowed: Collection[Allowance]) -> str:
    return next(each.reason for each in allowed if (each.dashboard, each.panel) == (uid, title))
