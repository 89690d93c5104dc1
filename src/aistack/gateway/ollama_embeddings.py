"""The two embedding operations of Ollama's surface."""

from typing import Any

import orjson

from aistack.gateway.counting import counts_in_answer
from aistack.gateway.exchange import Exchange
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.ollama_surface import pass_on
from aistack.gateway.refusals import Refusal, bad_request
from aistack.gateway.services import Services
from aistack.gateway.translation import embeddings, requests

Json = dict[str, Any]


async def embed(exchange: Exchange, services: Services) -> None:
    """`POST /api/embed`: one text or several."""
    body, raw = await exchange.json(services.body_limit)
    texts = embeddings.inputs_of(body)

    async def attempt(state: NodeState, model: Model) -> None:
        if state.node.kind == "ollama":
            return await pass_on(exchange, services, state, model, "/api/embed", body, len(raw))
        vectors = await _vectors(exchange, state, model, body, texts)
        read, _ = exchange.tokens or (0, 0)
        answer = embeddings.embedded(body["model"], vectors, read, exchange.started_at)
        return await exchange.reply(200, orjson.dumps(answer))

    await services.serve(exchange, body.get("model"), attempt)


async def embeddings_of_one(exchange: Exchange, services: Services) -> None:
    """`POST /api/embeddings`: the older operation, for one text."""
    body, raw = await exchange.json(services.body_limit)
    prompt = body.get("prompt") or ""
    if not isinstance(prompt, str):
        raise bad_request("prompt must be a string")

    async def attempt(state: NodeState, model: Model) -> None:
        if state.node.kind == "ollama":
            return await pass_on(exchange, services, state, model, "/api/embeddings", body, len(raw))
        vectors = await _vectors(exchange, state, model, body, [prompt] if prompt else [])
        return await exchange.reply(200, orjson.dumps({"embedding": vectors[0] if vectors else []}))

    await services.serve(exchange, body.get("model"), attempt)


async def _vectors(
    exchange: Exchange, state: NodeState, model: Model, body: Json, texts: list[str]
) -> list[list[float]]:
    """A vector for each text; how many tokens they had together is noted."""
    if not texts:
        return []
    llama = state.node.kind == "llamacpp"
    more = requests.keep_alive(body, llama=llama)
    inputs: list[embeddings.Input] = list(texts)
    try:
        document = await _ask(state, model, inputs, more)
    except Refusal as refusal:
        limit = embeddings.token_limit(refusal, model.context_length)
        if limit is None or not llama or body.get("truncate") is False:
            raise
        document = await _ask(state, model, await _cut(state, model, texts, limit), more)
    exchange.tokens = counts_in_answer(document)
    dimensions = body.get("dimensions")
    return [embeddings.shortened(vector, dimensions) for vector in embeddings.vectors_in(document)]


async def _ask(state: NodeState, model: Model, inputs: list[embeddings.Input], more: Json) -> Json:
    body = {"model": model.id, "input": inputs, "encoding_format": "float", **more}
    document = await state.peer.json("POST", "/v1/embeddings", body)
    if not isinstance(document, dict):
        raise Refusal(502, "the engine's answer holds no embeddings")
    return document


async def _cut(state: NodeState, model: Model, texts: list[str], limit: int) -> list[embeddings.Input]:
    """The texts as tokens, none longer than `limit`: what Ollama does unless `truncate` is false."""
    inputs: list[embeddings.Input] = []
    for text in texts:
        request = {"model": model.id, "content": text, "add_special": True}
        document = await state.peer.json("POST", "/tokenize", request)
        inputs.append(embeddings.cut(document["tokens"], limit))
    return inputs
