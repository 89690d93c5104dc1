"""Ollama's messages, images and tool calls as OpenAI's, and tool calls back. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from aistack.gateway.refusals import bad_request
from aistack.gateway.translation.fields import encoded

Json = dict[str, Any]

# How the base64 text of each kind of image begins.
_IMAGE_TYPES = {"/9j/": "jpeg", "iVBORw": "png", "UklGR": "webp", "R0lGOD": "gif", "Qk0": "bmp"}


def to_openai(messages: Any) -> list[Json]:
    """OpenAI's messages for Ollama's. Raises Refusal 400 when they are not a list of messages.

    Ollama's tool answers name the tool, OpenAI's the call: calls get ids, and an answer without one takes
    the oldest unanswered call of its tool.
    """
    if not isinstance(messages, list):
        raise bad_request("messages must be a list")
    waiting: list[tuple[str, str]] = []
    return [_message(message, position, waiting) for position, message in enumerate(messages)]


def content_parts(text: str, images: Any) -> str | list[Json]:
    """A message's content: plain text, or with base64 `images` OpenAI's content parts. Raises Refusal 400."""
    if not images:
        return text
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        raise bad_request("images must be a list of base64 strings")
    parts: list[Json] = [{"type": "text", "text": text}] if text else []
    return parts + [{"type": "image_url", "image_url": {"url": _image_url(image)}} for image in images]


def require_inline_media(messages: Any) -> None:
    """Raise Refusal 400 when a content part of OpenAI's `messages` names media by an address.

    The engine would fetch it, from inside, for whoever asks: other services of the site, files, the internet.
    """
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            for field, value in part.items() if isinstance(part, dict) else ():
                if field.endswith("_url") and not _is_inline(value):
                    raise bad_request(f"{field} must be a data: URL; media are not fetched from elsewhere")


def calls_to_ollama(calls: list[Json]) -> tuple[list[Json], str]:
    """Ollama's tool calls for OpenAI's, and as text the arguments of those that are no JSON object.

    Arguments that were cut short cannot be an object; the caller shall still see what the model wrote.
    """
    translated: list[Json] = []
    unreadable = ""
    for index, call in enumerate(calls):
        function = call.get("function") or {}
        raw = function.get("arguments") or "{}"
        arguments = _object(raw)
        if arguments is None:
            unreadable += raw
            continue
        entry = {"function": {"index": index, "name": function.get("name") or "", "arguments": arguments}}
        translated.append({"id": call["id"], **entry} if call.get("id") else entry)
    return translated, unreadable


def _message(message: Any, position: int, waiting: list[tuple[str, str]]) -> Json:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise bad_request(f"messages[{position}] must be an object with a role")
    content = message.get("content") or ""
    if not isinstance(content, str):
        raise bad_request(f"messages[{position}].content must be a string")
    result: Json = {"role": message["role"], "content": content_parts(content, message.get("images"))}
    if message.get("thinking"):
        result["reasoning_content"] = message["thinking"]
    if calls := message.get("tool_calls"):
        if not isinstance(calls, list):
            raise bad_request(f"messages[{position}].tool_calls must be a list")
        result["tool_calls"] = [_call(call, position, index) for index, call in enumerate(calls)]
        waiting += [(call["function"]["name"], call["id"]) for call in result["tool_calls"]]
    if message["role"] == "tool":
        result.update(_answered(message, waiting))
    return result


def _call(call: Any, position: int, index: int) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad_request(f"messages[{position}].tool_calls[{index}] must have a function with a name")
    arguments = function.get("arguments") or {}
    written = arguments if isinstance(arguments, str) else encoded(arguments).decode()
    identity = call.get("id") or f"call_{position}_{index}"
    return {"id": identity, "type": "function", "function": {"name": function["name"], "arguments": written}}


def _answered(message: Mapping[str, Any], waiting: list[tuple[str, str]]) -> Json:
    tool = message.get("tool_name") or message.get("name")
    identity = message.get("tool_call_id")
    matching = [(name, call) for name, call in waiting if (call == identity if identity else tool in (None, name))]
    if matching:
        waiting.remove(matching[0])
        identity = matching[0][1]
    return {"tool_call_id": identity or "call_0", **({"name": tool} if tool else {})}


def _image_url(image: str) -> str:
    if image.startswith("data:"):
        return image
    kind = next((kind for start, kind in _IMAGE_TYPES.items() if image.startswith(start)), "png")
    return f"data:image/{kind};base64,{image}"


def _is_inline(value: Any) -> bool:
    url = value.get("url") if isinstance(value, dict) else value
    return isinstance(url, str) and url.startswith("data:")


def _object(text: str) -> Json | None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None
