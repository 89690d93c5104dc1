"""Asking a node for a chat completion and telling the client its answer in the words of another surface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from aistack.gateway import truncation
from aistack.gateway.counting import counts_in_answer, counts_of
from aistack.gateway.exchange import Exchange
from aistack.gateway.http_client import FAILURES, Answer
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.relay import EVENT_STREAM
from aistack.gateway.services import Services
from aistack.gateway.translation.chat import ChatRequest
from aistack.gateway.translation.events import EventTranslator
from aistack.gateway.translation.fields import encoded
from aistack.gateway.upstream import broke_off, parsed, refusal_of, whole

Json = dict[str, Any]

_PATH = "/v1/chat/completions"


@dataclass(frozen=True)
class Conversation:
    """A request in the words of a surface: `size` are the bytes of its body, `model` is the name that it gives.

    `told` makes the surface's answer of a whole one from a node, `events` (when a stream is wanted) its stream.
    """

    body: Json
    size: int
    model: str
    chat: ChatRequest
    told: Callable[[Any, NodeState], Json]
    events: Callable[[], EventTranslator] | None


async def converse(exchange: Exchange, services: Services, conversation: Conversation) -> None:
    """Have a node answer. Raises Refusal while nothing was sent; afterwards the stream says it."""
    refuse = services.settings.refuse_truncation

    async def attempt(state: NodeState, model: Model) -> None:
        truncation.guard(exchange, conversation.body, conversation.size, model.reads, refuse=refuse)
        wanted = encoded(conversation.chat.body(model.id, state.node.kind))
        if conversation.events is not None:
            return await told_again(exchange, state, _PATH, wanted, conversation.events(), EVENT_STREAM)
        async with state.peer.request("POST", _PATH, wanted) as response:
            document = parsed(await whole(response, state.node), state.node)
        exchange.tokens = counts_in_answer(document)
        reply = orjson.dumps(conversation.told(document, state))
        truncation.judge(exchange, refuse=refuse)
        return await exchange.reply(200, reply)

    await services.serve(exchange, conversation.model, attempt)


async def told_again(
    exchange: Exchange, state: NodeState, path: str, wanted: bytes, events: EventTranslator, content_type: bytes
) -> None:
    """Tell the stream that a node answers with as `events` has it. Raises Refusal while nothing was sent."""
    try:
        async with state.peer.request("POST", path, wanted) as response:
            if response.status >= 300:
                raise await refusal_of(response, state.node)
            if response.content_type != "text/event-stream":
                # A server that does not stream.
                told = events.whole(parsed(await whole(response, state.node), state.node))
                await exchange.start(200, content_type)
                await exchange.write(told)
            else:
                await exchange.start(200, content_type)
                await _translate(exchange, state, response, events)
            return await exchange.end(events.finish(broke_off(state.node)))
    finally:
        # A client that leaves before the end has used what the engine told by then.
        exchange.tokens = counts_of(events.usage)


async def _translate(exchange: Exchange, state: NodeState, response: Answer, events: EventTranslator) -> None:
    try:
        async for piece in response.pieces():
            if told := events.feed(piece):
                await exchange.write(told)
    except FAILURES:
        exchange.failed_node = state.name
