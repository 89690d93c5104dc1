"""Prompts that are longer than what the engine reads: some engines cut them without a word, so we say it.

Tokenizers never put two words into one token, so a text has at least as many tokens as words. That is no
estimate: a prompt with more words than the engine reads tokens was certainly cut.
"""

import re
from typing import Any

from aistack.gateway.exchange import Exchange
from aistack.gateway.refusals import Refusal

Json = dict[str, Any]

HEADER = b"x-aistack-truncated"
# What an engine reads at the least; shorter bodies are not looked at when it does not say how much it reads.
_LEAST_CONTEXT = 2048
_LONGEST_LOOK = 1_000_000  # characters
_WORD = re.compile(r"\w+")
_TEXTS = ("messages", "prompt", "input", "system", "content", "text", "query", "documents", "instructions", "output")


def guard(exchange: Exchange, body: Json, size: int, limit: int, *, refuse: bool) -> None:
    """Look at a request's `body` of `size` bytes before it is sent to an engine that reads `limit` tokens (0:
    unknown). A prompt that is certainly too long is noted in the answer's headers, or refused (Refusal 400).
    """
    # A word and what parts it from the next take two bytes.
    if size < 2 * (limit or _LEAST_CONTEXT):
        return
    exchange.words = words_in(body)
    if limit and exchange.words > limit:
        _cut(exchange, limit, refuse=refuse)


def judge(exchange: Exchange, *, refuse: bool) -> None:
    """The same once the engine has said how much it read, before a whole answer is passed on."""
    if exchange.words and exchange.tokens and exchange.tokens[0] < exchange.words:
        _cut(exchange, exchange.tokens[0], refuse=refuse)


def note(exchange: Exchange) -> None:
    """The same for an answer that has been sent: only metrics and logs can tell."""
    if exchange.words and exchange.tokens and exchange.tokens[0] < exchange.words:
        exchange.truncated = True


def words_in(body: Json) -> int:
    """The words of the texts in a request, on any surface; of very long ones only so many that it takes no time."""
    words, left = 0, _LONGEST_LOOK
    # No recursion: a body may be nested as deep as a caller likes.
    waiting: list[Any] = [body]
    while waiting and left > 0:
        value = waiting.pop()
        if isinstance(value, str):
            words += len(_WORD.findall(value[:left]))
            left -= len(value)
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += (value[name] for name in _TEXTS if name in value)
    return words


def _cut(exchange: Exchange, limit: int, *, refuse: bool) -> None:
    if exchange.truncated:
        return
    exchange.truncated = True
    if refuse:
        message = f"the prompt has at least {exchange.words} tokens, of which the engine reads {limit}"
        raise Refusal(400, message, "context_length_exceeded")
    exchange.answer_headers.append((HEADER, b"at least %d tokens, %d read" % (exchange.words, limit)))
