"""The control store over SQL. One connection, one transaction at a time; what is committed outlives the process."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Insert, Select, delete, func, select

from services.control.records import (
    AuditLine,
    Change,
    ConfigGeneration,
    KeptAnswer,
    LoggedEvent,
    Operation,
    OperationState,
    RunRecord,
    StoreError,
)
from services.control.store import tables
from services.control.store.opened import OpenedDatabase, troubles_named
from services.control.store.rows import ANSWERS, AUDIT, CONFIGS, EVENTS, OPERATIONS, RUNS, Record, Rows
from services.control.store.upsert import upsert

_NEWEST_SEQUENCE = "newest_sequence"
_PROBE = "probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What `prune` leaves."""

    answer_seconds: float = 24 * 3600.0
    events_of_a_run: int = 100_000
    audit_lines: int = 100_000


class SqlStore:
    """Satisfies ControlStore.

    Args:
        opened: migrated.

    Attributes:
        description: what and where, for `doctor` and the log.
    """

    def __init__(self, opened: OpenedDatabase, *, limits: StoreLimits | None = None) -> None:
        self.description = opened.description
        self._opened = opened
        self._limits = limits or StoreLimits()
        self._lock = Lock()
        self._is_closed = False
        dialect = opened.engine.dialect
        self._writing: dict[Rows[Any], Insert] = {
            rows: rows.writing(dialect) for rows in (RUNS, OPERATIONS, EVENTS, CONFIGS, AUDIT, ANSWERS)
        }
        self._writing_settings = upsert(tables.settings, ("name",), dialect)
        with self._transaction() as connection:
            self._last_sequence = _newest_sequence(connection)

    def commit(self, change: Change) -> None:
        with self._transaction() as connection:
            last = self._sequence_after(change.events)
            self._write(connection, RUNS, change.runs)
            self._write(connection, OPERATIONS, change.operations)
            self._write(connection, EVENTS, change.events)
            self._write(connection, CONFIGS, change.configs)
            self._write(connection, AUDIT, change.audit)
            self._write(connection, ANSWERS, change.answers)
            self._set(connection, dict(change.settings))
        self._last_sequence = last

    def runs(self) -> tuple[RunRecord, ...]:
        return self._read(RUNS, select(tables.runs).order_by(tables.runs.c.number))

    def delete_run(self, run_id: str) -> None:
        with self._transaction() as connection:
            # Its events may be the newest of all, and a sequence that was told is never given again.
            self._set(connection, {_NEWEST_SEQUENCE: str(self._last_sequence)})
            connection.execute(delete(tables.runs).where(tables.runs.c.run_id == run_id))

    def open_operations(self, run_id: str) -> tuple[Operation, ...]:
        """Oldest first."""
        columns = tables.operations.c
        query = select(tables.operations).where(columns.run_id == run_id, columns.state == OperationState.RUNNING.value)
        return self._read(OPERATIONS, query.order_by(columns.number))

    def operation(self, run_id: str, operation_id: str) -> Operation | None:
        columns = tables.operations.c
        query = select(tables.operations).where(columns.run_id == run_id, columns.operation_id == operation_id)
        return _only(self._read(OPERATIONS, query))

    def operations(self, run_id: str, *, after: str = "", limit: int = 100) -> Sequence[Operation]:
        """Oldest first, from behind the operation named `after`; none where there is no such one."""
        columns = tables.operations.c
        query = select(tables.operations).where(columns.run_id == run_id).order_by(columns.number).limit(limit)
        if after:
            before = select(columns.number).where(columns.run_id == run_id, columns.operation_id == after)
            query = query.where(columns.number > before.correlate(None).scalar_subquery())
        return self._read(OPERATIONS, query)

    def last_sequence(self) -> int:
        return self._last_sequence

    def events(self, run_id: str, *, after: int = 0, kinds: Sequence[str] = (), limit: int) -> Sequence[LoggedEvent]:
        columns = tables.events.c
        query = select(tables.events).where(columns.run_id == run_id, columns.sequence > after)
        if kinds:
            query = query.where(columns.kind.in_(kinds))
        return self._read(EVENTS, query.order_by(columns.sequence).limit(limit))

    def configs(self, run_id: str) -> tuple[ConfigGeneration, ...]:
        """By generation, oldest first."""
        columns = tables.configs.c
        return self._read(CONFIGS, select(tables.configs).where(columns.run_id == run_id).order_by(columns.generation))

    def audit(self, *, before: int = 0, limit: int) -> Sequence[tuple[int, AuditLine]]:
        number = tables.audit.c.number
        query = select(tables.audit).order_by(number.desc()).limit(limit)
        if before:
            query = query.where(number < before)
        with self._transaction() as connection:
            rows = connection.execute(query).mappings().all()
        return [(row["number"], AUDIT.record(row)) for row in rows]

    def answer(self, key: str, caller: str) -> KeptAnswer | None:
        columns = tables.answers.c
        return _only(self._read(ANSWERS, select(tables.answers).where(columns.caller == caller, columns.key == key)))

    def setting(self, name: str) -> str | None:
        with self._transaction() as connection:
            return _setting(connection, name)

    def prune(self, *, now: float) -> None:
        limits, events, audit = self._limits, tables.events.c, tables.audit.c
        with self._transaction() as connection:
            old = tables.answers.c.created_at < now - limits.answer_seconds
            connection.execute(delete(tables.answers).where(old))
            for run_id in connection.execute(select(tables.runs.c.run_id)).scalars().all():
                of_run = events.run_id == run_id
                first_out = select(events.sequence).where(of_run).order_by(events.sequence.desc())
                last_gone = connection.execute(first_out.offset(limits.events_of_a_run).limit(1)).scalar()
                if last_gone is not None:
                    connection.execute(delete(tables.events).where(of_run, events.sequence <= last_gone))
            oldest_out = select(audit.number).order_by(audit.number.desc()).offset(limits.audit_lines).limit(1)
            last_line = connection.execute(oldest_out).scalar()
            if last_line is not None:
                connection.execute(delete(tables.audit).where(audit.number <= last_line))

    def probe(self) -> str:
        try:
            with self._transaction() as connection:
                self._set(connection, {_PROBE: "written"})
        except StoreError as error:
            return str(error)
        return ""

    def close(self) -> None:
        """Let others have it; harmless when repeated."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                self._opened.close()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._lock:
            if self._is_closed:
                raise StoreError(f"a control store must be open to be used, this one is closed ({self.description})")
            advice = "see that its disk has room and its server answers"
            with troubles_named(self.description, advice), self._opened.engine.begin() as connection:
                yield connection

    def _write(self, connection: Connection, rows: Rows[Record], records: Sequence[Record]) -> None:
        if records:
            connection.execute(self._writing[rows], [rows.row(record) for record in records])

    def _set(self, connection: Connection, values: dict[str, str]) -> None:
        if values:
            rows = [{"name": name, "value": value} for name, value in values.items()]
            connection.execute(self._writing_settings, rows)

    def _read(self, rows: Rows[Record], query: Select[Any]) -> tuple[Record, ...]:
        with self._transaction() as connection:
            found = connection.execute(query).mappings().all()
        return tuple(rows.record(row) for row in found)

    def _sequence_after(self, events: Sequence[LoggedEvent]) -> int:
        last = self._last_sequence
        for event in events:
            if event.sequence <= last:
                raise StoreError(
                    f"sequence numbers of events must rise, found {event.sequence} after {last} ({self.description}); "
                    "let one control plane at a time write to a store"
                )
            last = event.sequence
        return last


def _newest_sequence(connection: Connection) -> int:
    kept = connection.execute(select(func.max(tables.events.c.sequence))).scalar() or 0
    told = _setting(connection, _NEWEST_SEQUENCE)
    return max(int(kept), int(told or 0))


def _setting(connection: Connection, name: str) -> str | None:
    columns = tables.settings.c
    return connection.execute(select(columns.value).where(columns.name == name)).scalar()


def _only(records: tuple[Record, ...]) -> Record | None:
    return records[0] if records else None
