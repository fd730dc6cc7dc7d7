"""The control store as an event loop uses it: all of it on one thread, in order, with what leaves it redacted."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from services.control.records import AuditLine, Change, ControlStore, LoggedEvent, Operation, RunRecord, StoreError
from services.control.redaction import Redactor
from services.reports import Failure

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Storage:
    """Writes and reads a store off the event loop.

    Args:
        store: closed by `close`; nobody else writes to it.
        redactor: what it knows is in no event, operation and audit line that is written.

    Attributes:
        problem: why the last call failed; "" when it did not.
        last_sequence: of the newest event of all.
    """

    def __init__(self, store: ControlStore, redactor: Redactor) -> None:
        self.problem = ""
        self.last_sequence = store.last_sequence()
        self.redactor = redactor
        self._store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="control-store")

    async def commit(self, change: Change) -> Change:
        """Write all of it, or nothing.

        Returns:
            What was written: its events numbered, secrets masked.
        Raises:
            StoreError: nothing was written.
        """
        written = await self.read(lambda store: _commit(store, self._masked(change)))
        self.last_sequence = max([self.last_sequence, *(each.sequence for each in written.events)])
        return written

    async def read(self, question: Callable[[ControlStore], T]) -> T:
        """Ask the store, behind all that was asked before.

        Raises:
            StoreError: it cannot answer.
        """
        try:
            answer = await self.ask(question)
        except StoreError as error:
            if not self.problem:
                logger.error("the control store fails: %s", error)
            self.problem = str(error)
            raise
        self.problem = ""
        return answer

    async def ask(self, question: Callable[[ControlStore], T]) -> T:
        """The same, for a question that says itself what is wrong."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, self._store)

    async def close(self) -> None:
        """Close the store behind all that was asked before."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._store.close)
        self._thread.shutdown()

    def _masked(self, change: Change) -> Change:
        return replace(
            change,
            runs=tuple(self._run(each) for each in change.runs),
            operations=tuple(self._operation(each) for each in change.operations),
            events=tuple(self._event(each) for each in change.events),
            audit=tuple(self._audit(each) for each in change.audit),
        )

    def _event(self, event: LoggedEvent) -> LoggedEvent:
        return replace(
            event,
            message=self.redactor.text(event.message),
            failure=self._failure(event.failure),
            details=self.redactor.data(event.details),
        )

    def _run(self, run: RunRecord) -> RunRecord:
        # Its recipe stays as it is, and a value of it may be needed; who shows it redacts it.
        mask = self.redactor.text
        return replace(
            run,
            reason=mask(run.reason),
            message=mask(run.message),
            notes=mask(run.notes),
            labels=self.redactor.data(run.labels),
            failure=self._failure(run.failure),
        )

    def _failure(self, failure: Failure | None) -> Failure | None:
        return None if failure is None else replace(failure, cause=self.redactor.text(failure.cause))

    def _operation(self, operation: Operation) -> Operation:
        mask: Callable[[Any], Any] = self.redactor.data
        return replace(
            operation,
            reason=self.redactor.text(operation.reason),
            error=self.redactor.text(operation.error),
            request=mask(operation.request),
            result=mask(operation.result),
        )

    def _audit(self, line: AuditLine) -> AuditLine:
        return replace(line, path=self.redactor.text(line.path), body=self.redactor.data(line.body))


def _commit(store: ControlStore, change: Change) -> Change:
    # Numbered on the store's own thread: the order of numbers is the order of what is written.
    numbered = replace(change, events=_numbered(change.events, store.last_sequence()))
    store.commit(numbered)
    return numbered


def _numbered(events: Sequence[LoggedEvent], last: int) -> tuple[LoggedEvent, ...]:
    return tuple(replace(event, sequence=last + number) for number, event in enumerate(events, start=1))
