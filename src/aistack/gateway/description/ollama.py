"""Ollama's surface, described."""

from aistack.gateway.description.schema import (
    LINES,
    Json,
    Operation,
    anything,
    constant,
    count,
    either,
    flag,
    listed,
    number,
    ref,
    text,
    thing,
)

_NOTHING = "For administrators of the chat, through the chat's own settings, on engines that are Ollama: 403 for keys."
_IMAGES = listed({"type": "string", "contentEncoding": "base64", "minLength": 8}, "Images as base64.")
_WISHES: Json = {
    "model": ref("Name"),
    "stream": flag("Send lines as they come, which they do unless this is false."),
    "format": either(constant("json"), anything("A JSON schema."), about="Hold the answer to JSON, or to a schema."),
    "options": ref("Options"),
    "keep_alive": either(text("", "0s", "5m", "1h"), {"type": "integer", "minimum": -1, "maximum": 86400}),
    "think": either(flag(), text("", "low", "medium", "high"), about="Whether, or how hard, to think first."),
    "logprobs": flag("Tell how likely each token was."),
    "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
}
_CALL = thing({"function": thing({"name": text(least=1), "arguments": anything("As an object.")}, "name")}, "function")
_COUNTS: Json = {
    "done": flag(),
    "done_reason": text("`stop`, `length`, `load` or `unload`."),
    "total_duration": {"type": "integer", "description": "Nanoseconds, as all durations."},
    "load_duration": {"type": "integer"},
    "prompt_eval_count": count("Tokens read."),
    "prompt_eval_duration": {"type": "integer"},
    "eval_count": count("Tokens written."),
    "eval_duration": {"type": "integer"},
}
_ENTRY = thing({"name": text(), "model": text(), "size": {"type": "integer"}, "digest": text()}, "name", "model")
_EMPTY = thing({"model": ref("Name")}, "model")

SCHEMAS: dict[str, Json] = {
    "OllamaError": thing({"error": text()}, "error", about="Why a request is not served."),
    "Options": thing(
        {
            "temperature": number(),
            "top_p": number(most=1),
            "top_k": count(),
            "min_p": number(most=1),
            "seed": count(),
            "num_predict": {"type": "integer", "minimum": -2, "maximum": 1000000},
            "stop": listed(text(least=1)),
            "repeat_penalty": number(),
            "frequency_penalty": number(least=-2),
            "presence_penalty": number(least=-2),
        },
        about="What concerns loading (`num_ctx` and such) is the site's business, and left out.",
    ),
    "OllamaMessage": thing(
        {
            "role": text("", "system", "user", "assistant", "tool"),
            "content": text(),
            "images": _IMAGES,
            "tool_calls": listed(_CALL),
            "thinking": text(),
            "tool_name": text(),
        },
        "role", "content",
    ),
    "OllamaChatRequest": thing(
        {**_WISHES, "messages": listed(ref("OllamaMessage")), "tools": listed(ref("ChatTool"))}, "model",
    ),
    "OllamaChatLine": thing(
        {
            "model": text(),
            "created_at": text(),
            "message": thing({"role": constant("assistant"), "content": text()}, "role", "content"),
            **_COUNTS,
        },
        "model", "message", "done",
    ),
    "GenerateRequest": thing(
        {
            **_WISHES,
            "prompt": text(),
            "system": text(),
            "images": _IMAGES,
            "raw": flag("The prompt is what the model shall read, without a template."),
        },
        "model",
    ),
    "GenerateLine": thing(
        {"model": text(), "created_at": text(), "response": text(), **_COUNTS},
        "model", "response", "done",
    ),
    "EmbedRequest": thing(
        {
            "model": ref("Name"),
            "input": either(text(), listed(text())),
            "truncate": flag("Cut what is too long, unless this is false."),
            "dimensions": count(),
        },
        "model",
    ),
    "EmbedAnswer": thing({"model": text(), "embeddings": listed(listed({"type": "number"}))}, "embeddings"),
    "EntriesAnswer": thing({"models": listed(_ENTRY)}, "models"),
    "ShowAnswer": thing(
        {
            "template": text(),
            "parameters": text(),
            "details": anything("Family, size and quantization."),
            "model_info": anything("The model's facts under the names that GGUF gives them."),
            "capabilities": listed(text()),
        }
    ),
}  # fmt: skip

OPERATIONS: dict[str, Operation] = {
    "root": Operation("Say that this is Ollama's API", answer=text(), content="text/plain"),
    "version": Operation("Tell the version of the API", answer=thing({"version": text()}, "version")),
    "tags": Operation("List the models", answer=ref("EntriesAnswer")),
    "ps": Operation("List the models that are loaded", answer=ref("EntriesAnswer")),
    "show": Operation("Tell of one model", request=_EMPTY, answer=ref("ShowAnswer"), example={"model": "demo"}),
    "chat": Operation(
        "Chat",
        "Passed on to engines that are Ollama, translated for all others. Without messages it loads the model, or "
        "unloads it with a `keep_alive` of 0.",
        request=ref("OllamaChatRequest"),
        answer=ref("OllamaChatLine"),
        streams=LINES,
        example={"model": "demo", "messages": [{"role": "user", "content": "What does the farmer do?"}]},
    ),
    "generate": Operation(
        "Answer a prompt",
        "Without a prompt it loads the model, or unloads it with a `keep_alive` of 0.",
        request=ref("GenerateRequest"),
        answer=ref("GenerateLine"),
        streams=LINES,
        example={"model": "demo", "prompt": "What does the farmer do?", "options": {"num_predict": 50}},
    ),
    "embed": Operation(
        "Turn texts into vectors",
        request=ref("EmbedRequest"),
        answer=ref("EmbedAnswer"),
        example={"model": "all-minilm", "input": ["The farmer sleeps.", "A field of wheat."]},
    ),
    "embeddings": Operation(
        "Turn one text into a vector",
        "The older operation.",
        request=thing({"model": ref("Name"), "prompt": text()}, "model"),
        answer=thing({"embedding": listed({"type": "number"})}, "embedding"),
        example={"model": "all-minilm", "prompt": "The farmer sleeps."},
    ),
    "pull": Operation("Fetch a model", _NOTHING, request=_EMPTY, streams=LINES),
    "push": Operation("Publish a model", _NOTHING, request=_EMPTY, streams=LINES),
    "create": Operation("Make a model", _NOTHING, request=_EMPTY, streams=LINES),
    "copy": Operation("Copy a model", _NOTHING, request=thing({"source": text(), "destination": text()}, "source")),
    "delete": Operation("Delete a model", _NOTHING, request=_EMPTY),
    "blobs": Operation("Upload a part of a model, or ask whether it is there", _NOTHING),
}
