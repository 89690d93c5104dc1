"""Anthropic's surface, over every kind of node: each is asked for a chat completion."""

from typing import Any

import orjson

from aistack.gateway.conversation import Conversation, converse
from aistack.gateway.exchange import Exchange
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.refusals import Refusal
from aistack.gateway.services import Services
from aistack.gateway.translation.anthropic_replies import MessageStream, message
from aistack.gateway.translation.anthropic_requests import read

Json = dict[str, Any]


async def messages(exchange: Exchange, services: Services) -> None:
    """`POST /v1/messages`."""
    body, raw = await exchange.json(services.body_limit)
    request = read(body)

    def told(document: Any, state: NodeState) -> Json:
        # llama.cpp repeats what it goes on from, though not in a stream.
        return message(document, request, echoes=state.node.kind == "llamacpp")

    events = (lambda: MessageStream(request)) if request.streamed else None
    await converse(exchange, services, Conversation(body, len(raw), request.model, request.chat, told, events))


async def count_tokens(exchange: Exchange, services: Services) -> None:
    """`POST /v1/messages/count_tokens`: how long the prompt is that such a message would make."""
    body, _ = await exchange.json(services.body_limit)
    request = read(body, counted=True)

    async def attempt(state: NodeState, model: Model) -> None:
        if state.node.kind != "llamacpp":
            raise Refusal(501, f"the engine that serves {request.model} does not count tokens")
        wanted = request.chat.body(model.id, state.node.kind)
        document = await state.peer.json("POST", "/v1/chat/completions/input_tokens", wanted)
        await exchange.reply(200, orjson.dumps({"input_tokens": document["input_tokens"]}))

    await services.serve(exchange, request.model, attempt)
