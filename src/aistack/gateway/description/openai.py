"""OpenAI's surface, described."""

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
    parameter,
    ref,
    text,
    thing,
)

_QUESTION = {"role": "user", "content": "What does the farmer do?"}
_SAMPLING: Json = {
    "temperature": number("How much chance there is in the choice of words."),
    "top_p": number(most=1),
    "seed": count("The same seed gives the same answer."),
    "stop": either(text(least=1), listed(text(least=1)), about="Where to stop."),
    "stream": flag("Send the answer piece by piece, as server-sent events."),
    "stream_options": thing({"include_usage": flag("Have the last event count the tokens.")}),
}
_USAGE = thing({"prompt_tokens": count(), "completion_tokens": count(), "total_tokens": count()})
_IMAGE = thing({"url": {"type": "string", "pattern": "^data:", "description": "A data: URL."}}, "url")
_PART = either(
    thing({"type": constant("text"), "text": text()}, "type", "text"),
    thing({"type": constant("image_url"), "image_url": _IMAGE}, "type", "image_url"),
)
_CALL = thing(
    {
        "id": text(),
        "type": constant("function"),
        "function": thing({"name": text(), "arguments": text("A JSON object, as text.")}, "name", "arguments"),
    },
    "id", "type", "function",
)  # fmt: skip
_FUNCTION = thing(
    {
        "name": text(least=1),
        "description": text(),
        "parameters": anything("A JSON schema of the arguments."),
        "strict": flag(),
    },
    "name",
)
_EFFORT = text("How hard to think.", "none", "minimal", "low", "medium", "high")
_JSON_SCHEMA = thing({"name": text(least=1), "schema": anything("A JSON schema."), "strict": flag()}, "name", "schema")

SCHEMAS: dict[str, Json] = {
    "Error": thing(
        {
            "error": thing(
                {"message": text(), "type": text(), "param": maybe(text()), "code": maybe(text())},
                "message", "type", "param", "code",
            )
        },
        "error",
        about="Why a request is not served.",
    ),
    "Model": thing(
        {"id": text(), "object": constant("model"), "created": count(), "owned_by": text()}, "id", "object"
    ),
    "Models": thing({"object": constant("list"), "data": listed(ref("Model"))}, "object", "data"),
    "Name": text("A model's name, as the list of models has it.", least=1),
    "ChatMessage": either(
        thing(
            {"role": text("", "system", "user"), "content": either(text(), listed(_PART, least=1))}, "role", "content"
        ),
        thing(
            {"role": constant("assistant"), "content": maybe(text()), "tool_calls": listed(_CALL)}, "role", "content"
        ),
        thing({"role": constant("tool"), "tool_call_id": text(), "content": text()}, "role", "tool_call_id", "content"),
    ),
    "ChatTool": thing({"type": constant("function"), "function": _FUNCTION}, "type", "function"),
    "ChatRequest": thing(
        {
            "model": ref("Name"),
            "messages": listed(ref("ChatMessage"), least=1),
            "max_tokens": count("How many tokens to say at most.", 1),
            **_SAMPLING,
            "tools": listed(ref("ChatTool"), "What the model may call."),
            "tool_choice": text("", "none", "auto", "required"),
            "response_format": either(
                thing({"type": text("", "text", "json_object")}, "type"),
                thing({"type": constant("json_schema"), "json_schema": _JSON_SCHEMA}, "type", "json_schema"),
                about="Hold the answer to JSON, or to a schema.",
            ),
            "logprobs": flag("Tell how likely each token was."),
            "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
            "frequency_penalty": number(least=-2),
            "presence_penalty": number(least=-2),
        },
        "model", "messages",
        about="What an engine takes beside these is passed on to it.",
    ),
    "ChatCompletion": thing(
        {
            "id": text(),
            "object": constant("chat.completion"),
            "created": count(),
            "model": text(),
            "choices": listed(
                thing(
                    {
                        "index": count(),
                        "finish_reason": text("`stop`, `length` or `tool_calls`."),
                        "message": thing({"role": constant("assistant"), "content": maybe(text())}, "role"),
                    },
                    "index", "message",
                )
            ),
            "usage": _USAGE,
        },
        "choices",
    ),
    "CompletionRequest": thing(
        {
            "model": ref("Name"),
            "prompt": text("The text to go on from.", least=1),
            "max_tokens": count("How many tokens to say at most.", 1),
            **_SAMPLING,
        },
        "model", "prompt",
    ),
    "Completion": thing(
        {
            "object": constant("text_completion"),
            "choices": listed(thing({"index": count(), "text": text()}, "index", "text")),
            "usage": _USAGE,
        },
        "choices",
    ),
    "EmbeddingRequest": thing(
        {
            "model": ref("Name"),
            "input": either(text(least=1), listed(text(least=1), least=1), about="One text or several."),
            "encoding_format": text("", "float", "base64"),
        },
        "model", "input",
    ),
    "Embeddings": thing(
        {
            "object": constant("list"),
            "data": listed(
                thing({"index": count(), "embedding": either(listed({"type": "number"}), text())}, "index", "embedding")
            ),
            "usage": _USAGE,
        },
        "data",
    ),
    "RerankRequest": thing(
        {
            "model": ref("Name"),
            "query": text(least=1),
            "documents": listed(either(text(), thing({"text": text()}, "text")), least=1),
            "top_n": count("How many of the best to give; all unless set.", 1),
            "return_documents": flag("Repeat the texts in the answer."),
        },
        "model", "query", "documents",
    ),
    "Ranking": thing(
        {
            "object": constant("list"),
            "model": text(),
            "results": listed(
                thing(
                    {
                        "index": count("The document's place in the request."),
                        "relevance_score": {"type": "number"},
                        "document": thing({"text": text()}),
                    },
                    "index", "relevance_score",
                ),
                "Best first.",
            ),
            "usage": _USAGE,
        },
        "results",
    ),
}  # fmt: skip

_EITHER_ERROR = either(ref("Error"), ref("MessageError"))
_VERSION = parameter("anthropic-version", text("What clients of Anthropic send."), "header")

# Anthropic's.
_STAGES = ("active", "deprecated", "retired")

OPERATIONS: dict[str, Operation] = {
    "models": Operation(
        "List the models",
        "All of them; in Anthropic's shape, and in pages, for whoever sends `anthropic-version`.",
        answer=either(ref("Models"), ref("AnthropicModels")),
        error=_EITHER_ERROR,
        parameters=(
            _VERSION,
            parameter("limit", {**count("How many a page has; 20 unless set.", 1), "maximum": 1000}),
            parameter("after_id", text("The model before the page.")),
            parameter("before_id", text("The model after the page.")),
            parameter("lifecycle", listed(text("", *_STAGES), "Those in one of these stages; all here are `active`.")),
        ),
    ),
    "models/{id}": Operation(
        "Tell of one model",
        "The name may have slashes in it.",
        answer=either(ref("Model"), ref("AnthropicModel")),
        error=_EITHER_ERROR,
        parameters=(_VERSION,),
    ),
    "chat/completions": Operation(
        "Chat",
        "Passed on to the engine as it is, but for media that would have to be fetched, which are refused.",
        request=ref("ChatRequest"),
        answer=ref("ChatCompletion"),
        streams=EVENTS,
        example={"model": "demo", "messages": [_QUESTION], "max_tokens": 50},
    ),
    "completions": Operation(
        "Go on from a text",
        request=ref("CompletionRequest"),
        answer=ref("Completion"),
        streams=EVENTS,
        example={"model": "demo", "prompt": "The farmer", "max_tokens": 50},
    ),
    "embeddings": Operation(
        "Turn texts into vectors",
        request=ref("EmbeddingRequest"),
        answer=ref("Embeddings"),
        example={"model": "all-minilm", "input": ["The farmer sleeps.", "A field of wheat."]},
    ),
    "rerank": Operation(
        "Order documents by how well they answer a query",
        "For models that rerank, on the embedded engine and on servers such as vLLM that have this operation; "
        "others answer 501.",
        request=ref("RerankRequest"),
        answer=ref("Ranking"),
        example={"model": "reranker", "query": "Who sleeps?", "documents": ["The farmer sleeps.", "A field of wheat."]},
    ),
}
EFFORT = _EFFORT
