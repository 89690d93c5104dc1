"""OpenAI's `/v1/responses`, over every kind of node: each is asked for a chat completion, and nothing is kept."""

from aistack.gateway.conversation import Conversation, converse
from aistack.gateway.exchange import Exchange
from aistack.gateway.services import Services
from aistack.gateway.translation.responses_replies import ResponseStream, response
from aistack.gateway.translation.responses_requests import read


async def responses(exchange: Exchange, services: Services) -> None:
    """`POST /v1/responses`."""
    body, raw = await exchange.json(services.body_limit)
    request = read(body)
    conversation = Conversation(
        body,
        len(raw),
        request.model,
        request.chat,
        told=lambda document, _: response(document, request),
        events=(lambda: ResponseStream(request)) if request.streamed else None,
    )
    await converse(exchange, services, conversation)
