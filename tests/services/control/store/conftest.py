"""The databases that every law of a control store is held against."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import empty_database, postgres_server, why_there_is_none


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Of a real server; where none is installed the test is skipped, and says so."""
    if reason := why_there_is_none():
        pytest.skip(reason)
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["file", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a database that outlives its store, empty."""
    if request.param == "file":
        yield str(tmp_path / "control.sqlite")
        return
    with empty_database(request.getfixturevalue("postgres_url"), "law") as fresh:
        yield fresh
