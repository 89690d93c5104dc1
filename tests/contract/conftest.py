"""What the suites of the gateway share: a real PostgreSQL."""

from collections.abc import Iterator

import pytest

from databases import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server
