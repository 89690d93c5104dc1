"""One request and its answer over ASGI: headers and body in, bytes out, and whether the client is there."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

import orjson

from aistack.gateway.principals import IDENTITY_HEADERS, Principal
from aistack.gateway.refusals import ClientGone, Refusal, bad_request

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Json = dict[str, Any]

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
_LINGER_S = 5.0


class Exchange:
    """A request being answered. What metrics and the access log want to know is noted on the way.

    `path` is percent-decoded once and not normalised. `status` is 0 until the answer starts.
    """

    __slots__ = (
        "_complete", "_gone", "_more_body", "_receive", "_send", "failed_node", "first_byte_at", "headers",
        "method", "model", "path", "principal", "raw_path", "repeated", "started_at", "status",
    )  # fmt: skip

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._complete = False
        self._gone = False
        self._more_body = True
        self.started_at = time.perf_counter()
        self.first_byte_at = 0.0
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope["raw_path"]
        self.status = 0
        self.model: str | None = None
        self.failed_node: str | None = None
        self.principal: Principal | None = None
        self.headers: dict[bytes, bytes] = {}
        self.repeated: bytes | None = None
        for name, value in scope["headers"]:
            if name in self.headers and name in IDENTITY_HEADERS:
                self.repeated = name
            self.headers[name] = value

    @property
    def from_edge(self) -> bool:
        """Whether the request came from outside, through the proxy."""
        return b"x-aistack-edge" in self.headers

    async def body(self, limit: int) -> bytes:
        """The request's body. Raises Refusal 413 beyond `limit` bytes, ClientGone when it is cut short."""
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise await self._too_large(limit)
        parts: list[bytes] = []
        size = 0
        async for part in self.body_parts():
            size += len(part)
            if size > limit:
                raise await self._too_large(limit)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _too_large(self, limit: int) -> Refusal:
        # A client reads no answer before it has sent its body, so the rest is read and thrown away for a
        # while; one that asked first (Expect) needs only the answer.
        if b"expect" not in self.headers:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_S):
                    async for _ in self.body_parts():
                        pass
        return Refusal(413, f"the request body is larger than {limit >> 20} MB")

    async def body_parts(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises ClientGone when the client leaves before its end."""
        while self._more_body:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            self._more_body = message.get("more_body", False)
            yield message.get("body", b"")

    async def json(self, limit: int) -> tuple[Json, bytes]:
        """The body as a JSON object, and its bytes. Raises Refusal 400 or 413."""
        body = await self.body(limit)
        if not body:
            raise bad_request("missing request body")
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"the request body is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise bad_request("the request body must be a JSON object")
        return document, body

    async def reply(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        """Answer with a whole body."""
        self.status = status
        self.first_byte_at = time.perf_counter()
        own = [(b"content-length", b"%d" % len(body))] if status != 204 else []
        if content_type:
            own.append((b"content-type", content_type))
        await self._send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
        self._complete = True
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, status: int, content_type: bytes) -> None:
        """Begin an answer that is written in pieces."""
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                # nginx must hand every piece on at once, whatever its own settings.
                "headers": [
                    (b"content-type", content_type),
                    (b"cache-control", b"no-cache"),
                    (b"x-accel-buffering", b"no"),
                ],
            }
        )

    async def write(self, piece: bytes) -> None:
        """One piece of the answer; waits while the client reads slower than we write."""
        if not self.first_byte_at:
            self.first_byte_at = time.perf_counter()
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, piece: bytes = b"") -> None:
        """The last piece of the answer."""
        self._complete = True
        await self._send({"type": "http.response.body", "body": piece})

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`, once the body is read; when the client goes, stop it at once and raise ClientGone."""
        task = asyncio.current_task()
        assert task is not None
        watcher = asyncio.ensure_future(self._cancel_when_gone(task))
        try:
            await work
        except asyncio.CancelledError:
            if not self._gone:
                raise
            task.uncancel()
            raise ClientGone from None
        finally:
            watcher.cancel()

    async def _cancel_when_gone(self, task: "asyncio.Task[Any]") -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._complete:
            self._gone = True
            task.cancel()
