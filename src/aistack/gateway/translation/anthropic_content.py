"""Anthropic's messages and their content blocks as OpenAI's messages. Pure."""

from typing import Any

from aistack.gateway.translation import chat
from aistack.gateway.translation.fields import Fields, encoded

Json = dict[str, Any]

_ROLES = ("user", "assistant", "system")


def system_of(fields: Fields) -> list[Json]:
    """The system message of a request, if it has one. Raises Refusal 400."""
    texts = _texts(fields, "system")
    return [{"role": "system", "content": "\n".join(texts)}] if any(texts) else []


def messages_of(fields: Fields) -> list[Json]:
    """The messages of a request. Raises Refusal 400 when there are none, or they are not Anthropic's."""
    messages: list[Json] = []
    for entry in fields.objects("messages"):
        role = entry.needed_text("role")
        if role not in _ROLES:
            raise entry.refusal("role", "must be user or assistant")
        if role == "assistant":
            messages.append(_assistant(entry))
        elif role == "system":
            messages.append({"role": "system", "content": "\n".join(_texts(entry, "content"))})
        else:
            messages += _user(entry)
    if not messages:
        raise fields.refusal("messages", "must hold at least one message")
    return messages


def _texts(holder: Fields, name: str) -> list[str]:
    """The texts of a field that is a string or a list of text blocks."""
    if isinstance(holder.body.get(name), str):
        return [holder.body[name]]
    blocks = holder.objects(name)
    for block in blocks:
        if block.text("type") != "text":
            raise block.refusal("type", "must be text here")
    return [block.text("text") or "" for block in blocks]


def _user(entry: Fields) -> list[Json]:
    """A user's message: the results of tools, each a message of its own, and what was said beside."""
    if isinstance(entry.body.get("content"), str):
        return [{"role": "user", "content": entry.body["content"]}]
    results: list[Json] = []
    parts: list[Json] = []
    for block in _blocks(entry):
        if block.text("type") == "tool_result":
            text, images = _tool_result(block)
            results.append({"role": "tool", "tool_call_id": block.needed_text("tool_use_id"), "content": text})
            parts += images
        else:
            parts += _parts(block)
    return [*results, {"role": "user", "content": chat.content(parts)}] if parts or not results else results


def _assistant(entry: Fields) -> Json:
    if isinstance(entry.body.get("content"), str):
        return {"role": "assistant", "content": entry.body["content"]}
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for block in _blocks(entry):
        kind = block.text("type")
        if kind == "text":
            texts.append(block.text("text") or "")
        elif kind == "thinking":
            thoughts.append(block.text("thinking") or "")
        elif kind == "tool_use":
            calls.append(_call(block))
        elif kind != "redacted_thinking":  # which only Anthropic's own servers can read
            raise block.refusal("type", "must be text, thinking or tool_use in an assistant's message")
    message: Json = {"role": "assistant", "content": "\n".join(texts)}
    if any(thoughts):
        message["reasoning_content"] = "\n".join(thoughts)
    return {**message, "tool_calls": calls} if calls else message


def _blocks(entry: Fields) -> list[Fields]:
    if entry.body.get("content") is None:
        raise entry.refusal("content", "is required")
    return entry.objects("content")


def _call(block: Fields) -> Json:
    arguments = block.object("input")
    written = encoded(arguments.body if arguments else {}).decode()
    function = {"name": block.needed_text("name"), "arguments": written}
    return {"id": block.needed_text("id"), "type": "function", "function": function}


def _tool_result(block: Fields) -> tuple[str, list[Json]]:
    """What a tool answered, as text, and the images in it, which OpenAI has only in a user's message."""
    if isinstance(block.body.get("content"), str):
        parts: list[Json] = [{"type": "text", "text": block.body["content"]}]
    else:
        parts = [part for inner in block.objects("content") for part in _parts(inner)]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    if block.flag("is_error"):
        text = f"Error: {text}"
    return text, [part for part in parts if part["type"] != "text"]


def _parts(block: Fields) -> list[Json]:
    """The content parts of a block that a user, or a tool, may say."""
    kind = block.text("type")
    if kind == "text":
        return [{"type": "text", "text": block.text("text") or ""}]
    if kind == "image":
        return [_image(block)]
    if kind == "document":
        return _document(block)
    if kind == "search_result":
        title = {"type": "text", "text": f"{block.text('title') or ''} ({block.text('source') or ''})"}
        return [title, *({"type": "text", "text": text} for text in _texts(block, "content"))]
    raise block.refusal("type", "must be text, image, document, search_result or tool_result")


def _image(block: Fields) -> Json:
    source = block.object("source")
    if source is None or source.text("type") != "base64":
        raise block.refusal("source", "must be of type base64; images are not fetched from elsewhere")
    media_type = source.needed_text("media_type")
    if not media_type.startswith("image/") or not media_type[6:].isalnum():
        raise source.refusal("media_type", "must be that of an image")
    return chat.image(media_type, source.needed_text("data"))


def _document(block: Fields) -> list[Json]:
    source = block.object("source")
    kind = source.text("type") if source else None
    if source is None or kind not in ("text", "content"):
        raise block.refusal("source", "must be of type text or content; other documents are not read here")
    texts = [source.needed_text("data")] if kind == "text" else _texts(source, "content")
    if title := block.text("title"):
        texts.insert(0, title)
    return [{"type": "text", "text": text} for text in texts]
