"""A control plane of one run in memory: a test sets what the user wants, and waits for what the run says."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.reports import (
    ControlReport,
    EvaluationReport,
    Intent,
    IntentKind,
    OperationReport,
    PauseMode,
    PauseOrder,
    RunEvent,
    StepReport,
)


def make_order(
    operation_id: str = "op", *, mode: PauseMode = PauseMode.DRAIN, checkpoint: bool = False, **more: Any
) -> PauseOrder:
    return PauseOrder(operation_id=operation_id, mode=mode, checkpoint=checkpoint, **more)


@dataclass(slots=True)
class FakeControl:
    """ControlPort: keeps reports, hands out the intent that the test sets, and lets it wait for a report."""

    intent: Intent = field(default_factory=lambda: Intent(generation=1, kind=IntentKind.RUN))
    reports: list[ControlReport] = field(default_factory=list)
    on_report: Callable[[ControlReport], None] = lambda _: None
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def report(self, report: ControlReport) -> None:
        self.reports.append(report)
        self.on_report(report)
        async with self._changed:
            self._changed.notify_all()

    async def intent_after(self, generation: int) -> Intent:
        async with self._changed:
            await self._changed.wait_for(lambda: self.intent.generation > generation)
            return self.intent

    async def want(self, kind: IntentKind, reason: str = "", *, order: PauseOrder | None = None, **more: Any) -> None:
        """Another intent; a pause says how, and drains without a checkpoint unless the test says otherwise."""
        generation = self.intent.generation + 1
        if kind is IntentKind.PAUSE and order is None:
            order = make_order(f"op-{generation}")
        async with self._changed:
            self.intent = Intent(generation=generation, kind=kind, reason=reason, order=order, **more)
            self._changed.notify_all()

    async def pause(self, mode: PauseMode = PauseMode.DRAIN, **changes: Any) -> PauseOrder:
        """Ask for a pause; its order."""
        order = make_order(f"op-{self.intent.generation + 1}", mode=mode, **changes)
        await self.want(IntentKind.PAUSE, order=order)
        return order

    async def until(self, is_reached: Callable[[Sequence[ControlReport]], bool], *, seconds: float = 20) -> None:
        """Wait for a report after which this holds."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: is_reached(self.reports))

    @property
    def steps(self) -> list[StepReport]:
        return [each for each in self.reports if isinstance(each, StepReport)]

    @property
    def evaluations(self) -> list[EvaluationReport]:
        return [each for each in self.reports if isinstance(each, EvaluationReport)]

    @property
    def phases(self) -> list[str]:
        """Phases of pauses, in the order in which they were told."""
        return [each.phase for each in self.reports if isinstance(each, OperationReport)]

    def events(self, kind: str) -> list[RunEvent]:
        return [each for each in self.reports if isinstance(each, RunEvent) and each.kind == kind]
