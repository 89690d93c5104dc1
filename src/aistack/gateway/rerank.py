"""`/v1/rerank`, after Cohere and Jina: how well each document answers a query, from a node that has such models."""

from typing import Any

import orjson

from aistack.gateway.counting import count
from aistack.gateway.exchange import Exchange
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.refusals import Refusal
from aistack.gateway.services import Services
from aistack.gateway.translation.fields import Fields, encoded
from aistack.gateway.upstream import parsed, refusal_of, whole

Json = dict[str, Any]


async def rerank(exchange: Exchange, services: Services) -> None:
    """`POST /v1/rerank`."""
    body, _ = await exchange.json(services.body_limit)
    fields = Fields(body)
    name = fields.needed_text("model")
    documents = _documents(fields)
    wanted = {"query": fields.needed_text("query"), "documents": documents}
    most = fields.count("top_n", least=1)
    shows = fields.flag("return_documents") or False

    async def attempt(state: NodeState, model: Model) -> None:
        document = await _asked(state, {"model": model.id, **wanted}, name)
        exchange.tokens = (_tokens(document), 0)
        results = _results(document, documents, most, shows=shows)
        usage = {"prompt_tokens": exchange.tokens[0], "total_tokens": exchange.tokens[0]}
        await exchange.reply(200, orjson.dumps({"object": "list", "model": name, "results": results, "usage": usage}))

    await services.serve(exchange, name, attempt)


def _documents(fields: Fields) -> list[str]:
    """The texts, each a string or an object with a `text`. Raises Refusal 400 when there are none."""
    wanted = fields.body.get("documents")
    if not isinstance(wanted, list) or not wanted:
        raise fields.refusal("documents", "must be a list of at least one text")
    texts: list[str] = []
    for document in wanted:
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise fields.refusal("documents", "must hold strings, or objects with a text")
        texts.append(text)
    return texts


async def _asked(state: NodeState, body: Json, name: str) -> Any:
    """The node's own answer. Raises Refusal: its own, or 501 when it does not rerank."""
    unable = Refusal(501, f"the engine that serves {name} does not rerank")
    if state.node.kind == "ollama":
        raise unable
    async with state.peer.request("POST", "/v1/rerank", encoded(body)) as response:
        if response.status in (404, 405, 501):
            raise unable from await refusal_of(response, state.node)
        return parsed(await whole(response, state.node), state.node)


def _results(document: Any, documents: list[str], most: int | None, *, shows: bool) -> list[Json]:
    """The best `most` documents, best first; all when `most` is None. Raises Refusal 502."""
    try:
        scores = sorted(
            ((float(entry["relevance_score"]), int(entry["index"])) for entry in document["results"]), reverse=True
        )
        return [
            {"index": index, "relevance_score": score, **({"document": {"text": documents[index]}} if shows else {})}
            for score, index in scores[:most]
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Refusal(502, "the engine's answer holds no scores") from error


def _tokens(document: Any) -> int:
    usage = document.get("usage") if isinstance(document, dict) else None
    return count(usage.get("total_tokens")) if isinstance(usage, dict) else 0
