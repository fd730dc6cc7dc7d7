"""A SQLite file as control store: its journal, its mode, and who may have it."""

import stat
from pathlib import Path

import pytest
from control_records import make_event, make_run

from services.control.records import Change, StoreError
from services.control.store import open_store
from services.control.store.sqlite import wal_trouble


def journal_of(path: Path) -> str:
    """From the file's own header (sqlite.org/fileformat: bytes 18 and 19 are 2 with a write-ahead log, else 1)."""
    return {b"\x02\x02": "wal", b"\x01\x01": "rollback"}[path.read_bytes()[18:20]]


def break_wal(folder: Path, name: str) -> None:
    """Take the place of the shared memory that a write-ahead log needs: the log cannot be opened, all else can."""
    (folder / f".{name}.probe-shm").mkdir()


def test_a_file_has_a_write_ahead_log_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "control.sqlite"
    store = open_store(str(path))
    store.commit(Change(runs=(make_run(),)))
    beside = sorted(each.name for each in path.parent.iterdir())
    assert beside == ["control.sqlite", "control.sqlite-shm", "control.sqlite-wal", "control.sqlite.lock"]
    modes = {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir() if each.suffix != ".lock"}
    assert modes == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert "write-ahead log" in store.description
    assert str(path) in store.description
    store.close()
    assert journal_of(path) == "wal"


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "control.sqlite"
    path.touch(mode=0o644)
    open_store(str(path)).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_where_no_log_can_be_shared_a_rollback_journal_is_used_and_told(tmp_path: Path) -> None:
    break_wal(tmp_path, "control.sqlite")
    path = tmp_path / "control.sqlite"
    store = open_store(str(path))
    assert "journal DELETE" in store.description
    store.commit(Change(runs=(make_run(),), events=(make_event(1),)))
    store.close()
    assert journal_of(path) == "rollback"
    again = open_store(str(path))
    assert (again.runs(), again.last_sequence()) == ((make_run(),), 1)
    again.close()


def test_the_probe_leaves_nothing_and_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    probe = tmp_path / "probe"
    for end in ("", "-wal", "-shm", "-journal"):
        (tmp_path / f"probe{end}").write_bytes(b"half a file")
    assert wal_trouble(probe) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_takes_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "control.sqlite"
    with pytest.raises(StoreError, match=r"must be a file that can be written.*control\.sqlite"):
        open_store(str(path))


def test_a_file_of_something_else_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    words = b"not a database, and long enough that its header is read as one: " * 40
    path.write_bytes(words)
    with pytest.raises(StoreError, match=r"not a database.*notes\.txt"):
        open_store(str(path))
    assert path.read_bytes() == words


def test_a_refused_second_opener_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    path = str(tmp_path / "control.sqlite")
    first = open_store(path)
    for _ in range(2):
        with pytest.raises(StoreError, match="one control plane at a time"):
            open_store(path)
    first.commit(Change(runs=(make_run(),)))
    first.close()


def test_memory_is_nobody_elses() -> None:
    first, second = open_store(":memory:"), open_store(":memory:")
    first.commit(Change(runs=(make_run(),)))
    assert second.runs() == ()
    assert (first.probe(), first.description) == ("", "SQLite in memory")
    first.close()
    second.close()


def test_a_full_disk_is_told_and_the_store_goes_on_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "control.sqlite"
    store = open_store(str(path))
    store.commit(Change(runs=(make_run(),)))
    with store._opened.engine.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    large = make_run(notes="x" * 100_000)
    with pytest.raises(StoreError, match=r"full.*disk has room"):
        store.commit(Change(runs=(large,), events=(make_event(1),)))
    assert (store.runs(), store.last_sequence()) == ((make_run(),), 0)
    with store._opened.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=100000")
    store.commit(Change(runs=(large,), events=(make_event(1),)))
    assert store.runs() == (large,)
    store.close()
