"""HTTP/1.1 towards an engine: kept-alive connections, one request on each at a time, bytes handed on as they come.

A general client costs more than all the rest of a request here (docs/decisions/0009). This one does what engines
need and nothing else: no redirects, no cookies, no proxies, no compression.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

import httptools

# What a broken connection, a silent peer or one that speaks no HTTP raises, at any moment of an exchange.
FAILURES = (OSError, TimeoutError)

# The peer may send this much more than was taken from here before it is made to wait.
_HIGH_WATER = 256 * 1024
_LONGEST_HEAD = 64 * 1024


class ConnectTimeout(TimeoutError):
    """The peer did not take the connection in time."""


class HttpClient:
    """A pool of connections to the host of `url`, which is http or https.

    `connect_s` bounds connecting, `silence_s` the time between two pieces of an answer, `idle_s` how long a
    connection is kept for another request.
    """

    def __init__(self, url: str, *, connect_s: float, silence_s: float, idle_s: float) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._idle_s = idle_s
        self._idle: list[_Connection] = []
        self._closed = False

    async def send(self, head: bytes, body: bytes | AsyncIterator[bytes] | None, *, has_body: bool = True) -> "Answer":
        """Send a request whose `head` is written but for its length and its end; returns the answer with its
        headers read. `has_body`: whether such an answer has one (it has none to HEAD).

        Raises OSError, TimeoutError. A connection that was kept and turns out to be closed is no failure.
        """
        while True:
            connection = self._kept()
            reused = connection is not None
            if connection is None:
                connection = await self._connected()
            try:
                return await connection.ask(head, body, has_body=has_body)
            except ConnectionResetError:
                # The peer closed it while the request was on its way, before it read a byte of it.
                if not reused or not isinstance(body, bytes | None) or connection.heard:
                    raise
            except BaseException:
                connection.close()
                raise

    def close(self) -> None:
        """Close the connections that nobody uses, and the others as soon as nobody does."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    def _keep(self, connection: "_Connection") -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _kept(self) -> "_Connection | None":
        oldest = asyncio.get_running_loop().time() - self._idle_s
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.touched >= oldest:
                return connection
            connection.close()
        return None

    async def _connected(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(loop, self._silence_s, self._keep), self._host, self._port, ssl=self._tls
                )
        except TimeoutError as error:
            raise ConnectTimeout("the peer does not take the connection") from error
        return connection


class Answer:
    """An answer whose headers are read. `headers` have names in lower case; of those that occur twice the last."""

    __slots__ = ("_connection", "headers", "status")

    def __init__(self, connection: "_Connection", status: int, headers: Mapping[str, str]) -> None:
        self._connection = connection
        self.status = status
        self.headers = headers

    @property
    def content_type(self) -> str:
        """The media type, without parameters; empty when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self) -> bytes:
        """All that has not been taken of the body. Raises OSError, TimeoutError."""
        pieces = []
        while piece := await self._connection.piece():
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body in whatever pieces it comes. Raises OSError, TimeoutError."""
        while piece := await self._connection.piece():
            yield piece

    def close(self) -> None:
        """Done with it: a connection whose answer was not taken to its end is closed, which tells the peer."""
        self._connection.release()


class _Connection(asyncio.Protocol):
    """One connection. `heard` is whether anything has come of the present answer."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, silence_s: float, keep: Callable[["_Connection"], None]
    ) -> None:
        self._loop = loop
        self._silence_s = silence_s
        self._keep = keep
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._writable = asyncio.Event()
        self._writable.set()
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None
        self.touched = loop.time()
        self._begin(has_body=True)

    def _begin(self, *, has_body: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._has_body = has_body
        self._headers: dict[str, str] = {}
        self._head_size = 0
        self._headed = False
        self._complete = False
        self._keeps = True
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._paused = False
        self.heard = False

    @property
    def usable(self) -> bool:
        """Whether it can take another request."""
        return self._failure is None and not self._transport.is_closing()

    async def ask(self, head: bytes, body: bytes | AsyncIterator[bytes] | None, *, has_body: bool) -> Answer:
        """Send a request and wait for the head of its answer."""
        if self.heard or self._headed:
            self._begin(has_body=has_body)
        self._has_body = has_body
        self._watch()
        if isinstance(body, bytes):
            self._transport.write(b"%scontent-length: %d\r\n\r\n%s" % (head, len(body), body))
        elif body is None:
            self._transport.write(head + b"\r\n")
        else:
            await self._write_chunks(head, body)
        while not self._headed:
            await self._wait()
        return Answer(self, self._parser.get_status_code(), self._headers)

    async def piece(self) -> bytes:
        """The next piece of the body; empty at its end."""
        while not self._parts:
            if self._complete:
                return b""
            await self._wait()
        piece = self._parts.popleft() if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return piece

    def release(self) -> None:
        """The answer is done with: keep the connection for another, or close it."""
        if self._complete and self._keeps and self.usable and not self._parts:
            self._keep(self)
        else:
            self.close()

    def close(self) -> None:
        """Close it at once, whatever is under way."""
        self._rest()
        self._transport.abort()

    async def _write_chunks(self, head: bytes, body: AsyncIterator[bytes]) -> None:
        self._transport.write(head + b"transfer-encoding: chunked\r\n\r\n")
        async for part in body:
            if part and not self._headed:
                self._transport.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.touched = self._loop.time()
                await self._writable.wait()
            if self._headed:
                # The answer has come before all was sent: whoever gave it wants no more, and may have hung up.
                self._keeps = False
                return
            if self._failure is not None:
                raise self._failure
        self._transport.write(b"0\r\n\r\n")

    async def _wait(self) -> None:
        """Until something has come. Raises what went wrong."""
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._failure is not None and not self._parts and not self._complete:
            raise self._failure

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self) -> None:
        """Have an eye on the peer's silence; what comes only notes the time, which costs next to nothing."""
        self.touched = self._loop.time()
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._silence_s, self._look)

    def _rest(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        self._alarm = None
        if self._complete:  # nothing is awaited; the next request sets it again
            return
        silent = self._loop.time() - self.touched
        if self._paused or silent < self._silence_s:
            self._alarm = self._loop.call_later(max(self._silence_s - silent, 0.01), self._look)
        else:
            self._fail(TimeoutError("the peer is silent"))

    def _fail(self, failure: BaseException) -> None:
        self._failure = self._failure or failure
        self._transport.abort()
        self._writable.set()
        self._wake()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.touched = self._loop.time()
        if self._complete:
            self._fail(ConnectionError("the peer speaks out of turn"))
            return
        if not self._headed:
            self._head_size += len(data)
        self.heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError) as error:
            self._fail(ConnectionError(f"the peer does not speak HTTP: {error}"))
            return
        if not self._headed and self._head_size > _LONGEST_HEAD:
            self._fail(ConnectionError("the head of the answer has no end"))
        if self._size > _HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        to_the_end = self._headed and "content-length" not in self._headers and not self._chunked
        if exc is None and to_the_end:
            self._complete = True
        self._failure = self._failure or exc or ConnectionResetError("the peer closed the connection")
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._complete:
            raise ConnectionError("one answer too many")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("ascii").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._headers.clear()
            return
        self._headed = True
        self._writable.set()
        self._keeps = self._parser.should_keep_alive() and self._has_body
        if not self._has_body:
            self._complete = True

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        self._complete = self._headed

    @property
    def _chunked(self) -> bool:
        return "chunked" in self._headers.get("transfer-encoding", "")
