import asyncio
from typing import cast

from aistack.gateway.access_log import line
from aistack.gateway.batches import Batches
from aistack.gateway.exchange import Exchange
from aistack.gateway.http_request import Request
from aistack.gateway.http_server import Connection
from aistack.gateway.principals import Principal


def exchange(path: str) -> Exchange:
    nowhere = cast("Connection", None)
    made = Exchange(Request(nowhere, "GET", path.encode(), b"", {b"authorization": b"Bearer secret"}))
    made.status = 200
    return made


def test_a_line_has_method_path_status_time_who_and_model() -> None:
    made = exchange("/v1/models")
    made.principal = Principal("key", "k1", "laptop")
    made.model = "demo"
    words = line(made).split()
    assert words[1:4] == ["GET", "/v1/models", "200"]
    assert words[4].endswith("ms")
    assert words[5:] == ["key:k1", "demo"]


def test_nothing_that_a_client_chose_breaks_the_line() -> None:
    made = exchange("/" + "a" * 5000)
    made.principal = Principal("user", "x\n2026 GET / 200", "x")
    text = line(made)
    assert text.count("\n") == 1
    assert len(text.split()) == 7
    assert len(text) < 400


def test_lines_are_written_together_and_at_the_latest_when_flushed() -> None:
    written: list[str] = []

    async def scenario() -> None:
        log = Batches(written.append)
        log.add("a\n")
        log.add("b\n")
        assert written == []
        log.flush()
        log.flush()

    asyncio.run(scenario())
    assert written == ["a\nb\n"]
