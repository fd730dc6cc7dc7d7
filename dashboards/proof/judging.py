"""Says what is wrong with a dashboard that was filled with a run. Asks nobody and draws nothing."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from dashboards.proof.asking import AnnotationAnswer, DashboardAnswer, PanelAnswer, TargetAnswer, VariableAnswer

Range = tuple[int, int]
_MAY_BE_NAN = re.compile(r"histogram_quantile|/")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: on which dashboard, in which panel, variable or annotation."""

    dashboard: str
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.place}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A panel that may be empty in this run, and why.

    Args:
        query: its letter, where only that query of the panel may be empty; "" allows all.
    """

    dashboard: str
    panel: str
    reason: str
    query: str = ""


def faults(
    answer: DashboardAnswer, *, allowed: Collection[Allowance], run_id: str, marks: Mapping[str, Range]
) -> Iterator[Fault]:
    """Empty or non-finite panels, variables without values, and marks that are too few or too many.

    Args:
        run_id: of the run that is shown.
        marks: how often each annotation must be there, at least and at most.
    """
    for panel in answer.panels:
        yield from _panel_faults(answer.uid, panel, allowed)
    for variable in answer.variables:
        yield from _variable_faults(answer.uid, variable, run_id)
    for annotation in answer.annotations:
        yield from _annotation_faults(answer.uid, annotation, marks)


def is_allowed(uid: str, panel: PanelAnswer, target: TargetAnswer, allowed: Collection[Allowance]) -> bool:
    """Whether this query may be empty."""
    return any(
        (each.dashboard, each.panel) == (uid, panel.panel.title) and each.query in ("", target.target.ref)
        for each in allowed
    )


def unknown_allowances(answers: Collection[DashboardAnswer], allowed: Collection[Allowance]) -> Iterator[Fault]:
    """Allowances of panels that do not exist."""
    known = {(answer.uid, panel.panel.title) for answer in answers for panel in answer.panels}
    for each in allowed:
        if (each.dashboard, each.panel) not in known:
            yield Fault(each.dashboard, each.panel, "may be empty, and does not exist")


def _panel_faults(uid: str, panel: PanelAnswer, allowed: Collection[Allowance]) -> Iterator[Fault]:
    for target in panel.targets:
        where = f"{panel.panel.title} [{target.target.ref}]"
        if target.refusal:
            yield Fault(uid, where, target.refusal)
        elif target.num_infinite:
            yield Fault(uid, where, f"{target.num_infinite} infinite values")
        elif target.num_nan and not _MAY_BE_NAN.search(target.target.expression):
            yield Fault(uid, where, f"{target.num_nan} values that are no number")
        elif not target.num_finite and not is_allowed(uid, panel, target, allowed):
            yield Fault(uid, where, f"empty: {target.expression}")


def _variable_faults(uid: str, answer: VariableAnswer, run_id: str) -> Iterator[Fault]:
    where = f"variable {answer.variable.name}"
    if answer.refusal:
        yield Fault(uid, where, answer.refusal)
    elif answer.variable.kind == "query" and not answer.values:
        yield Fault(uid, where, f"no value: {answer.variable.query}")
    elif answer.variable.name == "run_id" and run_id not in answer.values:
        yield Fault(uid, where, f"must offer {run_id}, found {', '.join(answer.values)}")


def _annotation_faults(uid: str, answer: AnnotationAnswer, marks: Mapping[str, Range]) -> Iterator[Fault]:
    where, found = f"annotation {answer.annotation.name}", len(answer.marks)
    if answer.refusal:
        yield Fault(uid, where, answer.refusal)
    elif answer.annotation.name not in marks:
        yield Fault(uid, where, f"nobody counted what it marks; found {found}")
    elif not marks[answer.annotation.name][0] <= found <= marks[answer.annotation.name][1]:
        least, most = marks[answer.annotation.name]
        yield Fault(uid, where, f"must be there {least} to {most} times, found {found}")
