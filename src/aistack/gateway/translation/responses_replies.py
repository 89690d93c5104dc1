"""A chat completion told as OpenAI's response: whole, and as its stream of events. Pure."""

import secrets
from typing import Any

import orjson

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation.chat import answer_in, tokens_in
from aistack.gateway.translation.events import EventTranslator
from aistack.gateway.translation.replies import thinking_of
from aistack.gateway.translation.responses_requests import ResponseRequest

Json = dict[str, Any]


def response(document: Any, request: ResponseRequest) -> Json:
    """The response for an engine's whole answer. Raises Refusal 502 when it is none."""
    answer = answer_in(document)
    output: list[Json] = []
    if answer.thinking:
        output.append(_finished(_reasoning(), answer.thinking))
    if answer.text or not answer.calls:
        output.append(_finished(_message(), answer.text, answer.logprobs))
    output += [_finished(_function_call(call), call.get("arguments") or "") for call in answer.calls]
    return _closed(request, answer.reason, output, document.get("usage"))


class ResponseStream(EventTranslator):
    """OpenAI's events. One output item is open at a time; what belongs to another closes it."""

    def __init__(self, request: ResponseRequest) -> None:
        super().__init__()
        self._request = request
        self._sequence = -1
        self._output: list[Json] = []
        self._item: Json | None = None
        self._of: str | int | None = None
        self._calls: set[int] = set()
        self._written: list[str] = []
        self._logprobs: list[Json] = []

    def begin(self) -> bytes:
        """The start of the response."""
        shell = self._request.shell
        return self._event("response.created", response=shell) + self._event("response.in_progress", response=shell)

    def tell(self, choice: Json) -> bytes:
        """The deltas of one piece, between them what opens and closes items."""
        told = b""
        delta = choice["delta"]
        if thought := thinking_of(delta):
            told += self._within("reasoning", _reasoning) + self._delta("response.reasoning_text.delta", thought)
        if text := delta.get("content"):
            logprobs = (choice.get("logprobs") or {}).get("content") or []
            self._logprobs += logprobs
            told += self._within("message", _message)
            told += self._delta("response.output_text.delta", text, logprobs=logprobs)
        for call in delta.get("tool_calls") or ():
            told += self._call(call)
        return told

    def end(self) -> bytes:
        """The end of the last item, and the whole response."""
        told = self._within("message", _message) if not self._output and self._item is None else b""
        told += self._close()
        closed = _closed(self._request, self.reason or "stop", self._output, self.usage)
        return told + self._event(f"response.{closed['status']}", response=closed)

    def refuse(self, refusal: Refusal) -> bytes:
        """The response as one that failed."""
        failed = {
            **self._request.shell,
            "status": "failed",
            "output": self._output,
            "error": {"code": "server_error", "message": refusal.message},
        }
        return self._opening() + self._event("response.failed", response=failed)

    def _within(self, of: str | int, make: Any) -> bytes:
        """What it takes that the item of `of`, which `make` makes, is the open one."""
        if self._of == of:
            return b""
        told = self._close()
        self._of, self._item = of, make()
        place = len(self._output)
        told += self._event("response.output_item.added", output_index=place, item=self._item)
        if self._item["type"] == "function_call":
            return told
        return told + self._part("added", _part(self._item, "", []))

    def _close(self) -> bytes:
        """The end of the open item, if one is open."""
        if self._item is None:
            return b""
        text = "".join(self._written)
        item = _finished(self._item, text, self._logprobs)
        if item["type"] == "function_call":
            told = self._on_item("response.function_call_arguments.done", name=item["name"], arguments=text)
        else:
            kind, part = item["content"][0]["type"], item["content"][0]
            more = {"logprobs": part["logprobs"]} if kind == "output_text" else {}
            told = self._on_item(f"response.{kind}.done", content_index=0, text=text, **more)
            told += self._part("done", part)
        told += self._event("response.output_item.done", output_index=len(self._output), item=item)
        self._output.append(item)
        self._item = self._of = None
        self._written, self._logprobs = [], []
        return told

    def _call(self, call: Json) -> bytes:
        index: int = call.get("index", 0)
        if index in self._calls and index != self._of:
            raise ValueError("a closed item cannot go on")
        self._calls.add(index)
        function = call.get("function") or {}
        told = self._within(index, lambda: _function_call({"id": call.get("id"), **function}))
        arguments = function.get("arguments")
        if not arguments:
            return told
        self._written.append(arguments)
        return told + self._on_item("response.function_call_arguments.delta", delta=arguments)

    def _delta(self, kind: str, text: str, **more: Any) -> bytes:
        self._written.append(text)
        return self._on_item(kind, content_index=0, delta=text, **more)

    def _part(self, what: str, part: Json) -> bytes:
        return self._on_item(f"response.content_part.{what}", content_index=0, part=part)

    def _on_item(self, kind: str, **fields: Any) -> bytes:
        assert self._item is not None
        return self._event(kind, item_id=self._item["id"], output_index=len(self._output), **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        data = orjson.dumps({"type": kind, "sequence_number": self._sequence, **fields})
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


def _reasoning() -> Json:
    return {"id": f"rs_{secrets.token_hex(12)}", "type": "reasoning", "summary": [], "status": "in_progress"}


def _message() -> Json:
    item = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "status": "in_progress"}
    return {**item, "content": []}


def _function_call(function: Json) -> Json:
    return {
        "id": f"fc_{secrets.token_hex(12)}",
        "type": "function_call",
        "call_id": function.get("id") or f"call_{secrets.token_hex(12)}",
        "name": function.get("name") or "",
        "arguments": "",
        "status": "in_progress",
    }


def _part(item: Json, text: str, logprobs: list[Json]) -> Json:
    if item["type"] == "reasoning":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _finished(item: Json, text: str, logprobs: list[Json] | None = None) -> Json:
    """The item with all that was written in it."""
    if item["type"] == "function_call":
        return {**item, "arguments": text, "status": "completed"}
    return {**item, "content": [_part(item, text, logprobs or [])], "status": "completed"}


def _closed(request: ResponseRequest, reason: str, output: list[Json], usage: Any) -> Json:
    """The whole response. What ended for want of tokens, or was withheld, is incomplete, and so is its last item."""
    cause = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(reason)
    status = "incomplete" if cause else "completed"
    if cause and output:
        output = [*output[:-1], {**output[-1], "status": status}]
    details = {"incomplete_details": {"reason": cause}} if cause else {}
    return {**request.shell, "status": status, **details, "output": output, "usage": _usage(usage)}


def _usage(usage: Any) -> Json:
    read, written = tokens_in(usage)
    told = usage if isinstance(usage, dict) else {}
    reads, writes = told.get("prompt_tokens_details"), told.get("completion_tokens_details")
    cached = reads.get("cached_tokens") if isinstance(reads, dict) else 0
    thought = writes.get("reasoning_tokens") if isinstance(writes, dict) else 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached or 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought or 0},
        "total_tokens": read + written,
    }
