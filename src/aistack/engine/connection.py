"""One client's connection: bytes in, requests to the handler one after the other, responses out."""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

from aistack.engine.answers import Answer, ApiError
from aistack.engine.request import HEAD_LIMIT, Request

_IDLE_LIMIT_S = 75.0  # between two requests; longer than the gateway's pool keeps a connection
_HALTING_LIMIT_S = 30.0  # without progress inside a request, or a client that does not read its response
_LINGER_S = 2.0
_MOST_PIPELINED = 16
_MOST_AHEAD = 1 << 20  # bytes of further requests that are read while one is being served

Handler = Callable[[Request, "Connection"], Awaitable[Answer | None]]


@dataclass(eq=False)
class Front:
    """What all connections share. `handler` returns an answer, or None when it wrote the response itself."""

    handler: Handler
    body_limit: int
    loopback: bool
    closing: bool = False
    serving: set[asyncio.Task[None]] = field(default_factory=set)
    connections: set["Connection"] = field(default_factory=set)

    def sweep(self) -> None:
        """Close the connections that have halted for too long."""
        now = asyncio.get_running_loop().time()
        for connection in tuple(self.connections):
            if connection.deadline < now:
                connection.halted()

    async def close(self, grace_s: float) -> None:
        """Take no further requests, let those that run finish within `grace_s` seconds, hang up."""
        self.closing = True
        for connection in tuple(self.connections):
            connection.close_when_idle()
        if self.serving:
            await asyncio.wait(self.serving, timeout=grace_s)
        for connection in tuple(self.connections):
            connection.transport.abort()


class Connection(asyncio.Protocol):
    """HTTP/1.1 with one client."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._partial: Request | None = None
        self._head_read = 0
        self._read_ahead = 0
        self._refusal: ApiError | None = None
        self._waiting: deque[Request | ApiError] = deque()
        self._serving: asyncio.Task[None] | None = None
        self._lingering = False
        self._reading_upstream: asyncio.ReadTransport | None = None
        self._write_blocked = False
        self.transport: asyncio.Transport
        self.response_begun = False
        self.deadline = self._loop.time() + _IDLE_LIMIT_S

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class does not derive from it
        peer = transport.get_extra_info("socket")
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # tokens are small and must not wait
        self._front.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._front.connections.discard(self)
        self._waiting.clear()
        if self._serving:
            self._serving.cancel()  # closes upstream, and llama.cpp stops working for nobody

    def data_received(self, data: bytes) -> None:
        if self._lingering or self._refusal:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, ApiError):
                raise
            self._refuse(cause)
        except httptools.HttpParserError as error:
            self._refuse(ApiError(400, f"this is not HTTP: {error}"))
        else:
            self._check_unfinished(len(data))
        self._limit_read_ahead(len(data))
        self._set_deadline()

    def eof_received(self) -> None:
        return None  # a client that closes its side is gone: none of ours half-closes

    def pause_writing(self) -> None:
        self._write_blocked = True
        self.deadline = self._loop.time() + _HALTING_LIMIT_S
        if self._reading_upstream and not self._reading_upstream.is_closing():
            self._reading_upstream.pause_reading()

    def resume_writing(self) -> None:
        self._write_blocked = False
        self.deadline = float("inf")
        if self._reading_upstream and not self._reading_upstream.is_closing():
            self._reading_upstream.resume_reading()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._partial = Request(self._front.body_limit)

    def on_url(self, piece: bytes) -> None:
        self._request.add_target(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.add_header(name, value)

    def on_headers_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        self._head_read = 0
        if self._parser.should_upgrade():
            raise ApiError(400, "only HTTP/1.1 is spoken here")
        request.check_head(loopback=self._front.loopback)
        if request.headers.get(b"expect", b"").lower() == b"100-continue" and self._serving is None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, piece: bytes) -> None:
        self._request.add_body(piece)

    def on_message_complete(self) -> None:
        request, self._partial = self._request, None
        if len(self._waiting) >= _MOST_PIPELINED:
            raise ApiError(429, f"more than {_MOST_PIPELINED} requests at once on one connection")
        self._waiting.append(request)
        self._serve_next()

    # For the handler.

    def relay_from(self, upstream: asyncio.ReadTransport | None) -> None:
        """Let `upstream` be read only as fast as the client reads; None when there is none any more."""
        self._reading_upstream = upstream
        if upstream is not None and self._write_blocked:
            upstream.pause_reading()

    # For the front.

    @property
    def in_request(self) -> bool:
        """Whether a request has begun to arrive and is not whole yet."""
        return self._partial is not None

    def halted(self) -> None:
        """The deadline is over."""
        if self.in_request and self._serving is None and not self._lingering:
            self._refuse(ApiError(408, "the request did not arrive in time"))
            self._set_deadline()
        else:
            self.transport.abort()

    def close_when_idle(self) -> None:
        """Close now, or after the response that is being made."""
        if self._serving is None:
            self.transport.close()

    @property
    def _request(self) -> Request:
        assert self._partial is not None
        return self._partial

    def _check_unfinished(self, size: int) -> None:
        """A head that never ends reaches no callback of the parser: its size is counted here."""
        if self._partial is None or self._partial.method:
            return
        self._head_read += size
        if self._head_read > HEAD_LIMIT + (256 << 10):  # one read may carry the end of a body as well
            self._refuse(ApiError(431, f"the headers are larger than {HEAD_LIMIT >> 10} KB"))

    def _limit_read_ahead(self, size: int) -> None:
        """While a request is served we read on, to hear the client leave, but not for ever."""
        if self._serving is None:
            return
        self._read_ahead += size
        if self._read_ahead > _MOST_AHEAD:
            self.transport.pause_reading()

    def _refuse(self, error: ApiError) -> None:
        """Answer `error` after the requests that came before it, then close."""
        self._refusal = error
        self._partial = None
        self._waiting.append(error)
        self._serve_next()

    def _serve_next(self) -> None:
        if self._serving or not self._waiting:
            return
        item = self._waiting.popleft()
        if isinstance(item, ApiError):
            self._close_with(item)
            return
        self.response_begun = False
        self.deadline = float("inf")
        self._serving = self._loop.create_task(self._serve(item))
        self._front.serving.add(self._serving)
        self._serving.add_done_callback(self._front.serving.discard)

    async def _serve(self, request: Request) -> None:
        keep_alive = request.keep_alive
        try:
            answer = await self._front.handler(request, self)
        except ApiError as error:
            answer = error.answer()
        except Exception:
            self.transport.abort()
            raise  # a bug: the event loop prints its traceback
        if self.transport.is_closing():
            return
        keep_alive = keep_alive and not self._front.closing
        if answer is not None:
            with_body = request.method != "HEAD"
            self.transport.write(answer.on_wire(keep_alive=keep_alive, with_body=with_body))
        self._after_response(keep_alive=keep_alive)

    def _after_response(self, *, keep_alive: bool) -> None:
        self._serving = None
        if self._read_ahead > _MOST_AHEAD:
            self.transport.resume_reading()
        self._read_ahead = 0
        if not keep_alive:
            self._linger()
        self._set_deadline()
        self._serve_next()

    def _set_deadline(self) -> None:
        if self._serving is None:
            limit = _LINGER_S if self._lingering else _HALTING_LIMIT_S if self._partial else _IDLE_LIMIT_S
            self.deadline = self._loop.time() + limit

    def _close_with(self, error: ApiError) -> None:
        self.transport.write(error.answer().on_wire(keep_alive=False))
        self._linger()

    def _linger(self) -> None:
        """Say that we are done, and let the client's unread bytes run out: to close at once would reset
        the connection, and the client might never see the answer."""
        self._lingering = True
        self._waiting.clear()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
