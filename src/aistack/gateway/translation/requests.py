"""Ollama's chat and generate requests as requests to an OpenAI-speaking engine. Pure."""

from dataclasses import dataclass
from typing import Any

from aistack.gateway.refusals import bad_request
from aistack.gateway.translation import options, template
from aistack.gateway.translation.messages import content_parts, to_openai
from aistack.gateway.translation.replies import Shape, chat_shape, generate_shape

Json = dict[str, Any]


@dataclass(frozen=True)
class Translated:
    """A request to the engine: where to, with what, and how its answer is shaped for the caller.

    `echo` is what the engine repeats at the beginning of a whole answer, and the caller did not ask for.
    """

    path: str
    body: Json
    shape: Shape
    echo: str = ""


def chat(body: Json, model: str, *, llama: bool) -> Translated:
    """`/api/chat` as `/v1/chat/completions` for the engine's model `model`. Raises Refusal 400.

    `llama`: the engine is llama.cpp and takes more than OpenAI's fields.
    """
    tools = body.get("tools")
    if tools is not None and not isinstance(tools, list):
        raise bad_request("tools must be a list")
    messages = to_openai(body["messages"])
    fields = {
        "model": model,
        "messages": messages,
        **({"tools": tools} if tools else {}),
        **_chat_fields(body, llama=llama),
    }
    # llama.cpp goes on from what the assistant said last, as Ollama does, and repeats it, which Ollama does not.
    begun = messages[-1]["content"] if llama and messages[-1]["role"] == "assistant" else ""
    return Translated("/v1/chat/completions", fields, chat_shape, begun if isinstance(begun, str) else "")


def generate(body: Json, model: str, *, llama: bool) -> Translated:
    """`/api/generate` for the engine's model `model`. Raises Refusal 400.

    A prompt that is `raw`, or finished here by the caller's own `template`, goes to `/v1/completions`;
    any other is a chat of one message, so that the engine applies the model's template. Ollama's
    `context` is ignored: the engine keeps its own cache of prompts.
    """
    if body.get("suffix") and llama:
        raise bad_request(f"{body['model']} does not support insert")
    if prompt := _finished_prompt(body):
        suffix = {"suffix": body["suffix"]} if body.get("suffix") else {}
        fields = {
            **_common_fields(body, llama=llama),
            **options.response_format(body.get("format"), bare=llama),
        }
        return Translated("/v1/completions", {"model": model, "prompt": prompt, **fields, **suffix}, generate_shape)
    messages: list[Json] = [{"role": "user", "content": content_parts(body["prompt"], body.get("images"))}]
    if system := body.get("system"):
        messages.insert(0, {"role": "system", "content": system})
    fields = {"model": model, "messages": messages, **_chat_fields(body, llama=llama)}
    return Translated("/v1/chat/completions", fields, generate_shape)


def streamed(body: Json) -> bool:
    """Whether the caller wants a stream, which is Ollama's default."""
    return body.get("stream") is not False


def _finished_prompt(body: Json) -> str | None:
    """The prompt as the model shall read it, when that is the caller's business; else None."""
    prompt: str = body["prompt"]
    if body.get("raw") or body.get("suffix"):
        return prompt
    if wanted := body.get("template"):
        return template.filled(wanted, system=body.get("system") or "", prompt=prompt)
    return None


def _chat_fields(body: Json, *, llama: bool) -> Json:
    return {
        **_common_fields(body, llama=llama),
        **options.response_format(body.get("format")),
        **options.thinking(body.get("think"), llama=llama),
        **options.log_probabilities(body),
    }


def _common_fields(body: Json, *, llama: bool) -> Json:
    fields = {**options.sampling(body.get("options"), llama=llama), **keep_alive(body, llama=llama)}
    if streamed(body):
        return {**fields, "stream": True, "stream_options": {"include_usage": True}}
    return fields


def keep_alive(body: Json, *, llama: bool) -> Json:
    """Ollama's `keep_alive`, which only our own engine understands."""
    wanted = body.get("keep_alive")
    return {"keep_alive": wanted} if llama and wanted is not None else {}
