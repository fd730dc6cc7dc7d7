"""A real Postgres server in a folder of its own, on a Unix socket alone."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

PROGRAMS = ("initdb", "pg_ctl")
USER = "nobody"
"""Postgres refuses to run as root; a test that does lends it to this user."""


def why_there_is_none() -> str:
    """Why no server can be started here; "" where one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    return f"no Postgres server is installed: {', '.join(missing)} not found" if missing else ""


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start one, and stop it in the end.

    Yields:
        The URL of an empty database.
    """
    # Not pytest's folder: other users cannot reach it, and a socket's path is 107 bytes at most.
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    lent = {"user": USER, "group": os.getgid(), "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        if lent:
            shutil.chown(home, USER)
        options = f"-c listen_addresses='' -c unix_socket_directories='{home}' -c fsync=off"
        run = {"cwd": home, "check": True, "capture_output": True, "env": {"PATH": os.environ["PATH"]}, **lent}
        data = str(home / "data")
        subprocess.run(["initdb", "-D", data, "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8"], **run)
        subprocess.run(["pg_ctl", "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start"], **run)
        try:
            yield f"postgresql://tester@/postgres?host={home}"
        finally:
            subprocess.run(["pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **run)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def empty_database(server: str, name: str) -> Iterator[str]:
    """The URL of a new database of a server."""
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.replace("/postgres?", f"/{name}?")
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        engine.dispose()
