"""What a run has reported so far, kept for its summary and its figure."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from services.control.machine import Happening
from services.reports import EvaluationReport, Failure, RunDescription, RunEvent, RunReport, RunState, StepReport


@dataclass(slots=True, kw_only=True)
class RunHistory:
    """Reports by sort, in order; `add` every report of a run."""

    description: RunDescription
    steps: list[StepReport] = field(default_factory=list)
    evaluations: list[EvaluationReport] = field(default_factory=list)
    events: list[RunEvent] = field(default_factory=list)

    def add(self, report: RunReport) -> None:
        if isinstance(report, StepReport):
            self.steps.append(report)
        elif isinstance(report, EvaluationReport):
            self.evaluations.append(report)
        else:
            self.events.append(report)

    @property
    def reports(self) -> tuple[RunReport, ...]:
        """All of them, by sort."""
        return (*self.events, *self.evaluations, *self.steps)

    @property
    def state(self) -> RunState:
        """As the last event said."""
        return self.events[-1].state if self.events else RunState.PENDING

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one metric, where it exists and is finite."""
        found = [
            (each.step, each.metrics[name]) for each in self.steps if math.isfinite(each.metrics.get(name, math.nan))
        ]
        return [step for step, _ in found], [value for _, value in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """How a run went: the content of summary.json. What was not measured is null.

    Args:
        status: completed, failed or cancelled.
        accuracy_first, accuracy_last: held-out accuracy of the first and the last evaluation.
        seconds_to_first_step: from the command's start to the first finished learner step.
        seconds_training: from the first group asked for to the last finished step, pauses excluded.
        tokens_generated: response tokens sampled for training.
        groups: groups by outcome over the whole run.
        policy_version: of the last step, served by every engine.
    """

    name: str
    run_id: str
    status: str
    steps: int
    total_steps: int
    seed: int
    accuracy_first: float | None
    accuracy_last: float | None
    accuracy_best: float | None
    seconds_to_first_step: float | None
    seconds_training: float | None
    tokens_generated: int | None
    groups: dict[str, int]
    policy_version: int
    failure: Failure | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data; `failure` is there only when there is one."""
        plain = asdict(self)
        if self.failure is None:
            del plain["failure"]
        return plain


def summarise(history: RunHistory, *, state: RunState, seconds_to_first_step: float | None) -> RunSummary:
    """The summary of a run that ended.

    Args:
        state: how it ended.
        seconds_to_first_step: measured by whoever started the run; None when no step finished.
    """
    steps, accuracies = history.steps, [each.accuracy for each in history.evaluations]
    groups: dict[str, int] = {}
    for step in steps:
        for outcome, count in step.groups.items():
            groups[outcome] = groups.get(outcome, 0) + count
    failures = _failures_of_last_process(history.events)
    last = steps[-1] if steps else None
    return RunSummary(
        name=history.description.name,
        run_id=history.description.run_id,
        status=state.value,
        steps=last.step if last else 0,
        # The target may have moved on the way.
        total_steps=last.total_steps if last else history.description.total_steps,
        seed=history.description.seed,
        accuracy_first=accuracies[0] if accuracies else None,
        accuracy_last=accuracies[-1] if accuracies else None,
        accuracy_best=max(accuracies, default=None),
        seconds_to_first_step=seconds_to_first_step if steps else None,
        seconds_training=last.elapsed_seconds if last else None,
        tokens_generated=sum(each.num_response_tokens for each in steps) if steps else None,
        groups=groups,
        policy_version=last.policy_version if last else 0,
        failure=failures[0] if failures and state is RunState.FAILED else None,
    )


def _failures_of_last_process(events: Sequence[RunEvent]) -> list[Failure]:
    """In order; what an earlier process died of, the run survived."""
    failures: list[Failure] = []
    for event in events:
        if event.kind == Happening.STARTING:
            failures.clear()
        elif event.failure is not None:
            failures.append(event.failure)
    return failures


def seconds_left(step: StepReport) -> float:
    """Until the last step, at the mean pace so far."""
    return step.elapsed_seconds / step.step * (step.total_steps - step.step)
