"""One HTTP/1.1 request of a client, and the way to answer it."""

import asyncio
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from aistack.gateway.http_server import Connection

Headers = Iterable[tuple[bytes, bytes]]

STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
# A client may send this much more of a body than was taken from here before it is made to wait.
_HIGH_WATER = 256 * 1024
_WITHOUT_BODY = frozenset({204, 304})


class Request:
    """A request, and the way to answer it: with `answer`, or with `begin`, then `write`, then `end`.

    `path` is percent-decoded once and not normalised. `headers` have names in lower case; of those that occur twice,
    which are in `repeated`, the last. `gone` is whether the client has left; when it does, `on_gone` is called, if
    there is something. `whole` is whether all of the body has come, `answered` whether all of the answer has gone;
    `task` is what works on it.
    """

    __slots__ = (
        "_asks", "_chunked", "_connection", "_parts", "_size", "_waiter", "answered", "gone", "headers",
        "keeps", "method", "on_gone", "path", "query", "raw_path", "repeated", "task", "whole",
    )  # fmt: skip

    def __init__(
        self, connection: "Connection", method: str, raw_path: bytes, query: bytes, headers: dict[bytes, bytes]
    ) -> None:
        self._connection = connection
        self._parts: list[bytes] = []
        self._size = 0
        self.whole = False
        self._asks = headers.get(b"expect", b"").lower() == b"100-continue"
        self._chunked = True
        self._waiter: asyncio.Future[None] | None = None
        self.method = method
        self.raw_path = raw_path
        self.query = query
        path = raw_path.decode("ascii")
        self.path = unquote(path) if "%" in path else path
        self.headers = headers
        self.repeated: AbstractSet[bytes] = frozenset()
        self.keeps = True
        self.answered = False
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.task: asyncio.Task[None] = cast("asyncio.Task[None]", None)

    async def piece(self) -> bytes:
        """What has come of the body since the last call; empty at its end. Raises ConnectionResetError when the client
        leaves before that."""
        if self._asks:
            self._asks = False
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._parts:
            if self.whole:
                return b""
            if self.gone:
                raise ConnectionResetError("the client left")
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        piece = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._connection.read_on()
        return piece

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer with a whole body; its length and the date are added. No header may hold the end of a line."""
        if self.gone:
            return
        length = b"" if status in _WITHOUT_BODY else b"content-length: %d\r\n" % len(body)
        end = b"" if self.method == "HEAD" or status in _WITHOUT_BODY else body
        self._connection.send(b"%s%s\r\n%s" % (self._head(status, headers), length, end))
        self._finish()

    def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer that is written in pieces."""
        if self.gone:
            return
        way = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._connection.send(b"%s%s\r\n" % (self._head(status, headers), way))

    async def write(self, piece: bytes) -> None:
        """One piece of the answer; waits while the client reads slower than we write."""
        if piece and not self.gone and self.method != "HEAD":
            self._connection.send(b"%x\r\n%s\r\n" % (len(piece), piece) if self._chunked else piece)
            await self._connection.drained()

    async def end(self, piece: bytes = b"") -> None:
        """The last piece of the answer."""
        await self.write(piece)
        if self.gone:
            return
        if self._chunked and self.method != "HEAD":
            self._connection.send(b"0\r\n\r\n")
        self._finish()

    def _head(self, status: int, headers: Headers) -> bytes:
        if self._asks:
            # Whether its body comes now, only the client knows.
            self.keeps = False
        line = STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        own = b"".join([b"%s: %s\r\n" % header for header in headers])
        return b"%s%s%s%s" % (line, own, _date(), b"" if self.keeps else b"connection: close\r\n")

    def _finish(self) -> None:
        self.answered = True
        self._connection.answered(self)

    # What the connection calls.

    def older(self) -> None:
        """The client speaks HTTP/1.0: it knows no chunks, and its connection ends with the answer."""
        self._chunked = self.keeps = False

    def arrived(self, part: bytes | None) -> bool:
        """Some of the body, or its end (None). Returns whether enough has come for now."""
        if part is None:
            self.whole = True
        elif not self.answered:
            self._parts.append(part)
            self._size += len(part)
        self._wake()
        return self._size > _HIGH_WATER

    def lost(self) -> None:
        """The client has gone."""
        if not self.answered:
            self.gone = True
            self._wake()
            if self.on_gone is not None:
                self.on_gone()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


_said: tuple[int, bytes] = (0, b"")


def _date() -> bytes:
    """The line of the present second."""
    global _said
    now = int(time.time())
    if _said[0] != now:
        _said = (now, f"date: {formatdate(now, usegmt=True)}\r\n".encode())
    return _said[1]
