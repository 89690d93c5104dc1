"""Talking to engine nodes: one shared session of kept-alive connections, and what its failures mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from yarl import URL

from aistack.gateway.refusals import Refusal, node_down
from aistack.gateway.settings import Node, read_secret

CONNECT_TIMEOUT_S = 5.0
# Between two bytes of an answer: a big model reading a long prompt on a slow machine is silent for long.
READ_TIMEOUT_S = 1800.0
# llama.cpp closes a connection that was idle for 5 s; ours must be the shorter patience.
KEEP_ALIVE_S = 4.0

_TOO_LONG = "too large to process"
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# What a broken connection or a silent peer raises, at any moment of an exchange.
FAILURES = (aiohttp.ClientError, TimeoutError, OSError)


def open_session() -> aiohttp.ClientSession:
    """The session that all requests share; to be closed by the caller. Needs a running loop."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept-Encoding", "Accept"),
        json_serialize=lambda value: orjson.dumps(value).decode(),
    )


class Peer:
    """One node as an HTTP peer: its addresses and the headers it wants, worked out once."""

    def __init__(self, node: Node, session: aiohttp.ClientSession) -> None:
        self.node = node
        self._session = session
        self._urls: dict[str, URL] = {}
        self._headers = {"content-type": "application/json", **_identity(node)}

    @asynccontextmanager
    async def request(
        self, method: str, path: str, data: Any = None, timeout_s: float | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; yields the answer with its headers read and its body still to come.

        `data` is bytes or an async iterator of bytes; `timeout_s` bounds the whole exchange (None: only
        connecting and silence are bounded). Leaving the block closes the connection when the body was
        not read to its end, which is how an engine learns to stop. Raises Refusal 503 when the node
        cannot be reached or breaks off before its answer began, 504 when it is silent for too long.
        """
        options: dict[str, Any] = {}
        if timeout_s is not None:
            options["timeout"] = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        try:
            response = await self._session.request(
                method, self._url(path), data=data, headers=self._headers, allow_redirects=False, **options
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise node_down(self.node.name) from error
        except TimeoutError as error:
            raise _silent(self.node) from error
        except (aiohttp.ClientError, OSError) as error:
            raise node_down(self.node.name) from error
        async with response:
            yield response

    async def json(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Any:
        """The JSON that the node answers with. Raises Refusal: the node's own error, or 502, 503, 504."""
        data = None if body is None else orjson.dumps(body)
        async with self.request(method, path, data, timeout_s) as response:
            return parsed(await whole(response, self.node), self.node)

    def _url(self, path: str) -> URL:
        url = self._urls.get(path)
        if url is None:
            url = URL(self.node.url + path, encoded=True)
            # Paths with a model's name or a digest in them are without number; those are not kept.
            if len(self._urls) < 64:
                self._urls[path] = url
        return url


async def whole(response: aiohttp.ClientResponse, node: Node) -> bytes:
    """The whole body of a good answer. Raises Refusal: the node's own error, or 502 when it breaks off."""
    if response.status >= 300:
        raise await refusal_of(response, node)
    try:
        return await response.read()
    except FAILURES as error:
        raise broke_off(node) from error


def parsed(body: bytes, node: Node) -> Any:
    """The JSON in `body`. Raises Refusal 502 when it is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        message = f"engine node '{node.name}' answered with something that is not JSON"
        raise _failure(502, message, node) from error


async def refusal_of(response: aiohttp.ClientResponse, node: Node) -> Refusal:
    """What a node's error answer means for our client.

    The node's refusal of our own key is no fault of the client: 401 and 403 become 502.
    """
    try:
        body = await response.read()
    except FAILURES:
        body = b""
    status = response.status
    if status in (401, 403):
        return _failure(502, f"engine node '{node.name}' refuses the gateway's key", node)
    if status < 400:
        return _failure(502, f"engine node '{node.name}' redirects elsewhere", node)
    message, code = message_in(body)
    if _TOO_LONG in message:
        # llama.cpp says 500, and clients would try the same text again.
        status, code = 400, "context_length_exceeded"
    message = message or f"engine node '{node.name}' answered with status {status}"
    retry_after = response.headers.get("retry-after")
    headers = ((b"retry-after", retry_after.encode("latin-1")),) if retry_after else ()
    return Refusal(status, message, code, headers, node.name)


def message_in(body: bytes) -> tuple[str, str | None]:
    """Message and code in an error body of OpenAI's or Ollama's shape; empty when there is none."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "", None
    error = document.get("error") if isinstance(document, dict) else None
    if isinstance(error, str):
        return error, None
    if isinstance(error, dict):
        code = error.get("code")
        return str(error.get("message") or ""), code if isinstance(code, str) else None
    return "", None


def broke_off(node: Node) -> Refusal:
    """502: the node went away in the middle of its answer."""
    return _failure(502, f"engine node '{node.name}' stopped in the middle of its answer", node)


def _silent(node: Node) -> Refusal:
    return _failure(504, f"engine node '{node.name}' took too long to answer", node)


def _failure(status: int, message: str, node: Node) -> Refusal:
    return Refusal(status, message, "engine_failed", node=node.name)


def _identity(node: Node) -> dict[str, str]:
    headers: dict[str, str] = {}
    if node.key_file is not None:
        headers["authorization"] = f"Bearer {read_secret(node.key_file)}"
    url = URL(node.url)
    if node.kind == "ollama" and url.host in _LOOPBACK:
        # An Ollama bound to loopback answers 403 to host names that it does not know.
        headers["host"] = f"localhost:{url.port}"
    return headers
