"""One suite for both databases: each test runs on a new SQLite file and in a new database of a real PostgreSQL."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aistack.gateway.state.database import Database
from databases import PASSWORD, Postgres

OpenDatabase = Callable[[], Database]
_NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/gateway.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new(f"test{next(_NUMBERS)}")


@pytest.fixture
def open_database(where: str) -> Iterator[OpenDatabase]:
    """Opens the database of the test, each time anew."""
    opened = []

    def open_it() -> Database:
        opened.append(Database(where, PASSWORD))
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()
