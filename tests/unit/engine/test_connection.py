"""A client's connection: deadlines, and that one request is served at a time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from aistack.engine.answers import Answer, ApiError, json_answer
from aistack.engine.connection import Connection, Front
from aistack.engine.request import Request

Handler = Callable[[Request, Connection], Awaitable[Answer | None]]
ASK = b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def echo(request: Request, _: Connection) -> Answer:
    return json_answer({"path": request.path, "body": bytes(request.body).decode()})


@asynccontextmanager
async def front(handler: Handler) -> AsyncIterator[tuple[Front, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A front with one client connected."""
    shared = Front(handler, 1 << 20, loopback=True)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(shared), "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        try:
            yield shared, reader, writer
        finally:
            writer.close()
    finally:
        server.close()
        await shared.close(1)


async def until(condition: Callable[[], object]) -> None:
    """Let the event loop turn until `condition` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


def overdue(shared: Front) -> None:
    """As if every connection's time were over."""
    for connection in shared.connections:
        if connection.deadline != float("inf"):
            connection.deadline = 0
    shared.sweep()


def test_requests_of_one_connection_are_served_one_at_a_time() -> None:
    running = most = 0

    async def handler(request: Request, client: Connection) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await echo(request, client)

    async def main() -> None:
        async with front(handler) as (_, reader, writer):
            writer.write(b"".join(ASK % number for number in range(10)))
            for number in range(10):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(23) == b'{"path":"/%d","body":""}' % number

    uvloop.run(main())
    assert most == 1


def test_a_request_that_does_not_arrive_is_a_408() -> None:
    async def main() -> None:
        async with front(echo) as (shared, reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
            await until(lambda: any(connection.in_request for connection in shared.connections))
            overdue(shared)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408")

    uvloop.run(main())


def test_an_idle_connection_is_closed_and_a_working_one_is_not() -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def handler(request: Request, client: Connection) -> Answer:
            await go_on.wait()
            return await echo(request, client)

        async with front(handler) as (shared, reader, writer):
            writer.write(ASK % 1)
            await until(lambda: shared.serving)
            overdue(shared)
            go_on.set()
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            await until(lambda: not shared.serving)
            overdue(shared)
            async with asyncio.timeout(10):
                await reader.read()

    uvloop.run(main())


def test_an_api_error_is_answered_and_the_connection_stays_open() -> None:
    async def handler(request: Request, client: Connection) -> Answer:
        if request.path == "/1":
            raise ApiError(503, "later", "overloaded_error", retry_after_s=7)
        return await echo(request, client)

    async def main() -> None:
        async with front(handler) as (_, reader, writer):
            writer.write(ASK % 1 + ASK % 2)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert b"Retry-After: 7\r\n" in head
            await reader.readuntil(b"}}")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    uvloop.run(main())


@pytest.mark.parametrize(
    ("host", "welcome"),
    [
        (b"localhost:11434", True), (b"127.0.0.1", True), (b"[::1]:11434", True), (b"192.168.1.5", True),
        (b"evil.example", False), (b"localhost.evil.example", False), (b"127.0.0.1.evil.example", False),
    ],
)  # fmt: skip
def test_a_host_name_must_be_this_machines(host: bytes, welcome: bool) -> None:
    request = Request(100)
    request.add_header(b"Host", host)
    request.check_head(loopback=False)
    if welcome:
        request.check_head(loopback=True)
    else:
        with pytest.raises(ApiError, match="Host"):
            request.check_head(loopback=True)
