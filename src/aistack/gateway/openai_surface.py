"""OpenAI's surface: every kind of node speaks it, so requests and answers pass nearly as they are."""

from typing import Any

from aistack.gateway import truncation
from aistack.gateway.counting import asking_for_usage
from aistack.gateway.exchange import Exchange
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.relay import relay
from aistack.gateway.services import Services, name_for
from aistack.gateway.translation.fields import encoded
from aistack.gateway.translation.messages import require_inline_media


async def generation(exchange: Exchange, services: Services, operation: str) -> None:
    """`POST /v1/{operation}`: `chat/completions`, `completions` or `embeddings`."""
    body, raw = await exchange.json(services.body_limit)
    require_inline_media(body.get("messages"))
    name: Any = body.get("model")
    # Written anew even where nothing changes: what we have read is what the engine reads, whatever a client
    # may do with keys that occur twice.
    body, hide_usage = asking_for_usage(body)
    refuse = services.settings.refuse_truncation

    async def attempt(state: NodeState, model: Model) -> None:
        truncation.guard(exchange, body, len(raw), model.reads, refuse=refuse)
        body["model"] = name_for(name, state, model)
        async with state.peer.request("POST", f"/v1/{operation}", encoded(body)) as response:
            await relay(exchange, response, state.node, hide_usage=hide_usage, refuse=refuse)

    await services.serve(exchange, name, attempt)
