"""Thousands of requests of every kind, the gateway killed in between: what is in the database is what was used."""

import asyncio
import itertools
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from aistack.gateway.http_client import FAILURES, HttpClient
from aistack.gateway.keys import KeyStore
from aistack.gateway.state.database import Database
from aistack.gateway.state.tables import USAGE
from databases import PASSWORD, Postgres

from .counting_engine import KINDS, CountingEngine
from .processes import Gateway, Process, StartGateway, wait_for

REQUESTS = 5000  # in each database
# How each gateway ends; the next goes on with its database. None: when all have their answers.
ENDS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, None)
# What is used is in the database so soon (docs/howto/usage.md).
WRITTEN_S = 1.0
CLIENTS = 24
# The last key's clients leave whenever they like; what a client and a node see of such a request may differ.
KEYS = ("laptop", "phone", "batch", "hasty")

_SURFACES: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "chat": ("/v1/chat/completions", lambda text: {"messages": [{"role": "user", "content": text}]}),
    "completions": ("/v1/completions", lambda text: {"prompt": text}),
    "embeddings": ("/v1/embeddings", lambda text: {"input": text}),
    "responses": ("/v1/responses", lambda text: {"input": text}),
    "messages": ("/v1/messages", lambda text: {"max_tokens": 9, "messages": [{"role": "user", "content": text}]}),
    "ollama chat": ("/ollama/api/chat", lambda text: {"messages": [{"role": "user", "content": text}]}),
    "ollama generate": ("/ollama/api/generate", lambda text: {"prompt": text}),
    "ollama embed": ("/ollama/api/embed", lambda text: {"input": text}),
}
_FATES = {"answer": 60, "slowly": 16, "fail": 6, "breaks": 4, "breaks_late": 4, "stay": 5, "stay_late": 5}
Group = tuple[str, str]
"""The name of a key, and a model."""
Used = Counter[tuple[str, str, str]]
"""By key, model, and what was counted: `requests`, `read` or `written`."""


@dataclass(frozen=True)
class Wish:
    """A request to be: `fate` is what the engine shall do with it."""

    key: str
    model: str
    surface: str
    fate: str
    streamed: bool


def wishes(seed: int) -> Iterator[tuple[int, Wish]]:
    """Requests without end, numbered."""
    chosen = random.Random(seed)
    for number in itertools.count():
        surface = chosen.choice(list(_SURFACES))
        streamed = "embed" not in surface and chosen.random() < 0.6
        (fate,) = chosen.choices(list(_FATES), list(_FATES.values()))
        key = chosen.choice(KEYS)
        if key == "hasty":
            fate = "slowly"
        elif fate.endswith("_late") and not streamed:
            fate = "answer"
        yield number, Wish(key, chosen.choice(KINDS), surface, fate, streamed)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database with nothing in it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/usage.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new("exactness")


class Books:
    """The clients, and what they saw of the requests since the last look: `ended` is when each had its end."""

    def __init__(self, database: Database, engine: CountingEngine) -> None:
        self._database = database
        self._engine = engine
        self._wishes = wishes(1)
        store = KeyStore(database)
        made = {name: store.create(name) for name in KEYS}
        self._secrets = {name: secret for name, (secret, _) in made.items()}
        self._names = {f"key:{key.id}": name for name, (_, key) in made.items()}
        self._asking = False
        self._due = 0.0
        self._before: Used = Counter()
        self.sent: dict[int, Wish] = {}
        self.ended: dict[int, float] = {}

    async def ask(self, gateway: Gateway, count: int, end: signal.Signals | None) -> float:
        """Ask until so many requests had their end, and for longer than counts may take to be written; then send the
        gateway the signal `end` in the midst of it. None: SIGTERM when all have their answers. Returns when it was
        sent."""
        client = HttpClient(gateway.url, connect_s=30, silence_s=30, idle_s=30)
        self._asking = True
        self._due = time.monotonic() + 2 * WRITTEN_S
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(self._keep_asking(client, gateway.process, count, end))
        client.close()
        if end is None:
            gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.process.wait, 20)
        return self._due

    async def _keep_asking(self, client: HttpClient, process: Process, count: int, end: signal.Signals | None) -> None:
        while self._asking:
            number, wish = next(self._wishes)
            self.sent[number] = wish
            try:
                if await self._ask(client, number, wish):
                    self.ended[number] = time.monotonic()
            except FAILURES:
                assert not self._asking, f"{wish} was cut off"
            if self._asking and len(self.ended) >= count and time.monotonic() > self._due:
                self._asking, self._due = False, time.monotonic()
                if end is not None:
                    process.send_signal(end)

    async def _ask(self, client: HttpClient, number: int, wish: Wish) -> bool:
        """Ask; returns whether the request came to its end, which for one that stays is that its client left."""
        reading = asyncio.create_task(self._read(client, number, wish))
        stays = wish.fate.startswith("stay")
        if wish.key == "hasty":
            await asyncio.wait([reading], timeout=number % 30 / 1000)
        elif stays and not wish.streamed:
            arrived = asyncio.create_task(self._engine.arrived[number].wait())
            await asyncio.wait([arrived, reading], return_when=asyncio.FIRST_COMPLETED)
            arrived.cancel()
        if wish.key == "hasty" or (stays and not wish.streamed):
            reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()
        if stays:
            await self._engine.left[number].wait()
        return stays or not reading.cancelled()

    async def _read(self, client: HttpClient, number: int, wish: Wish) -> None:
        path, body_of = _SURFACES[wish.surface]
        body = {"model": wish.model, "stream": wish.streamed, **body_of(f"request {number}: {wish.fate}")}
        if wish.surface == "chat" and wish.streamed and number % 2:
            body["stream_options"] = {"include_usage": True}
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._secrets[wish.key]}\r\n"
        answer = await client.send(head.encode(), json.dumps(body).encode())
        try:
            async for _ in answer.pieces():
                if wish.fate.startswith("stay"):
                    return
        finally:
            answer.close()

    def compare(self, killed_at: float | None) -> None:
        """The database holds just what the engine told since the last look; where the gateway was killed, all but
        what may not have been written yet, and no more."""
        total = self._used()
        found = Counter({of: count - self._before[of] for of, count in total.items()})
        most, least = self._told(self._possible()), self._told(self._certain(killed_at))
        for of in most | found:
            assert least[of] <= found[of] <= most[of], (of, least[of], found[of], most[of])
        assert sum(least.values()) > 0
        self._before, self.sent, self.ended = total, {}, {}

    def _possible(self) -> Iterator[int]:
        """What may have been counted. A hasty client may leave when its request was given to a node, and not sent."""
        return (number for number, wish in self.sent.items() if number in self._engine.asked or wish.key == "hasty")

    def _certain(self, killed_at: float | None) -> Iterator[int]:
        if killed_at is not None:
            return (number for number, ended in self.ended.items() if ended < killed_at - WRITTEN_S)
        return (number for number in self._possible() if number in self.ended or self.sent[number].key != "hasty")

    def _told(self, numbers: Iterator[int]) -> Used:
        sums: Used = Counter()
        for number in numbers:
            wish = self.sent[number]
            read, written = self._engine.told.get(number, (0, 0))
            sums.update({
                (wish.key, wish.model, "requests"): 1,
                (wish.key, wish.model, "read"): read,
                (wish.key, wish.model, "written"): written,
            })  # fmt: skip
        return sums

    def _used(self) -> Used:
        counts = (func.sum(USAGE.c.requests), func.sum(USAGE.c.prompt_tokens), func.sum(USAGE.c.completion_tokens))
        statement = select(USAGE.c.principal, USAGE.c.model, *counts).group_by(USAGE.c.principal, USAGE.c.model)
        sums: Used = Counter()
        with self._database.read() as connection:
            for label, model, *found in connection.execute(statement):
                for of, count in zip(("requests", "read", "written"), found, strict=True):
                    sums[self._names[label], model, of] = int(count)
        return sums


def wait_for_the_last_commit(database: Database) -> None:
    """PostgreSQL may still be busy with what a gateway told it before it was killed."""
    working = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle'")
    with database.read() as connection:
        # Ours is one.
        wait_for(lambda: not database.is_postgres or connection.execute(working).scalar_one() == 1, "the last commit")


def test_what_is_in_the_database_is_what_was_used(start_gateway: StartGateway, where: str, tmp_path: Path) -> None:
    secret = tmp_path / "database.password"
    secret.write_text(PASSWORD)
    database = Database(where, PASSWORD)

    async def use() -> None:
        engine = CountingEngine(seed=2)
        async with engine.serving() as url:
            nodes = [{"name": kind, "kind": kind, "url": f"{url}/{kind}", "slots": 16} for kind in KINDS]
            books = Books(database, engine)
            for end in ENDS:
                gateway = await asyncio.to_thread(
                    start_gateway, nodes, database=where, database_password_file=str(secret)
                )
                ended_at = await books.ask(gateway, REQUESTS // len(ENDS), end)
                await asyncio.to_thread(wait_for_the_last_commit, database)
                books.compare(ended_at if end is signal.SIGKILL else None)

    asyncio.run(use())
    database.close()
