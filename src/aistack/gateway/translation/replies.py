"""An OpenAI-speaking engine's answers as Ollama's: whole ones, and the counts of the last line. Pure."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation.messages import calls_to_ollama

Json = dict[str, Any]

_MILLISECOND = 1_000_000  # nanoseconds
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class Said:
    """What the model said in one piece of an answer; tool calls are in Ollama's shape."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[Json] = field(default_factory=list)
    logprobs: list[Json] | None = None


Shape = Callable[[Said], Json]


def chat_shape(said: Said) -> Json:
    """As `/api/chat` gives it."""
    message: Json = {"role": "assistant", "content": said.text}
    if said.thinking:
        message["thinking"] = said.thinking
    if said.tool_calls:
        message["tool_calls"] = said.tool_calls
    return {"message": message, **_logprobs(said)}


def generate_shape(said: Said) -> Json:
    """As `/api/generate` gives it."""
    shaped: Json = {"response": said.text}
    if said.thinking:
        shaped["thinking"] = said.thinking
    return {**shaped, **_logprobs(said)}


def whole(model: str, document: Json, shape: Shape, started_at: float, echo: str = "") -> Json:
    """A whole answer, without `echo` at its beginning. `started_at` is a `time.perf_counter()`.

    Raises Refusal 502 when it holds no choice.
    """
    try:
        choice = document["choices"][0]
    except (KeyError, IndexError, TypeError) as error:
        raise Refusal(502, "the engine's answer holds no choice") from error
    message = choice.get("message")
    if message is None:
        said = Said(choice.get("text") or "", logprobs=logprobs_of(choice))
    else:
        calls, unreadable = calls_to_ollama(message.get("tool_calls") or [])
        text = (message.get("content") or "").removeprefix(echo) + unreadable
        said = Said(text, thinking_of(message), calls, logprobs_of(choice))
    return {
        **opening(model),
        **shape(said),
        **closing(choice.get("finish_reason"), document.get("usage"), document.get("timings"), started_at),
    }


def opening(model: str) -> Json:
    """What every line begins with."""
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


def closing(finish_reason: str | None, usage: Any, timings: Any, started_at: float) -> Json:
    """What the last line ends with; counts are tokens, durations nanoseconds.

    `usage` and `timings` are the engine's own; without `timings` (not llama.cpp) all time is called writing.
    What was neither reading nor writing was waiting and loading, as in Ollama.
    """
    total = elapsed_ns(started_at)
    usage = usage if isinstance(usage, dict) else {}
    timings = timings if isinstance(timings, dict) else {}
    reading = int(timings.get("prompt_ms", 0) * _MILLISECOND)
    writing = int(timings["predicted_ms"] * _MILLISECOND) if "predicted_ms" in timings else total
    return {
        "done": True,
        # Ollama calls a finished tool call a stop as well.
        "done_reason": "length" if finish_reason == "length" else "stop",
        "total_duration": total,
        "load_duration": max(0, total - reading - writing),
        "prompt_eval_count": usage.get("prompt_tokens") or 0,
        "prompt_eval_duration": reading,
        "eval_count": usage.get("completion_tokens") or 0,
        "eval_duration": writing,
    }


def loaded(model: str, shape: Shape, reason: str, started_at: float) -> Json:
    """The answer to a request that said nothing and so only loads (`load`) or unloads (`unload`) a model."""
    line: Json = {**opening(model), **shape(Said()), "done": True, "done_reason": reason}
    if reason == "load":
        line["total_duration"] = line["load_duration"] = elapsed_ns(started_at)
    return line


def elapsed_ns(started_at: float) -> int:
    """Nanoseconds since `started_at`, a `time.perf_counter()`."""
    return int((time.perf_counter() - started_at) * _SECOND)


def thinking_of(message: Json) -> str:
    """What the model thought: llama.cpp calls it `reasoning_content`, others `reasoning`."""
    return message.get("reasoning_content") or message.get("reasoning") or ""


def logprobs_of(choice: Json) -> list[Json] | None:
    """A choice's log probabilities in Ollama's shape, if it has any."""
    holder = choice.get("logprobs")
    content = holder.get("content") if isinstance(holder, dict) else None
    if not content:
        return None
    return [
        {**_token(entry), "top_logprobs": [_token(other) for other in entry.get("top_logprobs") or []]}
        for entry in content
    ]


def _token(entry: Json) -> Json:
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry.get("bytes")}


def _logprobs(said: Said) -> Json:
    return {} if said.logprobs is None else {"logprobs": said.logprobs}
