"""An OpenAI-speaking engine's stream of events, read piece by piece and told again as Ollama's lines."""

from typing import Any

import orjson

from aistack.gateway.refusals import Refusal, ollama_error
from aistack.gateway.translation import replies
from aistack.gateway.translation.messages import calls_to_ollama
from aistack.gateway.translation.replies import Said, Shape

Json = dict[str, Any]

_EMPTY = Said()


class LineStream:
    """Takes bytes of server-sent events in any cut, gives lines of NDJSON.

    Feed every piece to `feed` and send what it returns; when the engine's stream has ended, whichever
    way, send what `finish` returns: the last line with the counts, or an error when the engine never
    said that it was done. `finished` is true once nothing more may be sent; `usage` is what the engine counted.
    """

    def __init__(self, model: str, shape: Shape, started_at: float) -> None:
        self._model = model
        self._shape = shape
        self._started_at = started_at
        self._rest = b""
        self._calls: dict[int, Json] = {}
        self._reason: str | None = None
        self.usage: Any = None
        self._timings: Any = None
        self.finished = False

    def feed(self, piece: bytes) -> bytes:
        """The lines that `piece` completes; often one, sometimes none."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return b"".join([self._event(line) for line in lines if line.startswith(b"data:")])

    def finish(self, failure: Refusal) -> bytes:
        """The end of the stream; `failure` is what to say when it ended too early."""
        ending = self._unended_event()
        if self.finished:
            return ending
        self.finished = True
        if self._reason is None:
            return ending + ollama_error(failure) + b"\n"
        return ending + self._told_calls() + self._last_line()

    def _unended_event(self) -> bytes:
        """The last event of a server that does not end its last line; nothing when it was cut short."""
        rest, self._rest = self._rest, b""
        whole = rest.startswith(b"data:") and rest.rstrip().endswith((b"}", b"[DONE]"))
        return self._event(rest) if whole else b""

    def _event(self, line: bytes) -> bytes:
        data = line[5:].strip()
        if self.finished:
            return b""
        if data == b"[DONE]":
            self._reason = self._reason or "stop"
            return b""
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return self._failed("the engine's stream holds something that is not JSON")
        if not isinstance(event, dict):
            return self._failed("the engine's stream holds something that is not an event")
        if error := event.get("error"):
            message = error.get("message") if isinstance(error, dict) else error
            return self._failed(str(message))
        self.usage = event.get("usage") or self.usage
        self._timings = event.get("timings") or self._timings
        choices = event.get("choices")
        return self._choice(choices[0]) if choices else b""

    def _choice(self, choice: Json) -> bytes:
        self._reason = choice.get("finish_reason") or self._reason
        delta = choice.get("delta")
        if delta is None:
            return self._line(Said(choice.get("text") or "", logprobs=replies.logprobs_of(choice)))
        for call in delta.get("tool_calls") or ():
            self._gather(call)
        return self._line(
            Said(delta.get("content") or "", replies.thinking_of(delta), logprobs=replies.logprobs_of(choice))
        )

    def _gather(self, call: Json) -> None:
        """Put a fragment of a tool call to those before it; only a whole call is told."""
        gathered = self._calls.setdefault(call.get("index", 0), {"id": "", "function": {"name": "", "arguments": ""}})
        function = call.get("function") or {}
        gathered["id"] = call.get("id") or gathered["id"]
        gathered["function"]["name"] += function.get("name") or ""
        gathered["function"]["arguments"] += function.get("arguments") or ""

    def _told_calls(self) -> bytes:
        if not self._calls:
            return b""
        calls, unreadable = calls_to_ollama([self._calls[index] for index in sorted(self._calls)])
        return self._line(Said(unreadable, tool_calls=calls))

    def _line(self, said: Said) -> bytes:
        if said == _EMPTY:
            return b""
        return _dumped({**replies.opening(self._model), **self._shape(said), "done": False})

    def _last_line(self) -> bytes:
        closing = replies.closing(self._reason, self.usage, self._timings, self._started_at)
        return _dumped({**replies.opening(self._model), **self._shape(_EMPTY), **closing})

    def _failed(self, message: str) -> bytes:
        self.finished = True
        return ollama_error(Refusal(502, message)) + b"\n"


def _dumped(line: Json) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
