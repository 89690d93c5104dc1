"""Anthropic's surface, described."""

from aistack.gateway.description.schema import (
    EVENTS,
    Json,
    Operation,
    anything,
    constant,
    count,
    either,
    flag,
    listed,
    maybe,
    number,
    ref,
    text,
    thing,
)

_TEXT = thing({"type": constant("text"), "text": text()}, "type", "text")
_SOURCE = thing(
    {
        "type": constant("base64"),
        "media_type": text("", "image/png", "image/jpeg", "image/gif", "image/webp"),
        "data": text("The image, as base64.", least=1),
    },
    "type", "media_type", "data",
)  # fmt: skip
_IMAGE = thing({"type": constant("image"), "source": _SOURCE}, "type", "source")
_RESULT = thing(
    {
        "type": constant("tool_result"),
        "tool_use_id": text(least=1),
        "content": either(text(), listed(either(_TEXT, _IMAGE))),
        "is_error": flag(),
    },
    "type", "tool_use_id",
)  # fmt: skip
_USE = thing(
    {"type": constant("tool_use"), "id": text(least=1), "name": text(least=1), "input": anything("The arguments.")},
    "type", "id", "name", "input",
)  # fmt: skip
_THINKING = thing({"type": constant("thinking"), "thinking": text(), "signature": text()}, "type", "thinking")
_PROMPT: Json = {
    "model": ref("Name"),
    "messages": listed(ref("Message"), least=1),
    "system": either(text(), listed(_TEXT), about="What the model is told before everything else."),
    "tools": listed(ref("Tool"), "What the model may call. Anthropic's own tools are not here."),
    "thinking": either(
        thing({"type": constant("enabled"), "budget_tokens": count(least=1)}, "type"),
        thing({"type": text("", "disabled", "adaptive")}, "type"),
        about="Whether the model thinks first, and its thoughts are shown. Unless set it does not.",
    ),
}
_LIST = [{"role": "user", "content": "What does the farmer do?"}]

SCHEMAS: dict[str, Json] = {
    "MessageError": thing(
        {"type": constant("error"), "error": thing({"type": text(), "message": text()}, "type", "message")},
        "type", "error",
        about="Why a request is not served.",
    ),
    "Message": either(
        thing(
            {"role": constant("user"), "content": either(text(), listed(either(_TEXT, _IMAGE, _RESULT), least=1))},
            "role", "content",
        ),
        thing(
            {"role": constant("assistant"), "content": either(text(), listed(either(_TEXT, _USE, _THINKING), least=1))},
            "role", "content",
        ),
    ),
    "Tool": thing(
        {
            "name": text(least=1),
            "description": text(),
            "input_schema": anything("A JSON schema of the arguments."),
        },
        "name", "input_schema",
    ),
    "AnthropicModel": thing(
        {
            "type": constant("model"),
            "id": text(),
            "display_name": text(),
            "created_at": text(),
            "lifecycle": constant("active"),
            "max_input_tokens": maybe(count()),
        },
        "type", "id", "display_name", "created_at", "lifecycle",
    ),
    "AnthropicModels": thing(
        {
            "data": listed(ref("AnthropicModel")),
            "has_more": flag(),
            "first_id": maybe(text()),
            "last_id": maybe(text()),
        },
        "data", "has_more", "first_id", "last_id",
    ),
    "MessageRequest": thing(
        {
            **_PROMPT,
            "max_tokens": count("How many tokens to say at most.", 1),
            "temperature": number(most=1),
            "top_p": number(most=1),
            "top_k": count(),
            "stop_sequences": listed(text(least=1)),
            "stream": flag("Send events as they come."),
            "tool_choice": either(
                thing({"type": text("", "auto", "none"), "disable_parallel_tool_use": flag()}, "type"),
                about="`any`, or a tool by name, where there are tools.",
            ),
        },
        "model", "messages", "max_tokens",
    ),
    "CountRequest": thing(_PROMPT, "model", "messages"),
    "Count": thing({"input_tokens": count()}, "input_tokens"),
    "MessageAnswer": thing(
        {
            "id": text(),
            "type": constant("message"),
            "role": constant("assistant"),
            "model": text(),
            "content": listed(thing({"type": text("", "text", "thinking", "tool_use")}, "type")),
            "stop_reason": text("", "end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"),
            "stop_sequence": maybe(text()),
            "usage": thing({"input_tokens": count(), "output_tokens": count()}, "input_tokens", "output_tokens"),
        },
        "id", "type", "role", "content", "stop_reason", "usage",
    ),
}  # fmt: skip

OPERATIONS: dict[str, Operation] = {
    "messages": Operation(
        "Say a message",
        "Every engine is asked for a chat completion, whichever it is. Which stop sequence was met only llama.cpp and "
        "vLLM tell; over others such an end is an `end_turn`.",
        request=ref("MessageRequest"),
        answer=ref("MessageAnswer"),
        streams=EVENTS,
        example={"model": "demo", "max_tokens": 50, "messages": _LIST},
    ),
    "messages/count_tokens": Operation(
        "Count the tokens of a prompt",
        "For models on the embedded engine; others answer 501.",
        request=ref("CountRequest"),
        answer=ref("Count"),
        example={"model": "demo", "messages": _LIST},
    ),
}
