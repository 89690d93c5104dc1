"""How many tokens the engine read and wrote, from its own words in an answer, without parsing the rest."""

import re
from typing import Any

Json = dict[str, Any]

# Inside a JSON string every quote has a backslash before it, so that no text of a model can look like these.
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_COUNTS = re.compile(rb'"(prompt_tokens|completion_tokens|input_tokens|output_tokens)"\s*:\s*(\d{1,12})')
_OLLAMA_COUNTS = re.compile(rb'"(prompt_eval_count|eval_count)"\s*:\s*(\d{1,12})')
_READ = frozenset({b"prompt_tokens", b"input_tokens", b"prompt_eval_count"})
# Behind the word `usage` they stand within so many bytes; llama.cpp's timings, which follow, are longer.
_USAGE_LENGTH = 300
_TOO_MANY = 10**12
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')


def may_count(piece: bytes) -> bool:
    """Whether it is worth to look into a piece of a stream."""
    return b"_tokens" in piece or b"eval_count" in piece


def counts_in(text: bytes) -> tuple[int, int] | None:
    """Tokens read and written as a `text` of OpenAI's tells them; None when it does not."""
    start = text.rfind(b'"usage"')
    while start >= 0 and not _USAGE.match(text, start):
        start = text.rfind(b'"usage"', 0, start)
    return None if start < 0 else _read_and_written(_COUNTS.findall(text, start, start + _USAGE_LENGTH))


def ollama_counts_in(text: bytes) -> tuple[int, int] | None:
    """The same for Ollama, in whose answers a called tool's arguments, which a model writes, are JSON too: they stand
    before the word that the answer is done."""
    return _read_and_written(_OLLAMA_COUNTS.findall(text, max(text.rfind(b'"done"'), 0)))


def _read_and_written(found: list[tuple[bytes, bytes]]) -> tuple[int, int] | None:
    if not found:
        return None
    read = written = 0
    for name, number in found:
        if name in _READ:
            read = int(number)
        else:
            written = int(number)
    return read, written


def counts_of(usage: Any) -> tuple[int, int] | None:
    """Tokens read and written by OpenAI's `usage`, parsed; None when it is none."""
    if not isinstance(usage, dict):
        return None
    return count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))


def counts_in_answer(document: Any) -> tuple[int, int] | None:
    """The same for a whole answer of OpenAI's, parsed."""
    return counts_of(document.get("usage")) if isinstance(document, dict) else None


def count(value: Any) -> int:
    """A number of tokens that an engine tells; 0 for what cannot be one, which no table could hold either."""
    return value if isinstance(value, int) and 0 <= value < _TOO_MANY else 0


def asking_for_usage(body: Json) -> tuple[Json, bool]:
    """OpenAI's request `body` with a wish for the counts when it wants a stream, and whether its answer holds an
    event that only we wished for."""
    if body.get("stream") is not True:
        return body, False
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    if options.get("include_usage") is True:
        return body, False
    return {**body, "stream_options": {**options, "include_usage": True}}, True


def without_usage(piece: bytes) -> bytes:
    """Whole lines of events without the one that holds nothing but counts."""
    kept: list[bytes] = []
    dropped = False
    for line in piece.splitlines(keepends=True):
        if line.startswith(b"data:") and may_count(line) and _NO_CHOICES.search(line):
            dropped = True
        elif dropped and not line.strip():
            dropped = False  # the empty line that ended the event
        else:
            kept.append(line)
    return b"".join(kept)
