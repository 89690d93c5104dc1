"""One request and its answer: headers and body in, bytes out, and whether the client is there."""

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from urllib.parse import parse_qs

import orjson

from aistack.gateway.http_request import Request
from aistack.gateway.principals import IDENTITY_HEADERS, Principal
from aistack.gateway.refusals import ClientGone, Refusal, bad_request

Json = dict[str, Any]

JSON = b"application/json"
NDJSON = b"application/x-ndjson"
_LINGER_S = 5.0
# A request's id: this run of the gateway, and the request's number in it.
_RUN = secrets.token_hex(5).encode()
_NUMBERS = itertools.count(1)


class Exchange:
    """A request being answered. What metrics and the logs want to know is noted on the way.

    `path` is percent-decoded once and not normalised. `status` is 0 until the answer starts. `request` is a body of
    JSON as it came. `tokens` are those that the engine read and wrote, by its own count, None when it did not say.
    `words` is how many words the prompt has, 0 when that was of no interest; `truncated` that the engine does not
    read all. `changed` is what an administrator asked to change, for the audit log. `answer_headers` go into the
    answer, whichever it is. `repeated` is a header that says who asks and came more than once.
    """

    __slots__ = (
        "_gone", "_incoming", "answer_headers", "changed", "failed_node", "fell_back_from", "first_byte_at", "headers",
        "method", "model", "node", "path", "principal", "raw_path", "repeated", "request", "request_id", "started_at",
        "status", "streams", "tokens", "truncated", "waited_s", "words",
    )  # fmt: skip

    def __init__(self, incoming: Request) -> None:
        self._incoming = incoming
        self._gone = False
        self.started_at = time.perf_counter()
        self.first_byte_at = 0.0
        self.method = incoming.method
        self.path = incoming.path
        self.raw_path = incoming.raw_path
        self.headers = incoming.headers
        self.repeated = min(incoming.repeated & IDENTITY_HEADERS, default=None) if incoming.repeated else None
        self.status = 0
        self.model: str | None = None
        self.node = ""
        self.failed_node: str | None = None
        self.fell_back_from: str | None = None
        self.waited_s = 0.0
        self.tokens: tuple[int, int] | None = None
        self.words = 0
        self.streams = False
        self.request: bytes | None = None
        self.changed: Json | None = None
        self.truncated = False
        self.principal: Principal | None = None
        self.request_id = b"%s%06x" % (_RUN, next(_NUMBERS))
        self.answer_headers: list[tuple[bytes, bytes]] = [(b"x-request-id", self.request_id)]

    @property
    def from_edge(self) -> bool:
        """Whether the request came from outside, through the proxy."""
        return b"x-aistack-edge" in self.headers

    @property
    def query(self) -> dict[str, list[str]]:
        """What follows the `?`, decoded. Raises Refusal 400 for what no browser would send."""
        try:
            return parse_qs(self._incoming.query.decode("ascii"), keep_blank_values=True, max_num_fields=100)
        except ValueError as error:
            raise bad_request("the query string cannot be read") from error

    async def body(self, limit: int) -> bytes:
        """The request's body. Raises Refusal 413 beyond `limit` bytes, ClientGone when it is cut short."""
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit:
            raise await self._too_large(limit)
        parts: list[bytes] = []
        size = 0
        while piece := await self._piece():
            size += len(piece)
            if size > limit:
                raise await self._too_large(limit)
            parts.append(piece)
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
        while piece := await self._piece():
            yield piece

    async def _piece(self) -> bytes:
        try:
            return await self._incoming.piece()
        except ConnectionResetError as error:
            raise ClientGone from error

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
        self.request = body
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
        own = [(b"content-type", content_type)] if content_type else []
        self._incoming.answer(status, [*own, *self.answer_headers, *headers], body)

    async def start(self, status: int, content_type: bytes) -> None:
        """Begin an answer that is written in pieces."""
        self.status = status
        self.streams = True
        # nginx must hand every piece on at once, whatever its own settings.
        own = [(b"content-type", content_type), (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        self._incoming.begin(status, [*own, *self.answer_headers])

    async def write(self, piece: bytes) -> None:
        """One piece of the answer; waits while the client reads slower than we write."""
        if not self.first_byte_at:
            self.first_byte_at = time.perf_counter()
        await self._incoming.write(piece)

    async def end(self, piece: bytes = b"") -> None:
        """The last piece of the answer."""
        await self._incoming.end(piece)

    def placed(self, node: str, model: str, waited_s: float, ahead: int) -> None:
        """Note that `node` answers with `model`, after so long a wait behind `ahead` others; the answer tells."""
        self.node = node
        self.model = model
        if waited_s:
            self.waited_s += waited_s
            told = {b"x-aistack-queue-position": ahead + 1, b"x-aistack-queue-wait-ms": int(self.waited_s * 1000)}
            kept = [header for header in self.answer_headers if header[0] not in told]
            self.answer_headers = [*kept, *((name, b"%d" % value) for name, value in told.items())]

    async def while_connected(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work`; when the client goes, stop it at once and raise ClientGone."""
        task = self._incoming.task

        def leave() -> None:
            self._gone = True
            task.cancel()

        if self._incoming.gone:
            work.close()
            raise ClientGone
        self._incoming.on_gone = leave
        try:
            await work
        except asyncio.CancelledError:
            if not self._gone:
                raise
            task.uncancel()
            raise ClientGone from None
        finally:
            self._incoming.on_gone = None
