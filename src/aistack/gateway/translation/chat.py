"""What Anthropic's and OpenAI's newer surface share: the chat completion that both become, and its answer. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aistack.gateway.counting import counts_of
from aistack.gateway.refusals import Refusal, bad_request
from aistack.gateway.settings import NodeKind
from aistack.gateway.translation.replies import thinking_of

Json = dict[str, Any]


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion that any engine takes, and what only nodes of a kind are told beside."""

    common: Json
    beside: Mapping[NodeKind, Json] = field(default_factory=dict)

    def body(self, model: str, kind: NodeKind) -> Json:
        """The request to a node of the kind `kind`, which calls the model `model`."""
        return {**self.common, "model": model, **self.beside.get(kind, {})}


@dataclass(frozen=True)
class Answer:
    """A whole chat completion. `calls` are the called functions with the ids of the calls, `reason` why it ended."""

    text: str
    thinking: str
    calls: list[Json]
    reason: str
    logprobs: list[Json]


def sampling(**wanted: Any) -> Json:
    """The fields that are not None."""
    return {name: value for name, value in wanted.items() if value is not None}


def streaming(wanted: bool | None) -> Json:
    """The fields that make an engine stream, and count at the end."""
    return {"stream": True, "stream_options": {"include_usage": True}} if wanted else {}


def tool(name: str, description: str | None, schema: Any, *, strict: bool | None = None) -> Json:
    """A function that the model may call."""
    function: Json = {"name": name, **sampling(description=description, strict=strict)}
    return {"type": "function", "function": {**function, "parameters": schema or {"type": "object", "properties": {}}}}


def narrowed(tools: list[Json], names: set[str], choice: str) -> Json:
    """`tools` and `tool_choice` for a caller who wants one of the tools `names` called.

    The others are not shown to the model: OpenAI's `tool_choice` with a name in it is not understood by llama.cpp
    and Ollama, `required` with only those tools is by more. Raises Refusal 400 for a name that is no tool.
    """
    chosen = [entry for entry in tools if entry["function"]["name"] in names]
    if len({entry["function"]["name"] for entry in chosen}) < len(names):
        raise bad_request("tool_choice names a tool that is not among the tools")
    return {"tools": chosen, "tool_choice": choice}


def thinking_for_kinds(*, wanted: bool, effort: str | None = None, budget: int | None = None) -> dict[NodeKind, Json]:
    """How each kind of node is told to think or not; `budget` is in tokens, and only llama.cpp keeps to it.

    An engine of which nothing but OpenAI's API is known is told only an `effort`: the rest it might refuse.
    """
    kwargs: Json = {"enable_thinking": wanted, **({"reasoning_effort": effort} if effort and wanted else {})}
    return {
        "llamacpp": {"chat_template_kwargs": kwargs, **sampling(reasoning_budget_tokens=budget)},
        "ollama": sampling(reasoning_effort=effort if wanted else "none"),
        "openai": sampling(reasoning_effort=effort),
    }


def json_schema(name: str, schema: Json, *, strict: bool | None = None, description: str | None = None) -> Json:
    """The fields that hold an answer to a JSON schema."""
    described = {"name": name, "schema": schema, **sampling(strict=strict, description=description)}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def image(media_type: str, data: str) -> Json:
    """An image, given as base64, as a content part."""
    return {"type": "image_url", "image_url": {"url": f"data:{media_type};base64,{data}"}}


def content(parts: list[Json]) -> str | list[Json]:
    """A message's content: one string where there is only text, since not every template takes parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def answer_in(document: Any) -> Answer:
    """A whole answer, read. Raises Refusal 502 when it is none."""
    try:
        choice = document["choices"][0]
        message = choice["message"]
        text, thinking = message.get("content") or "", thinking_of(message)
        if not isinstance(text, str) or not isinstance(thinking, str):
            raise TypeError("words must be strings")
        return Answer(
            text=text,
            thinking=thinking,
            calls=[{"id": call.get("id") or "", **call["function"]} for call in message.get("tool_calls") or ()],
            reason=str(choice.get("finish_reason") or "stop"),
            logprobs=(choice.get("logprobs") or {}).get("content") or [],
        )
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise Refusal(502, "the engine's answer holds no choice") from error


def tokens_in(usage: Any) -> tuple[int, int]:
    """Tokens read and written, as an engine's `usage` has them; 0 where it tells nothing."""
    return counts_of(usage) or (0, 0)
