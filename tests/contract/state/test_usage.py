"""Usage in every database: exact, whatever happens to the database in between."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event, select

from aistack.errors import UserError
from aistack.gateway.principals import Principal
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import WRITERS
from aistack.gateway.usage import UsageBook
from aistack.gateway.usage_report import Line, report, spent
from databases import PASSWORD, Postgres

from .conftest import OpenDatabase

LAPTOP = Principal("key", "k1", "laptop", owner="ada")
PHONE = Principal("key", "k2", "phone")
PERSON = Principal("user", "u1", "Zoë", "user")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the book tells nobody
            await asyncio.sleep(0.01)


def total(database: Database) -> int:
    return sum(line.requests for line in report(database, "model"))


def test_what_is_recorded_is_in_the_report_within_a_second(open_database: OpenDatabase) -> None:
    database = open_database()

    async def use() -> None:
        book = UsageBook(database)
        await book.run()
        for principal in (LAPTOP, LAPTOP, PHONE, PERSON):
            book.record(principal, "chat/completions", "demo", 10, 5, "ok")
        book.record(PERSON, "embeddings", "tiny", 7, 0, "ok")
        began = time.monotonic()
        await until(lambda: book.waiting == 0)
        assert time.monotonic() - began < 5
        await book.stop()

    asyncio.run(use())
    assert report(database, "key") == (
        Line("key:k1", "laptop", 2, 20, 10),
        Line("key:k2", "phone", 1, 10, 5),
    )
    assert report(database, "user") == (Line("ada", "ada", 2, 20, 10), Line("user:u1", "Zoë", 2, 17, 5))
    assert report(database, "model") == (Line("demo", "demo", 4, 40, 20), Line("tiny", "tiny", 1, 7, 0))
    (day,) = report(database, "day")
    assert (day.requests, day.prompt_tokens, day.completion_tokens) == (5, 47, 20)
    assert report(database, "day", since=time.time() + 3600) == report(database, "day", until=1.0) == ()


def test_a_busy_gateway_writes_no_more_often_than_an_idle_one(open_database: OpenDatabase) -> None:
    database = open_database()

    async def use() -> None:
        book = UsageBook(database)
        await book.run()
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            book.record(LAPTOP, "chat/completions", "demo", 10, 5, "ok")
            await asyncio.sleep(0.001)
        await book.stop()

    asyncio.run(use())
    with database.read() as connection:
        batches = connection.execute(select(WRITERS.c.batch)).scalar_one()
    assert batches <= 4  # two in a second, and what is left at the end


def test_a_name_that_no_database_can_keep_stops_nobodys_usage(open_database: OpenDatabase) -> None:
    database = open_database()

    async def use() -> None:
        book = UsageBook(database)
        await book.run()
        book.record(Principal("user", "u2", "Zo\0e"), "chat/completions", "demo", 10, 5, "ok")
        await book.stop()
        assert book.waiting == 0

    asyncio.run(use())
    assert report(database, "user") == (Line("user:u2", "Zoe", 1, 10, 5),)


def test_two_writers_add_up(open_database: OpenDatabase) -> None:
    async def use(database: Database) -> None:
        book = UsageBook(database)
        await book.run()
        for number in range(2000):
            book.record(LAPTOP, f"route{number % 40}", "demo", 1, 1, "ok")
            if number % 100 == 0:
                await asyncio.sleep(0.01)
        await book.stop()

    async def both() -> None:
        await asyncio.gather(use(open_database()), use(open_database()))

    asyncio.run(both())
    assert report(open_database(), "key") == (Line("key:k1", "laptop", 4000, 4000, 4000),)


@contextmanager
def unconfirmed_commits(database: Database) -> Iterator[list[str]]:
    """Commits count, but whoever asked for them is told that the connection is lost."""
    told: list[str] = []

    def commit_and_fail(connection: Connection) -> None:
        connection.connection.dbapi_connection.commit()  # type: ignore[union-attr]
        told.append("lost")
        raise UserError("the connection was lost")

    event.listen(database.engine, "commit", commit_and_fail)
    yield told
    event.remove(database.engine, "commit", commit_and_fail)


def test_a_batch_whose_commit_was_not_confirmed_counts_once(open_database: OpenDatabase) -> None:
    database = open_database()

    async def use() -> None:
        book = UsageBook(database)
        await book.run()
        with unconfirmed_commits(database) as told:
            book.record(LAPTOP, "chat/completions", "demo", 3, 4, "ok")
            await until(lambda: len(told) > 0 and book.failing)
            assert book.waiting == 1
        book.record(LAPTOP, "chat/completions", "demo", 3, 4, "ok")
        await book.stop()
        assert book.waiting == 0

    asyncio.run(use())
    assert report(database, "key") == (Line("key:k1", "laptop", 2, 6, 8),)


def test_usage_is_kept_while_postgres_is_away_and_written_when_it_is_back(
    postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(postgres.new("away"), PASSWORD)

    async def use() -> None:
        book = UsageBook(database)
        await book.run()
        book.record(LAPTOP, "chat/completions", "demo", 1, 1, "ok")
        await until(lambda: book.waiting == 0)
        await asyncio.to_thread(postgres.stop)
        for _ in range(1000):
            book.record(LAPTOP, "chat/completions", "demo", 1, 1, "ok")
        await until(lambda: book.failing)
        assert book.waiting == 1000
        await asyncio.to_thread(postgres.start)
        await until(lambda: book.waiting == 0)
        assert not book.failing
        await book.stop()

    asyncio.run(use())
    assert total(database) == 1001
    said = [record.message for record in caplog.records if record.name == "aistack.gateway.usage"]
    assert [message.partition(",")[0] for message in said] == ["usage cannot be written", "usage is written again"]
    database.close()


def test_the_limits_of_a_day_and_a_month_find_what_was_used_before(open_database: OpenDatabase) -> None:
    database = open_database()

    async def use() -> None:
        book = UsageBook(database)
        await book.run()
        book.record(LAPTOP, "chat/completions", "demo", 30, 12, "ok")
        await book.stop()

    asyncio.run(use())
    now = time.time()
    assert set(spent(database, now)) == {("key:k1", "tokens_per_day", 0, 42), ("key:k1", "tokens_per_month", 0, 42)}
    assert set(spent(database, now + 86_400)) >= {("key:k1", "tokens_per_day", 42, 0)}
