"""Talking to engine nodes: one pool of kept-alive connections each, and what their failures mean."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from aistack.errors import ConfigError
from aistack.gateway.http_client import FAILURES, Answer, ConnectTimeout, HttpClient
from aistack.gateway.refusals import KEY_REFUSED, Refusal, node_down
from aistack.gateway.settings import Node, read_secret
from aistack.gateway.translation.fields import encoded

CONNECT_TIMEOUT_S = 5.0
# Between two bytes of an answer: a big model reading a long prompt on a slow machine is silent for long.
READ_TIMEOUT_S = 1800.0
# llama.cpp closes a connection that was idle for 5 s; ours must be the shorter patience.
KEEP_ALIVE_S = 4.0

_TOO_LONG = "too large to process"
# What llama.cpp says, with 500, about mistakes of the caller.
_MISTAKES = ("Failed to parse ", "input is not supported")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def open_client(url: str) -> HttpClient:
    """A client with our patience for the host of `url`; to be closed by the caller."""
    return HttpClient(url, connect_s=CONNECT_TIMEOUT_S, silence_s=READ_TIMEOUT_S, idle_s=KEEP_ALIVE_S)


class Peer:
    """One node as an HTTP peer: what its requests begin with, worked out once."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._client = open_client(node.url)
        self._root = urlsplit(node.url).path
        self._headers = _headers(node)
        self._heads: dict[tuple[str, str], bytes] = {}

    def request(self, method: str, path: str, data: bytes | AsyncIterator[bytes] | None = None) -> "Asking":
        """A request, sent by entering it (`async with`), which gives the answer with its headers read and its body
        still to come. Leaving closes the connection when the body was not read to its end, which is how an engine
        learns to stop.

        Entering raises Refusal 503 when the node cannot be reached or breaks off before its answer began, 504 when
        it is silent for too long.
        """
        return Asking(self.node, self._client, self._head(method, path), data, has_body=method != "HEAD")

    async def json(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Any:
        """The JSON that the node answers with; `timeout_s` bounds the whole exchange (None: only connecting and
        silence are bounded). Raises Refusal: 400, the node's own error, or 502 to 504."""
        data = None if body is None else encoded(body)
        try:
            async with asyncio.timeout(timeout_s), self.request(method, path, data) as response:
                return parsed(await whole(response, self.node), self.node)
        except TimeoutError as error:
            raise _silent(self.node) from error

    def close(self) -> None:
        """Close the connections that nobody uses, and the others as soon as nobody does."""
        self._client.close()

    def _head(self, method: str, path: str) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            # A model's name may stand in a path; what is quoted already stays so.
            target = quote(self._root + path, safe="/%?=&:@+,;~!$'()*")
            head = f"{method} {target} HTTP/1.1\r\n{self._headers}".encode("latin-1")
            # Paths with a model's name or a digest in them are without number; those are not kept.
            if len(self._heads) < 64:
                self._heads[method, path] = head
        return head


class Asking:
    """One request to a node, for as long as its answer is of interest."""

    __slots__ = ("_answer", "_client", "_data", "_has_body", "_head", "_node")

    def __init__(
        self, node: Node, client: HttpClient, head: bytes, data: bytes | AsyncIterator[bytes] | None, *, has_body: bool
    ) -> None:
        self._node = node
        self._client = client
        self._head = head
        self._data = data
        self._has_body = has_body

    async def __aenter__(self) -> Answer:
        try:
            self._answer = await self._client.send(self._head, self._data, has_body=self._has_body)
        except ConnectTimeout as error:
            raise node_down(self._node.name) from error
        except TimeoutError as error:
            raise _silent(self._node) from error
        except OSError as error:
            raise node_down(self._node.name) from error
        return self._answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answer.close()


async def whole(response: Answer, node: Node) -> bytes:
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


async def refusal_of(response: Answer, node: Node) -> Refusal:
    """What a node's error answer means for our client.

    The node's refusal of our own key is no fault of the client: 401 and 403 become 502.
    """
    try:
        body = await response.read()
    except FAILURES:
        body = b""
    status = response.status
    if status in (401, 403):
        lacking = "refuses the gateway's key" if node.key_file else "wants a key, and the gateway has none for it"
        return Refusal(502, f"engine node '{node.name}' {lacking}", KEY_REFUSED, node=node.name)
    if status < 400:
        return _failure(502, f"engine node '{node.name}' redirects elsewhere", node)
    message, code = message_in(body)
    if _TOO_LONG in message:
        # llama.cpp says 500, and clients would try the same text again.
        status, code = 400, "context_length_exceeded"
    elif status == 500 and any(mistake in message for mistake in _MISTAKES):
        status = 400
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


def _headers(node: Node) -> str:
    url = urlsplit(node.url)
    # An Ollama bound to loopback answers 403 to host names that it does not know.
    host = f"localhost:{url.port}" if node.kind == "ollama" and url.hostname in _LOOPBACK else url.netloc
    key = "" if node.key_file is None else f"authorization: Bearer {_key(node.key_file)}\r\n"
    return f"host: {host}\r\ncontent-type: application/json\r\n{key}"


def _key(path: Path) -> str:
    key = read_secret(path)
    if not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"the key in {path} is not one line of ASCII", "write the node's key into it, and nothing else"
        )
    return key
