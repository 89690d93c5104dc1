"""An engine's stream of chat completion events, read piece by piece; each surface tells it again in its own way."""

from typing import Any

import orjson

from aistack.gateway.refusals import Refusal

Json = dict[str, Any]

# What reading an event that is not shaped like one raises.
_MISSHAPEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class EventTranslator:
    """Takes bytes of server-sent events in any cut, gives bytes of the surface's stream.

    Feed every piece to `feed` and send what it returns; when the engine's stream has ended, whichever
    way, send what `finish` returns: the proper end, or an error when the engine never said that it was
    done. `finished` is true once nothing more may be sent. `usage`, `timings` and `reason` (the finish
    reason) are the engine's own, as far as it has told them; `event` is the one being told.
    """

    def __init__(self) -> None:
        self.finished = False
        self.reason: str | None = None
        self.usage: Any = None
        self.timings: Any = None
        self.event: Json = {}
        self._rest = b""
        self._begun = False

    def begin(self) -> bytes:
        """What comes before everything else, but for an error."""
        return b""

    def tell(self, choice: Json) -> bytes:
        """What one event's first choice says."""
        raise NotImplementedError

    def end(self) -> bytes:
        """The proper end."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> bytes:
        """The end of a stream that failed."""
        raise NotImplementedError

    def feed(self, piece: bytes) -> bytes:
        """What `piece` completes; often one event, sometimes nothing."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return b"".join([self._take(line) for line in lines if line.startswith(b"data:")])

    def finish(self, failure: Refusal) -> bytes:
        """The end of the stream; `failure` is what to say when it ended too early."""
        ending = self._unended_event()
        if self.finished:
            return ending
        self.finished = True
        if self.reason is None:
            return ending + self.refuse(failure)
        return ending + self._opening() + self.end()

    def whole(self, document: Json) -> bytes:
        """The stream of an engine that does not stream: its whole answer is the one event."""
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice["delta"] = choice.pop("message", None) or {}
            for index, call in enumerate(delta.get("tool_calls") or ()):
                call.setdefault("index", index)
        return self.feed(b"data: " + orjson.dumps(document) + b"\n")

    def _opening(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self.begin()

    def _unended_event(self) -> bytes:
        """The last event of a server that does not end its last line; nothing when it was cut short."""
        rest, self._rest = self._rest, b""
        whole = rest.startswith(b"data:") and rest.rstrip().endswith((b"}", b"[DONE]"))
        return self._take(rest) if whole else b""

    def _take(self, line: bytes) -> bytes:
        data = line[5:].strip()
        if self.finished:
            return b""
        if data == b"[DONE]":
            self.reason = self.reason or "stop"
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
        self.timings = event.get("timings") or self.timings
        self.event = event
        choices = event.get("choices")
        try:
            return self._opening() + self._choice(choices[0]) if choices else b""
        except _MISSHAPEN:
            return self._failed("the engine's stream holds something that is not an event")

    def _choice(self, choice: Json) -> bytes:
        self.reason = choice.get("finish_reason") or self.reason
        return self.tell(choice)

    def _failed(self, message: str) -> bytes:
        self.finished = True
        return self.refuse(Refusal(502, message))
