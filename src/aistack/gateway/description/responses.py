"""OpenAI's `/v1/responses`, described."""

from aistack.gateway.description.openai import EFFORT
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

_IMAGE = {"type": "string", "pattern": "^data:", "description": "A data: URL; nothing is fetched."}
_PART = either(
    thing({"type": text("", "input_text", "output_text"), "text": text()}, "type", "text"),
    thing({"type": constant("input_image"), "image_url": _IMAGE}, "type", "image_url"),
)
_FORMAT = either(
    thing({"type": text("", "text", "json_object")}, "type"),
    thing(
        {
            "type": constant("json_schema"),
            "name": text(least=1),
            "schema": anything("A JSON schema."),
            "strict": flag(),
        },
        "type", "name", "schema",
    ),
)  # fmt: skip

SCHEMAS: dict[str, Json] = {
    "ResponseItem": either(
        thing(
            {
                "type": constant("message"),
                "role": text("", "user", "assistant", "system", "developer"),
                "content": either(text(), listed(_PART, least=1)),
            },
            "role", "content",
        ),
        thing(
            {"type": constant("function_call"), "call_id": text(least=1), "name": text(least=1), "arguments": text()},
            "type", "call_id", "name", "arguments",
        ),
        thing(
            {"type": constant("function_call_output"), "call_id": text(least=1), "output": text()},
            "type", "call_id", "output",
        ),
        thing({"type": constant("reasoning"), "summary": listed(thing({"text": text()}))}, "type", "summary"),
    ),
    "ResponseTool": thing(
        {
            "type": constant("function"),
            "name": text(least=1),
            "description": text(),
            "parameters": anything("A JSON schema of the arguments."),
            "strict": flag(),
        },
        "type", "name",
    ),
    "ResponseRequest": thing(
        {
            "model": ref("Name"),
            "input": either(text(least=1), listed(ref("ResponseItem"), least=1)),
            "instructions": text("What the model is told before everything else."),
            "max_output_tokens": count("How many tokens to say at most, thoughts among them.", 1),
            "temperature": number(),
            "top_p": number(most=1),
            "stream": flag("Send events as they come."),
            "text": thing({"format": _FORMAT}, about="Hold the answer to JSON, or to a schema."),
            "reasoning": thing({"effort": EFFORT}),
            "tools": listed(ref("ResponseTool"), "Only functions: there are no tools of the server's own."),
            "tool_choice": text("", "none", "auto"),
            "parallel_tool_calls": flag(),
            "store": flag("Nothing is kept, whatever this says."),
            "metadata": anything("Repeated in the answer."),
        },
        "model", "input",
    ),
    "Response": thing(
        {
            "id": text(),
            "object": constant("response"),
            "created_at": count(),
            "status": text("", "completed", "incomplete"),
            "model": text(),
            "output": listed(
                thing(
                    {"id": text(), "type": text("", "message", "reasoning", "function_call"), "status": text()},
                    "id", "type",
                ),
                "What the model thought, said and called, in this order.",
            ),
            "incomplete_details": maybe(thing({"reason": text()})),
            "store": flag(),
            "usage": thing({"input_tokens": count(), "output_tokens": count(), "total_tokens": count()}),
        },
        "id", "object", "status", "output", "usage",
    ),
}  # fmt: skip

OPERATIONS: dict[str, Operation] = {
    "responses": Operation(
        "Respond",
        "Every engine is asked for a chat completion, whichever it is, so all answer alike. Nothing is kept between "
        "requests: `previous_response_id`, `conversation` and `background` are refused.",
        request=ref("ResponseRequest"),
        answer=ref("Response"),
        streams=EVENTS,
        example={"model": "demo", "input": "What does the farmer do?", "max_output_tokens": 50},
    )
}
