"""Asking a node for a chat completion and telling the client its answer in the words of another surface."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from aistack.gateway import truncation
from aistack.gateway.exchange import Exchange
from aistack.gateway.http_client import FAILURES
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.relay import EVENT_STREAM
from aistack.gateway.services import Services
from aistack.gateway.translation.chat import ChatRequest, tokens_in
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
            return await _stream(exchange, state, wanted, conversation.events())
        async with state.peer.request("POST", _PATH, wanted) as response:
            document = parsed(await whole(response, state.node), state.node)
        reply = orjson.dumps(conversation.told(document, state))
        _count(exchange, document.get("usage"))
        truncation.judge(exchange, refuse=refuse)
        return await exchange.reply(200, reply)

    await services.serve(exchange, conversation.model, attempt)


async def _stream(exchange: Exchange, state: NodeState, wanted: bytes, events: EventTranslator) -> None:
    async with state.peer.request("POST", _PATH, wanted) as response:
        if response.status >= 300:
            raise await refusal_of(response, state.node)
        if response.content_type != "text/event-stream":
            # A server that does not stream.
            told = events.whole(parsed(await whole(response, state.node), state.node))
            await exchange.start(200, EVENT_STREAM)
            await exchange.write(told)
        else:
            await exchange.start(200, EVENT_STREAM)
            try:
                async for piece in response.pieces():
                    if told := events.feed(piece):
                        await exchange.write(told)
            except FAILURES:
                exchange.failed_node = state.name
        _count(exchange, events.usage)
        return await exchange.end(events.finish(broke_off(state.node)))


def _count(exchange: Exchange, usage: Any) -> None:
    if isinstance(usage, dict):
        exchange.tokens = tokens_in(usage)
