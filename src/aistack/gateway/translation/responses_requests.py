"""OpenAI's request for a response as a chat completion. Pure."""

import secrets
import time
from dataclasses import dataclass
from typing import Any

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation import chat
from aistack.gateway.translation.chat import ChatRequest
from aistack.gateway.translation.fields import Fields
from aistack.gateway.translation.responses_items import messages_of

Json = dict[str, Any]

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# What would need something kept here from one request to the next, or somebody who works on it in between.
_KEPT = ("previous_response_id", "conversation", "prompt")


@dataclass(frozen=True)
class ResponseRequest:
    """A request for a response: what the engine is sent, and `shell`, what every response to it begins as."""

    model: str
    chat: ChatRequest
    streamed: bool
    shell: Json


def read(body: Json) -> ResponseRequest:
    """What the body of `/v1/responses` asks for. Raises Refusal 400."""
    fields = Fields(body)
    model = fields.needed_text("model")
    for name in _KEPT:
        if body.get(name) is not None:
            raise Refusal(400, f"{name} is not supported: nothing is kept here between requests", "unsupported_value")
    if fields.flag("background"):
        raise Refusal(400, "background is not supported: a response comes with its request", "unsupported_value")
    tools, choice = _tools(fields)
    effort, thinking = _reasoning(fields)
    text, output_format = _text(fields)
    streamed = fields.flag("stream") or False
    common = {
        "messages": messages_of(fields),
        **chat.sampling(
            max_tokens=fields.count("max_output_tokens", least=1),
            temperature=fields.number("temperature"),
            top_p=fields.number("top_p"),
            parallel_tool_calls=fields.flag("parallel_tool_calls") if tools else None,
        ),
        **choice,
        **output_format,
        **_log_probabilities(fields),
        **chat.streaming(streamed),
    }
    shell = {**_shell(fields), "model": model, "tools": tools, "text": text, "reasoning": effort}
    return ResponseRequest(model, ChatRequest(common, thinking), streamed, shell)


def _tools(fields: Fields) -> tuple[list[Json], Json]:
    """The tools as the caller gave them, and the engine's `tools` and `tool_choice`."""
    entries = fields.objects("tools")
    tools = [_tool(entry) for entry in entries]
    wanted = fields.body.get("tool_choice")
    if isinstance(wanted, dict):
        choice = _chosen(Fields(wanted, "tool_choice"), tools)
    elif wanted in (None, "auto", "none") or (wanted == "required" and tools):
        choice = {"tools": tools, **chat.sampling(tool_choice=wanted)} if tools else {}
    else:
        raise fields.refusal("tool_choice", "must be none, auto, required (with tools), or name a function")
    return [entry.body for entry in entries], choice


def _chosen(choice: Fields, tools: list[Json]) -> Json:
    kind = choice.needed_text("type")
    if kind == "function":
        return chat.narrowed(tools, {choice.needed_text("name")}, "required")
    if kind == "allowed_tools":
        mode = choice.needed_text("mode")
        if mode not in ("auto", "required"):
            raise choice.refusal("mode", "must be auto or required")
        return chat.narrowed(tools, {tool.needed_text("name") for tool in choice.objects("tools")}, mode)
    raise choice.refusal("type", "must be function or allowed_tools")


def _tool(entry: Fields) -> Json:
    if entry.text("type") != "function":
        raise entry.refusal("type", "must be function: tools of OpenAI's own servers are not here")
    schema = entry.object("parameters")
    return chat.tool(
        entry.needed_text("name"),
        entry.text("description"),
        schema.body if schema else None,
        strict=entry.flag("strict"),
    )


def _reasoning(fields: Fields) -> tuple[Json, dict[Any, Json]]:
    """`reasoning` as the response repeats it, and how each kind of node is told; without it the model decides."""
    wish = fields.object("reasoning")
    effort = wish.text("effort") if wish else None
    if effort is not None and effort not in _EFFORTS:
        raise Fields({}, "reasoning").refusal("effort", f"must be one of {', '.join(_EFFORTS)}")
    thinking = {} if effort is None else chat.thinking_for_kinds(wanted=effort != "none", effort=effort)
    return {"effort": effort, "summary": None}, thinking


def _text(fields: Fields) -> tuple[Json, Json]:
    """`text` as the response repeats it, and the engine's `response_format`."""
    text = fields.object("text")
    wanted = text.object("format") if text else None
    kind = wanted.text("type") if wanted else "text"
    if wanted is None or kind == "text":
        return {"format": {"type": "text"}}, {}
    if kind == "json_object":
        return {"format": {"type": kind}}, {"response_format": {"type": kind}}
    schema = wanted.object("schema")
    if kind != "json_schema" or schema is None:
        raise wanted.refusal("type", "must be text, json_object, or json_schema with a schema")
    name, strict = wanted.needed_text("name"), wanted.flag("strict")
    output_format = chat.json_schema(name, schema.body, strict=strict, description=wanted.text("description"))
    return {"format": {"type": kind, "name": name, "schema": schema.body, "strict": strict}}, output_format


def _log_probabilities(fields: Fields) -> Json:
    top = fields.count("top_logprobs")
    if not top and "message.output_text.logprobs" not in fields.texts("include"):
        return {}
    return {"logprobs": True, **chat.sampling(top_logprobs=top)}


def _shell(fields: Fields) -> Json:
    metadata = fields.object("metadata")
    choice = fields.body.get("tool_choice")
    parallel = fields.flag("parallel_tool_calls")
    return {
        "id": f"resp_{secrets.token_hex(16)}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": fields.text("instructions"),
        "max_output_tokens": fields.count("max_output_tokens"),
        "metadata": metadata.body if metadata else {},
        "output": [],
        "parallel_tool_calls": True if parallel is None else parallel,
        "previous_response_id": None,
        "store": False,
        "temperature": fields.number("temperature"),
        "tool_choice": choice or "auto",
        "top_p": fields.number("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": fields.text("user"),
    }
