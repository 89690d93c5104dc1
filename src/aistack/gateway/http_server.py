"""HTTP/1.1 towards clients: requests as they come, answers as they are made, and word of a client that has gone.

A general server costs as much as a third of all that we do with a request (docs/decisions/0012). This one does what the
gateway needs behind its proxy and nothing else: no TLS, no upgrades, no HTTP/2.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast

import httptools

from aistack.gateway.http_request import STATUS_LINES, Request

_LONGEST_HEAD = 64 * 1024
_LINGER_S = 2.0

_log = logging.getLogger("aistack.gateway.http")


Handler = Callable[[Request], Coroutine[Any, Any, None]]


class Server:
    """Has `handler` answer every request. A connection on which nothing happens for `idle_s` is closed."""

    def __init__(self, handler: Handler, *, idle_s: float) -> None:
        self._handler = handler
        self._idle_s = idle_s
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, listener: socket.socket, stop: asyncio.Event, grace_s: float) -> None:
        """Serve until `stop`; then let what is under way go on for `grace_s`, and cut what is not done."""
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            lambda: Connection(loop, self._handler, self._connections, self._tasks, self._idle_s),
            sock=listener,
            backlog=2048,
        )
        await stop.wait()
        ends = loop.time() + grace_s
        listening.close()
        for connection in tuple(self._connections):
            connection.retire()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        if self._connections:  # what was written has still to be sent
            closed = [connection.closed for connection in self._connections]
            await asyncio.wait(closed, timeout=ends - loop.time())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in tuple(self._connections):
            connection.cut()


class Connection(asyncio.Protocol):
    """A client's connection: one request is answered at a time, those sent meanwhile wait."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handler: Handler,
        connections: "set[Connection]",
        tasks: "set[asyncio.Task[None]]",
        idle_s: float,
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._connections = connections
        self._tasks = tasks
        self._idle_s = idle_s
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._active: Request | None = None
        self._newest: Request | None = None
        self._waiting: deque[Request] = deque()
        self._retired = False
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: set[bytes] = set()
        self._in_head = True
        self._head_size = 0
        self._touched = loop.time()
        self.closed = loop.create_future()
        self._alarm = loop.call_later(idle_s, self._look)

    def send(self, data: bytes) -> None:
        """Write; what cannot be sent at once is kept."""
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait while much that was written has not been sent."""
        if not self._writable.is_set():
            await self._writable.wait()

    def read_on(self) -> None:
        """What had come was taken."""
        if self._paused and not self._waiting:
            self._paused = False
            self._transport.resume_reading()

    def answered(self, request: Request) -> None:
        """The answer of a request is whole."""
        self._touched = self._loop.time()
        self._active = None
        if not request.keeps or self._retired:
            self._transport.close()
        else:
            self._go_on()

    def retire(self) -> None:
        """Close it when what is under way is done, or at once when nothing is."""
        self._retired = True
        self._waiting.clear()
        if self._active is None:
            self._transport.close()
        else:
            self._active.keeps = False

    def cut(self) -> None:
        """Close it at once, whatever is under way."""
        self._transport.abort()

    def _go_on(self) -> None:
        """The next one's turn, if there is one; but whoever reads no answers shall not fill our memory with them."""
        if self._waiting and self._active is None and self._writable.is_set():
            self._start(self._waiting.popleft())
        self.read_on()

    def _start(self, request: Request) -> None:
        self._active = request
        task = request.task = self._loop.create_task(self._handler(request))
        self._tasks.add(task)

        def done(_: "asyncio.Task[None]") -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None or not request.answered:
                self._transport.abort()  # so that nobody takes the answer for whole

        task.add_done_callback(done)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _look(self) -> None:
        idle = self._loop.time() - self._touched
        if self._active is None and idle >= self._idle_s:
            self._transport.close()
        else:
            left = self._idle_s - idle if self._active is None else self._idle_s
            self._alarm = self._loop.call_later(left, self._look)

    def _refuse(self, status: int, why: str) -> None:
        """Nothing more can be made of what comes. An answer that is under way still goes out."""
        self._retired = True
        self._waiting.clear()
        if self._active is None:
            self._answer_that(status, why)
        elif self._active.whole:
            self._active.keeps = False
            self._pause()
        else:
            self._transport.abort()

    def _answer_that(self, status: int, why: str) -> None:
        _log.info("a request that is none: %s", why)
        body = why.encode()
        own = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        self._transport.write(b"%s%s\r\n%s" % (STATUS_LINES[status], own, body))
        # Closed with something unread, the client's side would throw the answer away unseen.
        self._transport.write_eof()
        self._alarm.cancel()
        self._alarm = self._loop.call_later(_LINGER_S, self._transport.close)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._retired and self._active is None:
            return
        self._touched = self._loop.time()
        self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing else is spoken here: the request is answered as it stands, and then it is over.
            if self._newest is not None:
                self._newest.keeps = False
        except (httptools.HttpParserError, UnicodeDecodeError):
            self._refuse(400, "not HTTP")
        else:
            if self._in_head and self._head_size > _LONGEST_HEAD:
                self._refuse(431, "the head of the request is too long")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's own name
        self._connections.discard(self)
        self._alarm.cancel()
        self._retired = True
        self._waiting.clear()
        self._writable.set()
        self.closed.set_result(None)
        if self._active is not None:
            self._active.lost()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        self._go_on()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._repeated = set()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self._headers:
            self._repeated.add(name)
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._in_head = False
        self._head_size = 0
        url = httptools.parse_url(self._url)
        method = parser.get_method().decode("ascii")
        request = self._newest = Request(self, method, url.path or b"/", url.query or b"", self._headers)
        request.repeated = self._repeated
        request.keeps = parser.should_keep_alive()
        if parser.get_http_version() != "1.1":
            request.older()
        self._waiting.append(request)
        self._go_on()
        if self._waiting:
            self._pause()

    def on_body(self, body: bytes) -> None:
        if self._newest is not None and self._newest.arrived(body):
            self._pause()

    def on_message_complete(self) -> None:
        if self._newest is not None:
            self._newest.arrived(None)
        self._in_head = True
        self._head_size = 0
