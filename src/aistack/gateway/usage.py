"""Who used what: counted on the way of each request, written in batches, never twice.

What is counted and not yet written is added up by hour, principal, model, route and outcome, so a database that is
away for a day costs little memory. A batch has a number that is written in its own transaction: when a commit is not
confirmed, that number tells whether it counted.
"""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from aistack.errors import UserError
from aistack.gateway.principals import Principal
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import PEOPLE, USAGE, WRITERS

_EVERY_S = 0.5
# How many rows one statement may bring: SQLite takes 32,766 values in it.
_ROWS = 500

_log = logging.getLogger("aistack.gateway.usage")

Group = tuple[int, str, str, str, str]
"""Hour since the epoch, principal, model, route, outcome."""
Counts = list[int]
"""Requests, prompt tokens, completion tokens."""


@dataclass(frozen=True)
class _Batch:
    number: int
    counts: dict[Group, Counts]
    people: dict[str, tuple[str, str | None]]


class UsageBook:
    """Counts in memory, and writes to `database` in a thread. One that writes must be the only one of its process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = secrets.token_hex(16)
        self._counts: dict[Group, Counts] = {}
        self._people: dict[str, tuple[str, str | None]] = {}
        self._written_people: dict[str, tuple[str, str | None]] = {}
        self._batch: _Batch | None = None
        self._numbers = 0
        self._task: asyncio.Task[None] | None = None
        self._ending = asyncio.Event()
        self.failing = False

    @property
    def waiting(self) -> int:
        """How many requests are counted and not yet written."""
        batches = (self._counts, self._batch.counts if self._batch else {})
        return sum(counts[0] for groups in batches for counts in groups.values())

    def record(
        self, principal: Principal, route: str, model: str, prompt_tokens: int, completion_tokens: int, outcome: str
    ) -> None:
        """Count a request that is done."""
        label = principal.label
        group = (int(time.time()) // 3600, label, model, route, outcome)
        counts = self._counts.get(group)
        if counts is None:
            counts = self._counts[group] = [0, 0, 0]
            # PostgreSQL keeps no text with a zero in it, which the chat allows in a name.
            self._people[label] = (principal.name.replace("\0", ""), principal.owner)
        counts[0] += 1
        counts[1] += prompt_tokens
        counts[2] += completion_tokens

    async def run(self) -> None:
        """Begin to write, at least every half second."""
        self._task = asyncio.create_task(self._keep_writing())

    async def stop(self) -> None:
        """Write what is waiting, once more, and end. What cannot be written is said, and lost."""
        self._ending.set()
        if self._task is not None:
            await self._task
        await self._write_all()
        if self.waiting:
            _log.error("the usage of %d requests could not be written, and is lost", self.waiting)

    async def _keep_writing(self) -> None:
        while not self._ending.is_set():
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._ending.wait()
            except TimeoutError:
                await self._write_all()

    async def _write_all(self) -> None:
        """The batch that failed before, if one did, and then what has come since; what comes meanwhile can wait."""
        if self._batch is not None:
            await self._write_batch(self._batch)
        if self._batch is None and self._counts:
            self._batch = self._next()
            await self._write_batch(self._batch)

    async def _write_batch(self, batch: _Batch) -> None:
        try:
            await asyncio.to_thread(self._write, batch)
        except UserError as error:
            if not self.failing:
                _log.error("usage cannot be written, and is kept until it can: %s", error.message)
            self.failing = True
            return
        if self.failing:
            _log.warning("usage is written again")
        self.failing = False
        self._batch = None
        self._written_people.update(batch.people)

    def _next(self) -> _Batch:
        self._numbers += 1
        new = {label: person for label, person in self._people.items() if self._written_people.get(label) != person}
        batch = _Batch(self._numbers, self._counts, new)
        self._counts, self._people = {}, {}
        return batch

    def _write(self, batch: _Batch) -> None:
        with self._database.write() as connection:
            if self._is_written(connection, batch):
                return
            add(connection, batch.counts)
            _name(connection, batch.people)

    def _is_written(self, connection: Connection, batch: _Batch) -> bool:
        """Whether an earlier try of this batch was committed after all; else note that this one is."""
        row = {"id": self._writer, "batch": batch.number, "written_at": time.time()}
        statement = _insert(connection)(WRITERS).values(row)
        higher = statement.on_conflict_do_update(
            index_elements=[WRITERS.c.id],
            set_={"batch": statement.excluded.batch, "written_at": statement.excluded.written_at},
            where=WRITERS.c.batch < statement.excluded.batch,
        )
        return connection.execute(higher.returning(WRITERS.c.batch)).first() is None


def add(connection: Connection, counts: dict[Group, Counts]) -> None:
    """Add `counts` to the table. Rows go in a fixed order, so that two writers never wait for each other in a ring."""
    names = [column.name for column in USAGE.columns]
    rows = [dict(zip(names, (*group, *counts[group]), strict=True)) for group in sorted(counts)]
    for start in range(0, len(rows), _ROWS):
        statement = _insert(connection)(USAGE).values(rows[start : start + _ROWS])
        sums = {name: USAGE.c[name] + statement.excluded[name] for name in names[5:]}
        connection.execute(statement.on_conflict_do_update(index_elements=list(USAGE.primary_key), set_=sums))


def _name(connection: Connection, people: dict[str, tuple[str, str | None]]) -> None:
    rows = [{"principal": label, "name": people[label][0], "owner": people[label][1]} for label in sorted(people)]
    for start in range(0, len(rows), _ROWS):
        statement = _insert(connection)(PEOPLE).values(rows[start : start + _ROWS])
        newer = {"name": statement.excluded.name, "owner": statement.excluded.owner}
        connection.execute(statement.on_conflict_do_update(index_elements=[PEOPLE.c.principal], set_=newer))


def _insert(connection: Connection):  # type: ignore[no-untyped-def]
    """Both databases know `ON CONFLICT`, and SQLAlchemy has it apart for each."""
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert
