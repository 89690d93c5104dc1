"""An engine's stream of events told again as Ollama's lines."""

from typing import Any

import orjson

from aistack.gateway.refusals import Refusal, ollama_error
from aistack.gateway.translation import replies
from aistack.gateway.translation.events import EventTranslator
from aistack.gateway.translation.messages import calls_to_ollama
from aistack.gateway.translation.replies import Said, Shape

Json = dict[str, Any]

_EMPTY = Said()


class LineStream(EventTranslator):
    """Lines of NDJSON. `model` is the name that the caller gave it, `started_at` a `time.perf_counter()`."""

    def __init__(self, model: str, shape: Shape, started_at: float) -> None:
        super().__init__()
        self._model = model
        self._shape = shape
        self._started_at = started_at
        self._calls: dict[int, Json] = {}

    def tell(self, choice: Json) -> bytes:
        """The line of a piece of text; of tool calls only whole ones are told."""
        delta = choice.get("delta")
        if delta is None:
            return self._line(Said(choice.get("text") or "", logprobs=replies.logprobs_of(choice)))
        for call in delta.get("tool_calls") or ():
            self._gather(call)
        return self._line(
            Said(delta.get("content") or "", replies.thinking_of(delta), logprobs=replies.logprobs_of(choice))
        )

    def end(self) -> bytes:
        """The tool calls, and the last line with the counts."""
        closing = replies.closing(self.reason, self.usage, self.timings, self._started_at)
        return self._told_calls() + _dumped({**replies.opening(self._model), **self._shape(_EMPTY), **closing})

    def refuse(self, refusal: Refusal) -> bytes:
        """An error's line."""
        return ollama_error(refusal) + b"\n"

    def _gather(self, call: Json) -> None:
        """Put a fragment of a tool call to those before it."""
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


def _dumped(line: Json) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
