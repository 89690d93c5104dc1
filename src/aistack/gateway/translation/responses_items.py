"""The input items of OpenAI's Responses as chat messages. Pure."""

from typing import Any

from aistack.gateway.translation import chat
from aistack.gateway.translation.fields import Fields

Json = dict[str, Any]

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}


def messages_of(fields: Fields) -> list[Json]:
    """The messages that `instructions` and `input` hold. Raises Refusal 400."""
    messages: list[Json] = []
    if instructions := fields.text("instructions"):
        messages.append({"role": "system", "content": instructions})
    if isinstance(fields.body.get("input"), str):
        return [*messages, {"role": "user", "content": fields.body["input"]}]
    thoughts: list[str] = []
    for item in fields.objects("input"):
        kind = item.text("type") or "message"
        if kind == "reasoning":
            thoughts += _texts(item, "content") or _texts(item, "summary")
        elif kind == "function_call_output":
            messages += _result(item)
        elif kind in ("message", "function_call"):
            message = _message(item) if kind == "message" else {"role": "assistant", "tool_calls": [_call(item)]}
            if thoughts and message["role"] == "assistant":
                message["reasoning_content"] = "\n".join(thoughts)
                thoughts = []
            _add(messages, message)
        elif kind == "item_reference":
            raise item.refusal("type", "cannot be item_reference: nothing is kept here, send the item itself")
        else:
            raise item.refusal("type", "must be message, function_call, function_call_output or reasoning")
    if not messages:
        raise fields.refusal("input", "is required")
    return messages


def _add(messages: list[Json], message: Json) -> None:
    """Put a message to the others; calls belong to the words of the assistant that they follow."""
    last = messages[-1] if messages else {}
    if "tool_calls" in message and last.get("role") == "assistant":
        last.setdefault("tool_calls", []).extend(message["tool_calls"])
    else:
        messages.append({"content": "", **message})


def _message(item: Fields) -> Json:
    role = item.needed_text("role")
    if role not in _ROLES:
        raise item.refusal("role", "must be user, assistant, system or developer")
    if isinstance(item.body.get("content"), str):
        return {"role": _ROLES[role], "content": item.body["content"]}
    if item.body.get("content") is None:
        raise item.refusal("content", "is required")
    parts = [_part(part) for part in item.objects("content")]
    return {"role": _ROLES[role], "content": chat.content(parts)}


def _part(part: Fields) -> Json:
    kind = part.text("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": part.text("text") or ""}
    if kind == "refusal":
        return {"type": "text", "text": part.text("refusal") or ""}
    if kind == "input_image":
        url = part.text("image_url") or ""
        if not url.startswith("data:"):
            raise part.refusal("image_url", "must be a data: URL; images are not fetched from elsewhere")
        return {"type": "image_url", "image_url": {"url": url}}
    raise part.refusal("type", "must be input_text, input_image or output_text")


def _call(item: Fields) -> Json:
    function = {"name": item.needed_text("name"), "arguments": item.text("arguments") or "{}"}
    return {"id": item.needed_text("call_id"), "type": "function", "function": function}


def _result(item: Fields) -> list[Json]:
    """What a tool answered; the images in it are in a user's message, since OpenAI's tools have none."""
    call = item.needed_text("call_id")
    if isinstance(item.body.get("output"), str):
        parts: list[Json] = [{"type": "text", "text": item.body["output"]}]
    else:
        parts = [_part(part) for part in item.objects("output")]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    images = [part for part in parts if part["type"] != "text"]
    result: Json = {"role": "tool", "tool_call_id": call, "content": text}
    return [result, {"role": "user", "content": images}] if images else [result]


def _texts(item: Fields, name: str) -> list[str]:
    return [part.text("text") or "" for part in item.objects(name)]
