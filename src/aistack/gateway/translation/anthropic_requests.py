"""Anthropic's request for a message as a chat completion. Pure."""

from dataclasses import dataclass
from typing import Any

from aistack.gateway.refusals import bad_request
from aistack.gateway.translation import chat
from aistack.gateway.translation.anthropic_content import messages_of, system_of
from aistack.gateway.translation.chat import ChatRequest
from aistack.gateway.translation.fields import Fields

Json = dict[str, Any]


@dataclass(frozen=True)
class MessageRequest:
    """A request for a message: what the engine is sent, and what the answer depends on.

    `model` is the name that the caller gave it, `shows_thinking` whether they want to see what the model thinks,
    `prefill` how the answer begins, when they wrote its beginning.
    """

    model: str
    chat: ChatRequest
    streamed: bool
    shows_thinking: bool
    prefill: str


def read(body: Json, *, counted: bool = False) -> MessageRequest:
    """What the body of `/v1/messages` asks for, or with `counted` that of `/v1/messages/count_tokens`.

    Raises Refusal 400.
    """
    fields = Fields(body)
    model = fields.needed_text("model")
    limit = fields.count("max_tokens", least=1)
    if limit is None and not counted:
        raise bad_request("max_tokens is required")
    messages = [*system_of(fields), *messages_of(fields)]
    thinks, thinking = _thinking(fields)
    streamed = fields.flag("stream") or False
    common = {
        "messages": messages,
        **chat.sampling(max_tokens=limit, temperature=fields.number("temperature"), top_p=fields.number("top_p")),
        **({"stop": stops} if (stops := [stop for stop in fields.texts("stop_sequences") if stop]) else {}),
        **_tools(fields),
        **_output_format(fields),
        **chat.streaming(streamed),
    }
    # `verbose` is how llama.cpp tells which of several stop sequences it met.
    llama = chat.sampling(top_k=fields.count("top_k"), verbose=True if stops else None)
    thinking["llamacpp"] = {**thinking["llamacpp"], **llama}
    return MessageRequest(model, ChatRequest(common, thinking), streamed, thinks, _prefill(messages))


def _thinking(fields: Fields) -> tuple[bool, dict[Any, Json]]:
    """Whether thoughts are wanted, and how each kind of node is told. Without the field they are not."""
    wish = fields.object("thinking")
    if wish is None:
        return False, chat.thinking_for_kinds(wanted=False)
    kind = wish.needed_text("type")
    if kind not in ("enabled", "disabled", "adaptive"):
        raise wish.refusal("type", "must be enabled, disabled or adaptive")
    wanted = kind != "disabled"
    shown = wanted and wish.text("display") != "omitted"
    return shown, chat.thinking_for_kinds(wanted=wanted, budget=wish.count("budget_tokens") if wanted else None)


def _tools(fields: Fields) -> Json:
    tools = [_tool(entry) for entry in fields.objects("tools")]
    choice = fields.object("tool_choice")
    if choice is None:
        return {"tools": tools} if tools else {}
    kind = choice.needed_text("type")
    single = {"parallel_tool_calls": False} if choice.flag("disable_parallel_tool_use") else {}
    if kind in ("auto", "none"):
        return {"tools": tools, "tool_choice": kind, **single} if tools else {}
    if kind not in ("any", "tool"):
        raise choice.refusal("type", "must be auto, any, tool or none")
    if not tools:
        raise choice.refusal("type", f"is {kind}, but there are no tools")
    if kind == "tool":
        return {**chat.narrowed(tools, {choice.needed_text("name")}, "required"), **single}
    return {"tools": tools, "tool_choice": "required", **single}


def _tool(entry: Fields) -> Json:
    kind = entry.text("type")
    if kind not in (None, "custom"):
        raise entry.refusal("type", f"{kind[:60]!r} is a tool of Anthropic's own servers; only custom tools work here")
    schema = entry.object("input_schema")
    return chat.tool(entry.needed_text("name"), entry.text("description"), schema.body if schema else None)


def _output_format(fields: Fields) -> Json:
    output = fields.object("output_config")
    wanted = output.object("format") if output else None
    if wanted is None:
        return {}
    schema = wanted.object("schema")
    if wanted.text("type") != "json_schema" or schema is None:
        raise wanted.refusal("type", "must be json_schema, with a schema")
    return chat.json_schema("output", schema.body, strict=True)


def _prefill(messages: list[Json]) -> str:
    """The text of a last message that is the assistant's: the model goes on from there."""
    last = messages[-1]
    return last["content"] if last["role"] == "assistant" and isinstance(last["content"], str) else ""
