"""A chat completion told as Anthropic's message: whole, and as its stream of events. Pure."""

import secrets
from typing import Any

import orjson

from aistack.gateway.refusals import Refusal, anthropic_error
from aistack.gateway.translation.anthropic_requests import MessageRequest
from aistack.gateway.translation.chat import answer_in, tokens_in
from aistack.gateway.translation.events import EventTranslator
from aistack.gateway.translation.replies import thinking_of

Json = dict[str, Any]

_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'


def message(document: Any, request: MessageRequest, *, echoes: bool) -> Json:
    """The message for an engine's whole answer. Raises Refusal 502 when it is none.

    `echoes`: the engine repeats the beginning of the answer that the caller wrote, which Anthropic does not.
    """
    answer = answer_in(document)
    text = answer.text.removeprefix(request.prefill) if echoes else answer.text
    content: list[Json] = []
    if answer.thinking and request.shows_thinking:
        content.append({"type": "thinking", "thinking": answer.thinking, "signature": ""})
    if text:
        content.append({"type": "text", "text": text})
    for call in answer.calls:
        content += _tool_use(call)
    reason, sequence = _stopped(answer.reason, document["choices"][0], document)
    return {
        **_empty(request.model),
        "content": content,
        "stop_reason": "tool_use" if answer.calls and reason == "end_turn" else reason,
        "stop_sequence": sequence,
        "usage": _usage(*tokens_in(document.get("usage"))),
    }


class MessageStream(EventTranslator):
    """Anthropic's events. One content block is open at a time; what is of another kind closes it."""

    def __init__(self, request: MessageRequest) -> None:
        super().__init__()
        self._request = request
        self._index = -1
        self._block: str | int | None = None
        self._calls: set[int] = set()
        self._stop_sequence: str | None = None

    def begin(self) -> bytes:
        """The start of the message, whose counts only the end knows."""
        return _event("message_start", message=_empty(self._request.model)) + _PING

    def tell(self, choice: Json) -> bytes:
        """The deltas of one piece, between them what opens and closes blocks."""
        told = b""
        delta = choice["delta"]
        if self._request.shows_thinking and (thought := thinking_of(delta)):
            told += self._within("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            told += self._delta("thinking_delta", "thinking", thought)
        if text := delta.get("content"):
            told += self._within("text", {"type": "text", "text": ""}) + self._delta("text_delta", "text", text)
        for call in delta.get("tool_calls") or ():
            told += self._call(call)
        if choice.get("finish_reason"):
            _, self._stop_sequence = _stopped(choice["finish_reason"], choice, self.event)
        return told

    def end(self) -> bytes:
        """The end of the last block and of the message, with its counts."""
        reason = "stop_sequence" if self._stop_sequence is not None else _REASONS.get(self.reason or "", "end_turn")
        if self._calls and reason == "end_turn":
            reason = "tool_use"
        delta = {"stop_reason": reason, "stop_sequence": self._stop_sequence}
        usage = _usage(*tokens_in(self.usage))
        return self._close() + _event("message_delta", delta=delta, usage=usage) + _event("message_stop")

    def refuse(self, refusal: Refusal) -> bytes:
        """An error event."""
        return b"event: error\ndata: " + anthropic_error(refusal) + b"\n\n"

    def _within(self, block: str | int, start: Json) -> bytes:
        """What it takes that the block `block` is the open one."""
        if self._block == block:
            return b""
        closing = self._close()
        self._block = block
        self._index += 1
        return closing + _event("content_block_start", index=self._index, content_block=start)

    def _close(self) -> bytes:
        if self._block is None:
            return b""
        signed = self._delta("signature_delta", "signature", "") if self._block == "thinking" else b""
        self._block = None
        return signed + _event("content_block_stop", index=self._index)

    def _call(self, call: Json) -> bytes:
        function = call.get("function") or {}
        index: int = call.get("index", 0)
        if index in self._calls and index != self._block:
            raise ValueError("a closed block cannot go on")
        self._calls.add(index)
        identity = call.get("id") or _tool_id()
        told = self._within(index, {"type": "tool_use", "id": identity, "name": function.get("name"), "input": {}})
        arguments = function.get("arguments")
        return told + self._delta("input_json_delta", "partial_json", arguments) if arguments else told

    def _delta(self, kind: str, field: str, value: str) -> bytes:
        return _event("content_block_delta", index=self._index, delta={"type": kind, field: value})


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def _empty(model: str) -> Json:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(0, 0),
    }


def _usage(read: int, written: int) -> Json:
    """Counts in tokens. What the engine had in its cache counts as read: caching is not the caller's business here."""
    return {
        "input_tokens": read,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": written,
    }


def _stopped(reason: str, choice: Json, event: Json) -> tuple[str, str | None]:
    """Anthropic's stop reason, and the stop sequence that was met, where the engine tells which."""
    if reason == "stop":
        told = choice.get("stop_reason")  # vLLM
        verbose = event.get("__verbose")  # llama.cpp
        if isinstance(verbose, dict) and verbose.get("stop_type") == "word":
            told = verbose.get("stopping_word")
        if isinstance(told, str):
            return "stop_sequence", told
    return _REASONS.get(reason, "end_turn"), None


def _tool_use(call: Json) -> list[Json]:
    """A tool call as a block; arguments that were cut short and are no object stand as text beside it."""
    written = call.get("arguments") or "{}"
    try:
        arguments = orjson.loads(written)
    except orjson.JSONDecodeError:
        arguments = None
    found = isinstance(arguments, dict)
    block = {
        "type": "tool_use",
        "id": call["id"] or _tool_id(),
        "name": call.get("name") or "",
        "input": arguments if found else {},
    }
    return [block] if found else [{"type": "text", "text": written}, block]


def _tool_id() -> str:
    return f"toolu_{secrets.token_hex(12)}"
