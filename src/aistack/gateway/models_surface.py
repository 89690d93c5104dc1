"""The lists of models: in OpenAI's shape, and in Anthropic's for whoever sends `anthropic-version`."""

from typing import Any

import orjson

from aistack.gateway.exchange import Exchange
from aistack.gateway.listing import Model, timestamp
from aistack.gateway.refusals import bad_request
from aistack.gateway.services import Services

Json = dict[str, Any]

ANTHROPICS = b"anthropic-version"
_USUAL_PAGE = 20
_LONGEST_PAGE = 1000


async def models(exchange: Exchange, services: Services) -> None:
    """`GET /v1/models`: the models of all nodes, and the aliases."""
    found = [model for _, model in await services.models(exchange)]
    if ANTHROPICS in exchange.headers:
        query = {name.removesuffix("[]"): values for name, values in exchange.query.items()}
        return await exchange.reply(200, orjson.dumps(page(found, query)))
    listed = [model.openai for model in found]
    return await exchange.reply(200, orjson.dumps({"object": "list", "data": listed}))


async def model(exchange: Exchange, services: Services, name: str) -> None:
    """`GET /v1/models/{name}`."""
    _, found = await services.target(exchange, name)
    told = _told(found) if ANTHROPICS in exchange.headers else found.openai
    await exchange.reply(200, orjson.dumps(told))


def page(found: list[Model], query: dict[str, list[str]]) -> Json:
    """A page of `found` as Anthropic's list has it; `query` may hold `limit`, `after_id` or `before_id`, `lifecycle`.
    Raises Refusal 400."""
    limit = _limit(query)
    if "active" not in query.get("lifecycle", ["active"]):
        found = []  # whatever is there can be used
    names = [model.id for model in found]
    first, end = 0, len(names)
    backwards = "before_id" in query
    if backwards and "after_id" in query:
        raise bad_request("after_id and before_id exclude each other", "before_id")
    if backwards:
        end = _place(names, query, "before_id")
        first = max(0, end - limit)
    elif "after_id" in query:
        first = _place(names, query, "after_id") + 1
    shown = found[first:end][:limit]
    return {
        "data": [_told(model) for model in shown],
        "has_more": first > 0 if backwards else first + len(shown) < end,
        "first_id": shown[0].id if shown else None,
        "last_id": shown[-1].id if shown else None,
    }


def _limit(query: dict[str, list[str]]) -> int:
    text = query.get("limit", [str(_USUAL_PAGE)])[-1]
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0
    if not 1 <= number <= _LONGEST_PAGE:
        raise bad_request(f"limit must be a whole number from 1 to {_LONGEST_PAGE}", "limit")
    return number


def _place(names: list[str], query: dict[str, list[str]], field: str) -> int:
    name = query[field][-1]
    if name not in names:
        raise bad_request(f"{field}: there is no model {name!r}", field)
    return names.index(name)


def _told(model: Model) -> Json:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": timestamp(model.openai.get("created")),
        "lifecycle": "active",
        "max_input_tokens": model.reads or model.context_length or None,
    }
