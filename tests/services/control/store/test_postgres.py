"""What is Postgres's own: passwords, a driver that is not there, a server that goes away."""

import subprocess
import sys
from pathlib import Path

import pytest
from control_records import make_event, make_run
from sqlalchemy import create_engine, text

from services.control.records import Change, StoreError
from services.control.store import open_store
from services.control.store.postgres import open_postgres
from shaping.errors import UserError

WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from services.control.store import open_store
from shaping.errors import UserError
try:
    open_store("postgresql://host/database")
except UserError as error:
    print(error)
"""


def test_a_store_goes_on_when_its_connection_was_lost(postgres_url: str) -> None:
    store = open_store(postgres_url)
    store.commit(Change(runs=(make_run(),)))
    other = create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg:"))
    end = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    with other.begin() as connection:
        assert connection.execute(text(end)).scalar_one() == 1
    store.commit(Change(events=(make_event(1),)))
    assert store.events("run_a", limit=9) == (make_event(1),)
    with pytest.raises(StoreError, match="one control plane at a time"):
        open_store(postgres_url)
    store.close()
    other.dispose()


def test_a_password_is_in_no_description_and_no_error(tmp_path: Path) -> None:
    url = f"postgresql://ops:canary-4711@/nowhere?host={tmp_path / 'no-server'}"
    opened = open_postgres(url)
    assert "canary-4711" not in opened.description
    assert opened.description.startswith("Postgres postgresql://ops:***@")
    opened.close()
    with pytest.raises(StoreError, match="its server answers") as caught:
        open_store(url)
    assert "canary-4711" not in str(caught.value)


def test_a_name_that_is_no_url_is_refused_without_repeating_it() -> None:
    with pytest.raises(UserError, match="postgresql://user@host:port/database") as caught:
        open_store("postgresql://ops:canary-4711@host:port/database")
    assert "canary-4711" not in str(caught.value)


def test_a_driver_that_is_not_installed_is_named_with_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_DRIVER], capture_output=True, text=True, check=True)
    assert "psycopg" in done.stdout
    assert "lessrl[postgres]" in done.stdout
