"""A Postgres server as control store, for those who have one."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from services.control.records import StoreError
from services.control.store.opened import OpenedDatabase
from shaping.errors import UserError

LOCK_NUMBER = 0x1E55_71
"""Names the advisory lock that a control plane holds on its database."""

_CONNECT_SECONDS = 10
# A server takes a moment to see that a control plane which was killed is gone.
_LOCK_SECONDS = 2
_LOCK_NOT_AVAILABLE = "55P03"
# A server forgets a client whose host is gone after about a minute; its default is two hours, and a control plane
# that has moved to another host would wait for so long.
_KEEPALIVE = "-c tcp_keepalives_idle=20 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=4"


def open_postgres(url: str) -> OpenedDatabase:
    """Open a database of a server; a connection that is lost is made anew at the next use.

    Raises:
        UserError: the URL is none, or the driver is not installed.
    """
    try:
        parsed = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:
        raise UserError(
            "a control store must be named as postgresql://user@host:port/database, found another form; give that one"
        ) from error
    try:
        engine = create_engine(
            parsed,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_pre_ping=True,
            connect_args={"connect_timeout": _CONNECT_SECONDS, "options": _KEEPALIVE},
            hide_parameters=True,
        )
    except ModuleNotFoundError as error:
        raise UserError(
            f"a control store in Postgres needs the package {error.name}, which is not installed; "
            "install lessrl[postgres], or give the path of a SQLite file"
        ) from error
    event.listen(engine, "connect", _hold(engine.dialect.loaded_dbapi.Error))
    where = parsed.render_as_string(hide_password=True).replace("postgresql+psycopg", "postgresql", 1)
    return OpenedDatabase(engine=engine, description=f"Postgres {where}", let_go=lambda: None)


def _hold(errors: type[Exception]) -> Callable[[Any, Any], None]:
    """Keep other control planes out; the server lets go when it sees the connection end."""

    def hold(connection: Any, _: Any) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK_NUMBER,))
            connection.commit()
        except errors as error:
            connection.close()
            if getattr(error, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            raise StoreError(
                "one control plane at a time uses a control store, another one has this database; "
                "end it, or name another"
            ) from error

    return hold
