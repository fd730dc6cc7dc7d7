"""A database that is open, before anything is read from it; and how its troubles are told."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from services.control.records import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedDatabase:
    """An engine of one connection.

    Args:
        description: what and where, in words, without a password.
        let_go: gives up what keeps others out.
    """

    engine: Engine
    description: str
    let_go: Callable[[], None]

    def close(self) -> None:
        self.engine.dispose()
        self.let_go()


@contextmanager
def troubles_named(description: str, advice: str) -> Iterator[None]:
    """Turn the database's errors into StoreError: what, where, and what to do.

    The statement and its values stay out of the message: they hold what users wrote.
    """
    try:
        yield
    except SQLAlchemyError as error:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        words = " ".join(str(cause).split()) or type(cause).__name__
        raise StoreError(f"the control store must be usable, found: {words} ({description}); {advice}") from error
