"""SQLite as control store: one file, one process, write-ahead log where the file system can."""

import fcntl
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import URL, Connection, Engine, QueuePool, StaticPool, create_engine, event

from services.control.records import StoreError
from services.control.store.opened import OpenedDatabase

BUSY_SECONDS = 5.0
"""How long a write waits for somebody who reads the file from outside."""


def open_sqlite_in_memory() -> OpenedDatabase:
    """A database that is gone with the process."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
    )
    _follow(engine, journal="MEMORY")
    return OpenedDatabase(engine=engine, description="SQLite in memory", let_go=lambda: None)


def open_sqlite_file(path: Path) -> OpenedDatabase:
    """Open or make a database file, readable for its owner alone.

    Raises:
        StoreError: another process has it, or the folder does not take one.
    """
    path = path.expanduser().absolute()
    held: TextIO | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = _hold(path)
        trouble = wal_trouble(path.with_name(f".{path.name}.probe"))
        path.touch(mode=0o600)
        path.chmod(0o600)
    except OSError as error:
        if held is not None:
            held.close()
        raise StoreError(
            f"the control store must be a file that can be written, found: {error.strerror} ({path}); "
            "make that possible, or name another"
        ) from error
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        hide_parameters=True,
    )
    _follow(engine, journal="DELETE" if trouble else "WAL")
    remark = f"journal DELETE, as a write-ahead log does not work here: {trouble}" if trouble else "write-ahead log"
    return OpenedDatabase(engine=engine, description=f"SQLite {path}, {remark}", let_go=held.close)


def wal_trouble(probe: Path) -> str:
    """Why a write-ahead log does not work on a file system; "" where it does.

    The pragma can succeed where the first write then fails (network and overlay file systems without shared memory
    maps), so this writes from two connections and reads back.

    Args:
        probe: name for a scratch database; removed again.
    """
    files = [probe, *(probe.with_name(probe.name + end) for end in ("-wal", "-shm", "-journal"))]
    _remove(files)
    try:
        return _write_from_two(probe)
    except sqlite3.Error as error:
        return str(error)
    finally:
        _remove(files)


def _write_from_two(probe: Path) -> str:
    first, second = (sqlite3.connect(probe, timeout=BUSY_SECONDS, isolation_level=None) for _ in range(2))
    try:
        (mode,) = first.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            return f"the journal mode stays {mode}"
        first.execute("CREATE TABLE probe (writer INTEGER)")
        first.execute("INSERT INTO probe VALUES (1)")
        second.execute("INSERT INTO probe VALUES (2)")
        found = [row[0] for row in first.execute("SELECT writer FROM probe ORDER BY writer")]
        return "" if found == [1, 2] else f"two connections wrote 1 and 2, {found} was read"
    finally:
        first.close()
        second.close()


def _remove(files: list[Path]) -> None:
    for file in files:
        if file.is_file():
            file.unlink()


def _hold(path: Path) -> TextIO:
    """Keep other control planes out; the system lets go when this process ends, however it ends.

    A file of its own: closing any descriptor of the database would drop SQLite's own locks on it.
    """
    file = path.with_name(f"{path.name}.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise StoreError(
            f"one control plane at a time uses a control store, process {holder} does ({path}); end it, or name another"
        ) from error
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(f"{os.getpid()} on {socket.gethostname()}")
    file.flush()
    return file


def _follow(engine: Engine, *, journal: str) -> None:
    event.listen(engine, "connect", _set_up(journal))
    event.listen(engine, "begin", _begin)


def _set_up(journal: str) -> Callable[[sqlite3.Connection, Any], None]:
    def set_up(connection: sqlite3.Connection, _: Any) -> None:
        # Python's sqlite3 begins transactions by itself and leaves table changes out of them; _begin does it instead.
        connection.isolation_level = None
        (mode,) = connection.execute(f"PRAGMA journal_mode={journal}").fetchone()
        if mode.upper() != journal:
            raise StoreError(
                f"the control store's journal must be {journal}, found {mode} although a probe could; free the file"
            )
        connection.execute("PRAGMA synchronous=NORMAL" if journal == "WAL" else "PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")

    return set_up


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")
