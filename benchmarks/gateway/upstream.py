"""The engine that all peers stand before: answers at once, in llama.cpp's own shapes, as cheaply as Python can.

    python -m benchmarks.gateway.upstream PORT

What is to come back is said in the prompt, so that it passes every surface: `100 chunks at 50 a second` makes a
stream of so many pieces of text, numbered `t000000`, `t000001`, ... (at 0 a second: all at once).
"""

import asyncio
import re
import sys
from collections.abc import Callable
from typing import cast

import httptools
import orjson
import uvloop

MODEL = "bench"
_WISH = re.compile(rb"(\d+) chunks at (\d+) a second")
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_COUNTED = re.compile(rb'"include_usage"\s*:\s*true')
_PROMPT_TOKENS = 25
_ID = "chatcmpl-Yk2v5VnXo3mJ0bQd8Zr1sT6uWa9eLcHf"
_FINGERPRINT = "b6915-f8f0713a4"
_TIMINGS = {
    "cache_n": 0, "prompt_n": 25, "prompt_ms": 41.137, "prompt_per_token_ms": 1.64548,
    "prompt_per_second": 607.725, "predicted_n": 32, "predicted_ms": 318.402,
    "predicted_per_token_ms": 9.9500625, "predicted_per_second": 100.501,
}  # fmt: skip
_HEAD = b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"


def _json_answer(document: object) -> bytes:
    body = orjson.dumps(document)
    return _HEAD + b"Content-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _usage(written: int) -> dict[str, object]:
    return {
        "completion_tokens": written,
        "prompt_tokens": _PROMPT_TOKENS,
        "total_tokens": _PROMPT_TOKENS + written,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


_MODELS = _json_answer({
    "object": "list",
    "data": [{
        "id": MODEL, "object": "model", "created": 1764000000, "owned_by": "llamacpp",
        "meta": {"context_length": 8192, "slots": 1024, "slot_context": 8192, "loaded": True, "size": 1 << 30},
    }],
})  # fmt: skip
_WHOLE = _json_answer({
    "choices": [{
        "finish_reason": "stop", "index": 0,
        "message": {"role": "assistant", "content": "The quick brown fox jumps over the lazy dog. " * 3},
    }],
    "created": 1764000000, "model": MODEL, "system_fingerprint": _FINGERPRINT, "object": "chat.completion",
    "usage": _usage(32), "id": _ID, "timings": _TIMINGS,
})  # fmt: skip
_VECTOR = _json_answer({
    "model": MODEL, "object": "list", "usage": {"prompt_tokens": 8, "total_tokens": 8},
    "data": [{"embedding": [0.015625] * 384, "index": 0, "object": "embedding"}],
})  # fmt: skip
_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_STREAM_HEAD = _HEAD + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def _event(choices: list[dict[str, object]], **more: object) -> bytes:
    document = {
        "choices": choices, "created": 1764000000, "id": _ID, "model": MODEL,
        "system_fingerprint": _FINGERPRINT, "object": "chat.completion.chunk", **more,
    }  # fmt: skip
    return b"data: " + orjson.dumps(document) + b"\n\n"


def _delta(delta: dict[str, object], reason: str | None = None) -> bytes:
    return _event([{"finish_reason": reason, "index": 0, "delta": delta}])


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_FIRST = _chunk(_delta({"role": "assistant", "content": None}))
_STOP = _chunk(_delta({}, "stop"))
_DONE = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
_TEXT = _chunk(_delta({"content": " t000000"}))
_BEFORE, _AFTER = _TEXT.split(b"t000000")


class Upstream(asyncio.Protocol):
    """One kept-alive connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A proxy or client has come."""
        self._transport = cast("asyncio.Transport", transport)
        self._write: Callable[[bytes], None] = self._transport.write
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._path = b""
        self._body = b""

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """The request's path."""
        self._path = url
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Some of the request's body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        if self._path.startswith((b"/v1/chat/completions", b"/v1/completions")):
            if _STREAMED.search(self._body):
                self._stream()
            else:
                self._write(_WHOLE)
        elif self._path.startswith(b"/v1/embeddings"):
            self._write(_VECTOR)
        else:
            self._write(_MODELS if self._path == b"/v1/models" else _NOT_FOUND)

    def _stream(self) -> None:
        wish = _WISH.search(self._body)
        count, rate = (int(wish[1]), int(wish[2])) if wish else (32, 0)
        counted = _COUNTED.search(self._body) is not None
        self._write(_STREAM_HEAD + _FIRST)
        if rate:
            period = 1 / rate
            self._loop.call_later(period, self._tick, 0, count, period, self._loop.time() + period, counted)
            return
        for number in range(count):
            self._write(b"%st%06d%s" % (_BEFORE, number, _AFTER))
        self._end(count, counted)

    def _tick(self, number: int, count: int, period: float, due: float, counted: bool) -> None:
        if self._transport.is_closing():
            return
        self._write(b"%st%06d%s" % (_BEFORE, number, _AFTER))
        if number + 1 == count:
            self._end(count, counted)
            return
        due += period
        # A late piece does not make the next ones late.
        self._loop.call_later(max(due - self._loop.time(), 0), self._tick, number + 1, count, period, due, counted)

    def _end(self, count: int, counted: bool) -> None:
        usage = _chunk(_event([], usage=_usage(count), timings=_TIMINGS)) if counted else b""
        self._write(_STOP + usage + _DONE)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
