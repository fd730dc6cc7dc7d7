"""Records as rows and back: a field that has a column goes there, the others go into `rest` as JSON."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Dialect, Insert, RowMapping, Table

from services.control.records import AuditLine, ConfigGeneration, KeptAnswer, LoggedEvent, Operation, RunRecord
from services.control.store import tables
from services.control.store.upsert import upsert

Record = TypeVar("Record")


class Rows(Generic[Record]):
    """How records of one kind are kept.

    Args:
        table: its columns are fields of the record, `number`, `rest`, and the names in `derived`.
        derived: columns that repeat a part of the record, so that one can look for it.
        key: columns that name a record that may be written again; none: each is written once.
    """

    def __init__(
        self,
        kind: type[Record],
        table: Table,
        *,
        key: Sequence[str] = (),
        derived: Mapping[str, Callable[[Record], Any]] | None = None,
    ) -> None:
        self.table = table
        self._adapter = TypeAdapter(kind)
        self._key = tuple(key)
        self._derived = dict(derived or {})
        own = {column.name for column in table.columns} - {"number", "rest"} - set(self._derived)
        self._columns = tuple(sorted(own))

    def row(self, record: Record) -> dict[str, Any]:
        """Values of every column but `number`."""
        fields = self._adapter.dump_python(record)
        row = {name: fields.pop(name) for name in self._columns}
        row.update({name: of(record) for name, of in self._derived.items()})
        # ASCII: see tables.Words.
        row["rest"] = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
        return row

    def record(self, row: RowMapping) -> Record:
        return self._adapter.validate_python({**json.loads(row["rest"]), **{name: row[name] for name in self._columns}})

    def writing(self, dialect: Dialect) -> Insert:
        """The statement that writes rows; one whose key exists is replaced."""
        return upsert(self.table, self._key, dialect) if self._key else self.table.insert()


RUNS = Rows(RunRecord, tables.runs, key=("run_id",), derived={"state": lambda run: run.life.state.value})
OPERATIONS = Rows(Operation, tables.operations, key=("run_id", "operation_id"))
EVENTS = Rows(LoggedEvent, tables.events)
CONFIGS = Rows(ConfigGeneration, tables.configs, key=("run_id", "generation"))
AUDIT = Rows(AuditLine, tables.audit)
ANSWERS = Rows(KeptAnswer, tables.answers, key=("caller", "key"))
