"""Ollama's two embedding requests over `/v1/embeddings`, and the cutting of inputs that are too long."""

import math
import re
from typing import Any

from aistack.gateway.refusals import Refusal, bad_request
from aistack.gateway.translation.replies import elapsed_ns

Json = dict[str, Any]
Input = str | list[int]

# How llama.cpp says how many tokens it would have taken.
_LIMIT = re.compile(r"batch size: (\d+)|context size \((\d+)")


def inputs_of(body: Json) -> list[str]:
    """The texts of an `/api/embed` request; an empty string is none, as in Ollama. Raises Refusal 400."""
    wanted = body.get("input")
    if wanted is None or wanted == "":
        return []
    if isinstance(wanted, str):
        return [wanted]
    if isinstance(wanted, list) and all(isinstance(text, str) for text in wanted):
        return wanted
    raise bad_request("invalid input type: input must be a string or a list of strings")


def vectors_in(document: Json) -> list[list[float]]:
    """The vectors of a `/v1/embeddings` answer in the order of the inputs. Raises Refusal 502."""
    try:
        entries = sorted(document["data"], key=lambda entry: entry["index"])
        return [entry["embedding"] for entry in entries]
    except (KeyError, TypeError) as error:
        raise Refusal(502, "the engine's answer holds no embeddings") from error


def shortened(vector: list[float], dimensions: Any) -> list[float]:
    """The first `dimensions` numbers of a vector, brought to length 1 again. Raises Refusal 400."""
    if not dimensions:
        return vector
    if not isinstance(dimensions, int) or dimensions < 0:
        raise bad_request("dimensions must be a positive number")
    if dimensions >= len(vector):
        return vector
    head = vector[:dimensions]
    length = math.sqrt(sum(value * value for value in head)) or 1.0
    return [value / length for value in head]


def token_limit(refusal: Refusal, context_length: int) -> int | None:
    """How many tokens fit, when `refusal` says that an input was too long for the engine; else None.

    `context_length` is the model's own, 0 when unknown.
    """
    match = _LIMIT.search(refusal.message)
    if match is None:
        return None
    said = int(match[1] or match[2])
    return min(said, context_length) if context_length else said


def cut(tokens: list[int], limit: int) -> list[int]:
    """At most `limit` tokens: the first ones and the last, which ends the text for models that want that."""
    return tokens if len(tokens) <= limit else [*tokens[: limit - 1], tokens[-1]]


def embedded(model: str, vectors: list[list[float]], tokens: int, started_at: float) -> Json:
    """The answer of `/api/embed`. `started_at` is a `time.perf_counter()`."""
    return {
        "model": model,
        "embeddings": vectors,
        "total_duration": elapsed_ns(started_at),
        "load_duration": 0,
        "prompt_eval_count": tokens,
    }
