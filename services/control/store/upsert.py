"""One statement for a row that may be there: written, or replaced."""

from collections.abc import Sequence

from sqlalchemy import Dialect, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def upsert(table: Table, key: Sequence[str], dialect: Dialect) -> Insert:
    """Insert rows; one whose key exists gets the new values, but keeps its `number`."""
    insert: sqlite.Insert | postgresql.Insert = (
        sqlite.insert(table) if dialect.name == "sqlite" else postgresql.insert(table)
    )
    changed = {name: value for name, value in insert.excluded.items() if name not in {"number", *key}}
    return insert.on_conflict_do_update(index_elements=list(key), set_=changed)
