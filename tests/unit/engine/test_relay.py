"""The relay against an upstream that does what it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from aistack.engine.answers import Answer
from aistack.engine.connection import Connection, Front
from aistack.engine.relay import head_of, relay
from aistack.engine.request import Request

Upstream = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"


@asynccontextmanager
async def relaying(folder: Path, upstream: Upstream) -> AsyncIterator[tuple[Front, int]]:
    """A front that relays everything to `upstream`; gives it and its port."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await upstream(reader, writer)
        finally:
            writer.close()

    async def handler(request: Request, client: Connection) -> Answer | None:
        try:
            await relay(str(folder / "s"), "/p", request.body, client, keep_alive=request.keep_alive)
        except ConnectionError:
            client.transport.close()
        return None

    front = Front(handler, 1 << 20, loopback=True)
    loop = asyncio.get_running_loop()
    async with await asyncio.start_unix_server(accepted, folder / "s"):
        server = await loop.create_server(lambda: Connection(front), "127.0.0.1", 0)
        try:
            yield front, server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await front.close(1)


async def exchange(port: int, count: int = 1) -> bytes:
    """What `count` requests on one connection are answered until it is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(count):
        last = b"Connection: close\r\n" if number == count - 1 else b""
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\n" + last + b"Content-Length: 1\r\n\r\nx")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


def test_the_head_loses_what_is_of_the_hop_only() -> None:
    raw = b"HTTP/1.1 201 Created\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nX-Kept: 1\r\nContent-Length: 12"
    head = head_of(raw, keep_alive=True)
    assert (head.status, head.length, head.chunked) == (201, 12, False)
    assert head.on_wire == (
        b"HTTP/1.1 201 Created\r\nX-Kept: 1\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n"
    )


@pytest.mark.parametrize("pieces", [1, 3, 7, 1000])
def test_a_chunked_response_passes_byte_for_byte_however_it_is_cut(tmp_path: Path, pieces: int) -> None:
    body = b"5\r\nhello\r\n3\r\n0\r\n\r\n0\r\n\r\n"
    raw = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body
    size = -(-len(raw) // pieces)

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in range(0, len(raw), size):
            writer.write(raw[at : at + size])
            await writer.drain()
            await asyncio.sleep(0)

    async def main() -> None:
        async with relaying(tmp_path, upstream) as (_, port):
            answer = await exchange(port, count=2)
        assert answer.split(b"\r\n\r\n", 1)[1].startswith(body)
        assert answer.count(body) == 2

    uvloop.run(main())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200",
        b"rubbish\r\n\r\n",
        HEAD + b"Content-Length: 10\r\n\r\nfive!",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_a_response_cut_short_never_looks_whole(tmp_path: Path, raw: bytes) -> None:
    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    async def main() -> None:
        async with relaying(tmp_path, upstream) as (_, port):
            answer = await exchange(port, count=2)  # the second is not answered on a spoilt connection
        assert answer.count(b"HTTP/1.1") <= 1
        assert not answer.endswith(b"0\r\n\r\n")

    uvloop.run(main())


def test_upstream_is_hung_up_on_when_the_client_leaves(tmp_path: Path) -> None:
    async def main() -> None:
        begun, left = asyncio.Event(), asyncio.Event()

        async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            begun.set()
            await reader.read()  # ends when the relay hangs up
            left.set()

        async with relaying(tmp_path, upstream) as (_, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            async with asyncio.timeout(10):
                await begun.wait()
                writer.close()
                await left.wait()

    uvloop.run(main())


def test_a_client_that_does_not_read_stops_the_upstream_and_gets_everything_later(tmp_path: Path) -> None:
    size = 64 << 20
    sent = 0

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1 << 20

    async def main() -> None:
        async with relaying(tmp_path, upstream) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
            before = -1
            while before != sent:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.2)
            assert 0 < sent < size // 2
            async with asyncio.timeout(20):
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(size)
            writer.close()
        assert b"200 OK" in head
        assert not any(body)

    uvloop.run(main())
