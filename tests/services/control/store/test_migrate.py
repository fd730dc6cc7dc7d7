"""Databases of other versions: older ones are brought to this one's form, newer ones are refused."""

import shutil
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from control_records import make_run
from sqlalchemy import text

from services.control.records import Change, StoreError
from services.control.store import open_store, tables
from services.control.store.migrate import MIGRATIONS, migrate
from services.control.store.opened import OpenedDatabase
from services.control.store.postgres import open_postgres
from services.control.store.sqlite import open_sqlite_file

NEXT = '''"""A next form: runs have a colour."""

import sqlalchemy as sa
from alembic import op

revision = "next"
down_revision = "{before}"


def upgrade() -> None:
    op.add_column("runs", sa.Column("colour", sa.Text, nullable=False, server_default="grey"))
    {then}
'''


def open_database(url: str) -> OpenedDatabase:
    return open_postgres(url) if url.startswith("postgresql:") else open_sqlite_file(Path(url))


def newer_migrations(folder: Path, then: str = "") -> Path:
    """This version's migrations and one more."""
    copy = shutil.copytree(MIGRATIONS, folder / "migrations")
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    (copy / "versions" / "v9999_next.py").write_text(NEXT.format(before=newest, then=then))
    return copy


def test_the_migrations_leave_the_tables_that_are_written_to(url: str) -> None:
    opened = open_database(url)
    migrate(opened)
    with opened.engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    opened.close()


def test_a_database_of_an_older_version_is_migrated_in_place(url: str, tmp_path: Path) -> None:
    store = open_store(url)
    store.commit(Change(runs=(make_run(),)))
    store.close()
    opened = open_database(url)
    migrate(opened, migrations=newer_migrations(tmp_path))
    with opened.engine.begin() as connection:
        assert connection.execute(text("SELECT run_id, colour FROM runs")).all() == [("run_a", "grey")]
    opened.close()


def test_a_migration_that_fails_half_way_leaves_what_was_there(url: str, tmp_path: Path) -> None:
    store = open_store(url)
    store.commit(Change(runs=(make_run(),)))
    store.close()
    opened = open_database(url)
    broken = newer_migrations(tmp_path, then='op.drop_table("no_such_table")')
    with pytest.raises(StoreError, match="no_such_table"):
        migrate(opened, migrations=broken)
    with opened.engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    opened.close()
    again = open_store(url)
    assert again.runs() == (make_run(),)
    again.close()


def test_a_database_of_a_newer_version_is_refused_by_name_and_left_as_it_is(url: str, tmp_path: Path) -> None:
    opened = open_database(url)
    migrate(opened, migrations=newer_migrations(tmp_path))
    opened.close()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"found form next .*use the newer lessrl"):
            open_store(url)
