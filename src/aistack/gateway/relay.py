"""Passing a node's answer on: whole when it is whole, piece by piece when it is a stream.

Streams are cut only at the end of a line, so what breaks off in the middle of one is dropped and
replaced by an error that the client can read. Nothing is parsed but the engine's counts of tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass

from aistack.gateway import truncation
from aistack.gateway.counting import counts_in, may_count, without_usage
from aistack.gateway.exchange import NDJSON, Exchange
from aistack.gateway.http_client import FAILURES, Answer
from aistack.gateway.refusals import Refusal, ollama_error, openai_error
from aistack.gateway.settings import Node
from aistack.gateway.upstream import broke_off, whole

Counts = Callable[[bytes], tuple[int, int] | None]

# A line longer than this is passed on in parts rather than kept.
_LONGEST_LINE = 16_000_000
EVENT_STREAM = b"text/event-stream"


@dataclass(frozen=True)
class Framing:
    """How a kind of stream is made: what its last line holds, and how an error is told in it.

    An empty `last` means that nothing but the end of the body marks the end of the stream.
    """

    content_type: bytes
    last: bytes

    def error(self, refusal: Refusal) -> bytes:
        """The refusal as an event of such a stream."""
        if self.content_type == NDJSON:
            return ollama_error(refusal) + b"\n"
        # The empty line ends an event whose last line may have come without it.
        return b"\ndata: " + openai_error(refusal) + b"\n\n"


_FRAMINGS = {
    "text/event-stream": Framing(EVENT_STREAM, b"data: [DONE]"),
    "application/x-ndjson": Framing(NDJSON, b""),
}


async def relay(
    exchange: Exchange,
    response: Answer,
    node: Node,
    *,
    counts: Counts = counts_in,
    hide_usage: bool = False,
    refuse: bool = False,
) -> None:
    """Pass the node's answer on, without the event of counts where only we wished for it.

    `counts` finds the engine's counts of tokens. `refuse`: a whole answer to a prompt that was cut is refused.
    Raises Refusal while nothing was sent yet; afterwards the stream says it.
    """
    if response.status >= 300 or (framing := _FRAMINGS.get(response.content_type)) is None:
        body = await whole(response, node)
        exchange.tokens = counts(body)
        truncation.judge(exchange, refuse=refuse)
        content_type = response.headers.get("content-type", "").encode("latin-1")
        return await exchange.reply(response.status, body, content_type)
    await exchange.start(response.status, framing.content_type)
    try:
        complete = await _copy(exchange, response, framing, counts, hide_usage=hide_usage)
    except FAILURES:
        complete = False
    if complete:
        return await exchange.end()
    exchange.failed_node = node.name
    return await exchange.end(framing.error(broke_off(node)))


async def _copy(exchange: Exchange, response: Answer, framing: Framing, counts: Counts, *, hide_usage: bool) -> bool:
    """Copy whole lines as they come; returns whether the stream came to its proper end."""
    kept = tail = b""
    async for received in response.pieces():
        piece = kept + received if kept else received
        kept = b""
        if not piece.endswith(b"\n") and len(piece) < _LONGEST_LINE:
            end = piece.rfind(b"\n") + 1
            piece, kept = piece[:end], piece[end:]
        if piece:
            tail = piece[-32:]
            if may_count(piece):
                exchange.tokens = counts(piece) or exchange.tokens
                piece = without_usage(piece) if hide_usage else piece
            if piece:
                await exchange.write(piece)
    if framing.last and framing.last in kept:
        # Some servers do not end their last line.
        await exchange.write(kept)
        return True
    return not kept and framing.last in tail
