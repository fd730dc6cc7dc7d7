"""The memory of one run: changed only by what the store has taken, one change at a time, and who waits is woken.

A change is decided on a draft, committed, and then believed; it is carried to its end even where its caller has gone.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from services.bell import Bell
from services.control.draft import Draft, RunFacts, Seen
from services.control.machine import OperationKind, RunLife, allowed_actions
from services.control.records import Change, ConfigGeneration, LoggedEvent, Operation, OperationState, RunRecord
from services.control.run_counts import RunCounts
from services.control.storage import Storage
from services.metrics.run_metrics import RunMetrics
from services.reports import (
    BufferReport,
    EvaluationReport,
    Intent,
    RunDescription,
    RunReport,
    StepReport,
    WorkerReport,
)

MAX_RECENT_EVENTS = 1000

T = TypeVar("T")

logger = logging.getLogger(__name__)


class RunMemory:
    """What is known of one run, and the one way to change it. Not thread-safe: use it on one event loop.

    Args:
        facts: as the store has them, or of a run that is to be written for the first time.
        clock: seconds since the epoch.
        version: of lessrl, for the metrics.

    Attributes:
        heard_at: when the run's process was last heard of.
        recent: the newest events, whose older ones are in the store.
    """

    def __init__(self, facts: RunFacts, storage: Storage, *, clock: Callable[[], float], version: str) -> None:
        self.heard_at = clock()
        self.recent: deque[LoggedEvent] = deque(maxlen=MAX_RECENT_EVENTS)
        self._counts = RunCounts(clock=clock, version=version)
        self._facts = facts
        self._seen = Seen()
        self._observed = facts.record.observed_generation
        self._storage = storage
        self._clock = clock
        self._lock = asyncio.Lock()
        self._bell = Bell()
        self._under_way: set[asyncio.Task[Any]] = set()
        if not facts.record.life.state.is_terminal:
            self._counts.recall(facts, (), is_new_process=not facts.record.link_id)

    # -- what is known ------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> RunFacts:
        return self._facts

    @property
    def record(self) -> RunRecord:
        return self._facts.record

    @property
    def life(self) -> RunLife:
        return self.record.life

    @property
    def intent(self) -> Intent:
        return self.record.intent

    @property
    def description(self) -> RunDescription:
        return self.record.description

    @property
    def allowed_actions(self) -> tuple[str, ...]:
        """Calls that would change something, so that clients need not know the machine."""
        return allowed_actions(self.life)

    @property
    def last_step(self) -> StepReport | None:
        return self._seen.last_step

    @property
    def last_evaluation(self) -> EvaluationReport | None:
        return self._seen.last_evaluation

    @property
    def workers(self) -> Mapping[str, WorkerReport]:
        return self._seen.workers

    @property
    def buffer(self) -> BufferReport | None:
        return self._seen.buffer

    @property
    def configs(self) -> tuple[ConfigGeneration, ...]:
        """Every live change, by generation."""
        return self._facts.configs

    @property
    def open_operations(self) -> tuple[Operation, ...]:
        return self._facts.open_operations

    @property
    def metrics(self) -> RunMetrics | None:
        """What it reported, for Prometheus; None for a run that ended before this control plane began."""
        return self._counts.metrics

    def latest_operation(self, kind: OperationKind) -> Operation | None:
        """The newest of a kind, whether it is open or has ended."""
        return self._facts.latest(kind)

    # -- decisions ----------------------------------------------------------------------------------------------------

    async def decide(self, work: Callable[[Draft], Awaitable[T]]) -> tuple[T, RunFacts]:
        """Change the run: `work` decides on a draft, which is written and then believed.

        Returns:
            What `work` returned, and the facts after it.
        Raises:
            StoreError: nothing has changed.
        """
        # A task of its own: where the caller goes away in between, the store must not know what memory does not.
        task = asyncio.create_task(self._decide(work))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def _decide(self, work: Callable[[Draft], Awaitable[T]]) -> tuple[T, RunFacts]:
        async with self._lock:
            draft = Draft(self._facts, self._seen, now=self._clock())
            answer = await work(draft)
            if not draft.is_empty:
                self._believe(draft, await self._storage.commit(draft.change()))
            return answer, self._facts

    def _believe(self, draft: Draft, change: Change) -> None:
        before, after = self._facts, draft.facts
        written = {each.operation_id: each for each in change.operations}
        operations = {each: written.get(each, operation) for each, operation in after.operations.items()}
        self._facts = self._observing(replace(after, record=change.runs[0], operations=operations))
        self._seen = draft.seen
        ended = [each for each in change.operations if each.state is not OperationState.RUNNING]
        is_new = self.metrics is None and not self.life.state.is_terminal
        if draft.forgets or is_new:
            self._counts.recall(self._facts, draft.reports, is_new_process=True)
        else:
            self._counts.follow(before, self._facts, ended)
            self._counts.observe(draft.reports)
        self._counts.count_missed(draft.num_missed)
        self.recent.extend(change.events)
        for event in change.events:
            logger.info("run_id=%s event=%s %s", event.run_id, event.kind, event.message)
        self._bell.ring()

    def _observing(self, facts: RunFacts) -> RunFacts:
        return replace(facts, record=replace(facts.record, observed_generation=self._observed))

    def hear(self) -> None:
        """The run's process gave a sign of life."""
        self.heard_at = self._clock()

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def wait_for_events(self, after: int) -> None:
        """Until there is an event numbered above `after`, of those that came since this control plane began."""
        await self._bell.wait_until(lambda: bool(self.recent) and self.recent[-1].sequence > after)

    async def settle(self) -> None:
        """Until no change is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    # -- what is found out and not decided ----------------------------------------------------------------------------

    def see(self, seen: Seen, reports: Sequence[RunReport] = ()) -> None:
        """What the run had said before this control plane began.

        Args:
            reports: to count.
        """
        self._seen = seen
        if reports:
            self._counts.recall(self._facts, reports, is_new_process=False)
        self._counts.see_workers(tuple(seen.workers.values()))

    def count_paused_time(self) -> None:
        """Tell Prometheus of the time that the run has been paused until now."""
        self._counts.count_paused_time(self._facts)
