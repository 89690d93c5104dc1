"""OpenAI's surface: every kind of node speaks it, so requests and answers pass as they are."""

import orjson

from aistack.gateway.exchange import Exchange
from aistack.gateway.relay import relay
from aistack.gateway.services import Services
from aistack.gateway.translation.messages import require_inline_media


async def models(exchange: Exchange, services: Services) -> None:
    """`GET /v1/models`: the models of all nodes."""
    found = await services.nodes.models()
    await exchange.reply(200, orjson.dumps({"object": "list", "data": [model.openai for _, model in found]}))


async def model(exchange: Exchange, services: Services, name: str) -> None:
    """`GET /v1/models/{name}`."""
    _, found = await services.target(exchange, name)
    await exchange.reply(200, orjson.dumps(found.openai))


async def generation(exchange: Exchange, services: Services, operation: str) -> None:
    """`POST /v1/{operation}`: `chat/completions`, `completions` or `embeddings`."""
    body, raw = await exchange.json(services.body_limit)
    require_inline_media(body.get("messages"))
    state, found = await services.target(exchange, body.get("model"))
    if state.node.kind == "openai" and body["model"] != found.id:
        # The others take `x` and `x:latest` for the same model; this one knows only its own name.
        raw = orjson.dumps({**body, "model": found.id})

    async def pass_on() -> None:
        async with state.peer.request("POST", f"/v1/{operation}", raw) as response:
            await relay(exchange, response, state.node)

    await exchange.while_connected(pass_on())
