"""The control plane's memory in SQL: a SQLite file, SQLite in memory, or a Postgres server."""

from pathlib import Path

from services.control.store.migrate import migrate
from services.control.store.postgres import open_postgres
from services.control.store.sql_store import SqlStore, StoreLimits
from services.control.store.sqlite import open_sqlite_file, open_sqlite_in_memory
from shaping.errors import UserError

__all__ = ["SqlStore", "StoreLimits", "open_store"]

_POSTGRES = ("postgresql", "postgres")


def open_store(url_or_path: str, *, limits: StoreLimits | None = None) -> SqlStore:
    """Open a store, and bring what it holds to the form that this version writes. One opener at a time.

    Args:
        url_or_path: path of a SQLite file, made where there is none; ":memory:", gone with the process; or
            postgresql://user@host/database.
        limits: what `prune` leaves; None: as StoreLimits says.
    Raises:
        UserError: no store can be there, or the Postgres driver is not installed.
        StoreError: it is there and cannot be used: in use, of a newer version, not writable.
    """
    scheme, has_scheme, _ = url_or_path.partition("://")
    if url_or_path == ":memory:":
        opened = open_sqlite_in_memory()
    elif has_scheme and scheme not in _POSTGRES:
        raise UserError(
            "a control store must be the path of a SQLite file or postgresql://..., "
            f"found {scheme}://...; give one of the two"
        )
    else:
        opened = open_postgres(url_or_path) if has_scheme else open_sqlite_file(Path(url_or_path))
    try:
        migrate(opened)
        return SqlStore(opened, limits=limits)
    except BaseException:
        opened.close()
        raise
