"""Carries one request to a model's llama.cpp and its response back, byte for byte, without reading it."""

import asyncio
from dataclasses import dataclass
from typing import cast

from aistack.engine.connection import Connection

_HEAD_LIMIT = 64 << 10
_LAST_CHUNK = b"0\r\n\r\n"
# llama.cpp says these of its own connection, which is not the client's; its CORS header is empty.
_OF_THE_HOP = (b"connection:", b"keep-alive:", b"access-control-allow-origin:")


@dataclass(frozen=True)
class Head:
    """The head of a response: as it goes to the client, and how the end of the body is known."""

    status: int
    on_wire: bytes
    length: int | None
    chunked: bool


def head_of(raw: bytes, *, keep_alive: bool) -> Head:
    """Read a response head (status line to the last header line). Raises ValueError."""
    first, *lines = raw.split(b"\r\n")
    status = int(first.split(b" ", 2)[1])
    kept, length, chunked = [first], None, False
    for line in lines:
        name = line.lower()
        if name.startswith(_OF_THE_HOP):
            continue
        if name.startswith(b"content-length:"):
            length = int(name[15:])
        elif name.startswith(b"transfer-encoding:"):
            chunked = b"chunked" in name
        kept.append(line)
    kept.append(b"Connection: " + (b"keep-alive" if keep_alive else b"close"))
    return Head(status, b"\r\n".join(kept) + b"\r\n\r\n", length, chunked)


class Upstream(asyncio.Protocol):
    """A connection to llama.cpp for one request; `done` tells the response's status when it is all through.

    It fails with ConnectionError when llama.cpp hung up before the end of the response.
    """

    def __init__(self, client: Connection, *, keep_alive: bool) -> None:
        self._client = client
        self._keep_alive = keep_alive
        self._raw = b""
        self._head: Head | None = None
        self._received = 0
        self._tail = b""
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._client.relay_from(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        if self._head is None:
            self._raw += data
            self._begin()
            return
        # The hot lines: a streamed token passes here and nowhere else.
        self._write(data)
        self._count(data)

    def eof_received(self) -> None:
        self._finish(ended=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(ended=exc is None)

    def _begin(self) -> None:
        raw, found, rest = self._raw.partition(b"\r\n\r\n")
        if not found:
            if len(raw) > _HEAD_LIMIT:
                self._finish(ended=False)
            return
        try:
            self._head = head_of(raw, keep_alive=self._keep_alive)
        except (ValueError, IndexError):
            self._finish(ended=False)
            return
        self._client.response_begun = True
        self._write(self._head.on_wire + rest)
        self._count(rest)

    def _write(self, data: bytes) -> None:
        # uvloop refuses to write to a client that has left, of which we are told only a moment later.
        if not self._client.transport.is_closing():
            self._client.transport.write(data)

    def _count(self, data: bytes) -> None:
        self._received += len(data)
        self._tail = data[-5:] if len(data) >= 5 else (self._tail + data)[-5:]
        if self._head and self._head.length is not None and self._received >= self._head.length:
            self._finish(ended=True)

    def _finish(self, *, ended: bool) -> None:
        if self.done.done():
            return
        self._client.relay_from(None)
        if ended and self._head and self._whole(self._head):
            self.done.set_result(self._head.status)
        else:
            self.done.set_exception(ConnectionError("llama.cpp hung up"))

    def _whole(self, head: Head) -> bool:
        return self._received == head.length if head.length is not None else self._tail == _LAST_CHUNK


async def relay(address: str, path: str, body: bytes | bytearray, client: Connection, *, keep_alive: bool) -> int:
    """POST `body` to `path` at the socket `address`, copy the response to `client`; returns its status.

    Raises ConnectionRefusedError or FileNotFoundError when nothing listens there (then nothing was sent),
    another OSError when llama.cpp hung up before the end of its response. Cancelled, it closes the
    connection, upon which llama.cpp gives up the request.
    """
    loop = asyncio.get_running_loop()
    transport, upstream = await loop.create_unix_connection(lambda: Upstream(client, keep_alive=keep_alive), address)
    try:
        if transport.is_closing():
            raise ConnectionResetError("llama.cpp hung up")
        transport.writelines([request_head(path, len(body)), body])
        return await upstream.done
    finally:
        client.relay_from(None)
        transport.abort()


def request_head(path: str, length: int) -> bytes:
    """The head of the request to llama.cpp: nothing that a client sent but the path that we know."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: llama\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ).encode()


async def fetch(address: str, path: str, limit_s: float) -> str:
    """GET `path` from the socket `address`; returns the body. Raises OSError or TimeoutError."""
    async with asyncio.timeout(limit_s):
        reader, writer = await asyncio.open_unix_connection(address)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: llama\r\nConnection: close\r\n\r\n".encode())
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise OSError("llama.cpp did not answer 200")
    return body.decode()
