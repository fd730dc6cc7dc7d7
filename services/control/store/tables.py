"""Tables of the control store: typed columns for what is looked up, the rest of each record as JSON in `rest`.

They describe what the newest migration leaves (a test compares them).
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)


class Words(TypeDecorator[str]):
    """Any string at all, as ASCII: Postgres takes no NUL and neither database takes half a surrogate pair.

    Plain ASCII without a backslash is kept as it is.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else value.encode("unicode_escape").decode("ascii")

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else str(value).encode("ascii").decode("unicode_escape")


# SQLite numbers rows by itself in a column of exactly this type.
_Number = BigInteger().with_variant(Integer(), "sqlite")

metadata = MetaData()


def _run_id() -> Column[str]:
    return Column("run_id", Words, ForeignKey("runs.run_id", ondelete="CASCADE"), nullable=False)


runs = Table(
    "runs",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("run_id", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("attempt", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("rest", Text, nullable=False),
    UniqueConstraint("run_id", name="runs_of_one_id"),
)

operations = Table(
    "operations",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    _run_id(),
    Column("operation_id", Words, nullable=False),
    Column("kind", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("requested_at", Double, nullable=False),
    Column("deadline_at", Double),
    Column("ended_at", Double),
    Column("rest", Text, nullable=False),
    UniqueConstraint("run_id", "operation_id", name="operations_of_one_id"),
    Index("operations_by_state", "run_id", "state"),
)

events = Table(
    "events",
    metadata,
    Column("sequence", _Number, primary_key=True, autoincrement=False),
    _run_id(),
    Column("at", Double, nullable=False),
    Column("kind", Words, nullable=False),
    Column("state", Words, nullable=False),
    Column("rest", Text, nullable=False),
    Index("events_by_run", "run_id", "sequence"),
)

configs = Table(
    "configs",
    metadata,
    Column("run_id", Words, ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("by", Words, nullable=False),
    Column("at_step", Integer),
    Column("rest", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("number", _Number, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("run_id", Words, nullable=False),
    Column("method", Words, nullable=False),
    Column("path", Words, nullable=False),
    Column("status", Integer, nullable=False),
    Column("rest", Text, nullable=False),
    sqlite_autoincrement=True,
)

answers = Table(
    "answers",
    metadata,
    Column("caller", Words, primary_key=True),
    Column("key", Words, primary_key=True),
    Column("path", Words, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("status", Integer, nullable=False),
    Column("rest", Text, nullable=False),
    Index("answers_by_age", "created_at"),
)

settings = Table(
    "settings",
    metadata,
    Column("name", Words, primary_key=True),
    Column("value", Words, nullable=False),
)
