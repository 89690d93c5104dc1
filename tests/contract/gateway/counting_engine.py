"""An engine that keeps exact books of the tokens it told, for a test that holds the gateway's books against them."""

import asyncio
import contextlib
import json
import random
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

from .scripted import chunk, event, stream_head

KINDS = ("llamacpp", "ollama", "openai")
_WISH = re.compile(rb"request (\d+): (\w+)")
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
_LISTS: dict[str, Any] = {
    "/llamacpp/v1/models": {"data": [{"id": "llamacpp", "meta": {"loaded": True}}]},
    "/ollama/api/tags": {"models": [{"name": "ollama", "model": "ollama"}]},
    "/openai/v1/models": {"data": [{"id": "openai"}]},
}


class CountingEngine:
    """Serves a node of each kind below a path of that name, with one model that is named so too.

    A request's text says which it is and what shall become of it: `request 7: answer`. `asked` are the requests that
    came, `told` the tokens read and written that were told for each. What can become of one:

    - `answer` it is answered, streamed where that is wanted
    - `slowly` the same, in pieces with moments between
    - `fail`   it gets an error
    - `breaks` the connection is cut in the middle of the answer
    - `breaks_late` the same, but the counts were told
    - `stay`   nothing more comes than a stream's first piece, until the gateway hangs up
    - `stay_late` the same, but all is told, the counts too
    """

    def __init__(self, seed: int) -> None:
        self.asked: set[int] = set()
        self.told: dict[int, tuple[int, int]] = {}
        self.arrived: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self.left: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._random = random.Random(seed)
        self._connections: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Listen; gives the URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for connection in self._connections:
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.transport.abort()
        self._connections.discard(task)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer a request; returns whether the connection is good for another."""
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ", 2)[1].decode()
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if not (wish := _WISH.search(body)):
            writer.write(_whole(_LISTS[path]) if path in _LISTS else _whole({"error": "nothing here"}, 404))
            return True
        number, fate = int(wish[1]), wish[2].decode()
        self.asked.add(number)
        self.arrived[number].set()
        if fate == "fail":
            writer.write(_whole({"error": {"message": "out of memory"}}, self._random.choice((400, 500, 503))))
            return True
        await self._answer(number, fate, _Words(path, json.loads(body)), reader, writer)
        return fate in ("answer", "slowly")

    async def _answer(
        self, number: int, fate: str, words: "_Words", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        counts = (self._random.randint(1, 4000), 0 if words.embeds else self._random.randint(2, 900))
        if words.streams:
            pieces = [stream_head(words.media_type) + chunk(words.first()), chunk(words.last(*counts)),
                      (chunk(words.done) if words.done else b"") + chunk(b"")]  # fmt: skip
        else:
            whole = _whole(words.whole(*counts))
            pieces = [b"", whole[:-20], whole[-20:]]
        if fate == "stay_late":
            pieces[:2] = [b"".join(pieces[:2])]
        sent = {"stay": 1, "stay_late": 1, "breaks": 1, "breaks_late": 2}.get(fate, 3)
        if fate == "breaks" and not words.streams:
            sent = 2
        elif fate not in ("stay", "breaks"):
            self.told[number] = counts
        for piece in pieces[:sent] if fate == "slowly" else [b"".join(pieces[:sent])]:
            writer.write(piece)
            await writer.drain()
            if fate == "slowly":
                await asyncio.sleep(self._random.random() * 0.01)
        if fate.startswith("stay"):
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            self.left[number].set()


class _Words:
    """How an operation's answers look."""

    def __init__(self, path: str, body: dict[str, Any]) -> None:
        _, self._kind, api, self._operation = path.split("/", 3)
        self._native = api == "api"
        self.embeds = self._operation.startswith("embed")
        self.streams = not self.embeds and bool(body.get("stream", self._native))
        self.media_type = "application/x-ndjson" if self._native else "text/event-stream"
        self.done = b"" if self._native else b"data: [DONE]\n\n"
        self._counted = bool((body.get("stream_options") or {}).get("include_usage"))

    def first(self) -> bytes:
        if self._native:
            return self._line(done=False)
        return event(choices=[self._choice("delta", None)])

    def last(self, read: int, written: int) -> bytes:
        if self._native:
            return self._line(done=True, prompt_eval_count=read, eval_count=written)
        ended = event(choices=[self._choice("delta", "stop")])
        return ended + event(choices=[], usage=_usage(read, written)) if self._counted else ended

    def whole(self, read: int, written: int) -> dict[str, Any]:
        if self._native and self.embeds:
            return {"model": self._kind, "embeddings": [[0.5, 0.25]], "prompt_eval_count": read}
        if self._native:
            return {**json.loads(self._line(done=True)), "prompt_eval_count": read, "eval_count": written}
        if self.embeds:
            vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
            return {"data": [vector], "usage": {"prompt_tokens": read, "total_tokens": read}}
        return {"choices": [self._choice("message", "stop")], "usage": _usage(read, written)}

    def _choice(self, member: str, reason: str | None) -> dict[str, Any]:
        said = {member: {"role": "assistant", "content": "yes"}} if "chat" in self._operation else {"text": "yes"}
        return {"index": 0, "finish_reason": reason, **said}

    def _line(self, **more: Any) -> bytes:
        # Numbers that a model made up.
        call = {"function": {"name": "tell", "arguments": {"usage": {"prompt_tokens": 1}, "eval_count": 1}}}
        said = {"message": {"role": "assistant", "content": "yes", "tool_calls": [call]}, "response": "yes"}
        return json.dumps({"model": self._kind, **said, **more}).encode() + b"\n"


def _usage(read: int, written: int) -> dict[str, Any]:
    counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    return {**counts, "prompt_tokens_details": {"cached_tokens": read // 2}}


def _whole(document: Any, status: int = 200) -> bytes:
    body = json.dumps(document).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body
