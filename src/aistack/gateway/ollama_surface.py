"""Ollama's surface: passed on to nodes that are Ollama, translated for those that speak OpenAI's."""

import asyncio
from typing import Any
from urllib.parse import quote

import orjson

from aistack.gateway import truncation
from aistack.gateway.conversation import told_again
from aistack.gateway.counting import counts_in_answer, ollama_counts_in
from aistack.gateway.exchange import NDJSON, Exchange
from aistack.gateway.listing import Model
from aistack.gateway.node_state import NodeState
from aistack.gateway.refusals import Refusal, bad_request
from aistack.gateway.relay import relay
from aistack.gateway.services import Services, name_for
from aistack.gateway.translation import describe, options, replies, requests
from aistack.gateway.translation.fields import encoded
from aistack.gateway.translation.replies import Shape, chat_shape, generate_shape
from aistack.gateway.translation.requests import Translated
from aistack.gateway.translation.streams import LineStream

Json = dict[str, Any]

# The API that we follow. Clients turn features on by it, so it is Ollama's number and not ours.
API_VERSION = "0.34.0"
_ASK_TIMEOUT_S = 5.0


async def root(exchange: Exchange, _: Services) -> None:
    """`GET /ollama`: what Ollama says at its root, by which clients know it."""
    await exchange.reply(200, b"Ollama is running", b"text/plain; charset=utf-8")


async def version(exchange: Exchange, services: Services) -> None:
    """`GET /api/version`: that of the first Ollama among the nodes, else the one we follow."""
    for state in services.nodes.states:
        if state.node.kind == "ollama" and state.up:
            found = await state.peer.json("GET", "/api/version", timeout_s=_ASK_TIMEOUT_S)
            return await exchange.reply(200, orjson.dumps(found))
    return await exchange.reply(200, orjson.dumps({"version": API_VERSION}))


async def tags(exchange: Exchange, services: Services) -> None:
    """`GET /api/tags`: the models of all nodes; for the chat, which offers all of them, only those that talk."""
    found = await services.models(exchange)
    everything = exchange.principal is not None and exchange.principal.kind == "key"
    shown = [model.ollama for _, model in found if everything or model.chats]
    await exchange.reply(200, orjson.dumps({"models": shown}))


async def running(exchange: Exchange, services: Services) -> None:
    """`GET /api/ps`: the models loaded on all nodes; a node that does not answer has none."""
    lists = await asyncio.gather(*(_running_on(state) for state in services.nodes.states if state.up))
    await exchange.reply(200, orjson.dumps({"models": [entry for entries in lists for entry in entries]}))


async def show(exchange: Exchange, services: Services) -> None:
    """`POST /api/show`."""
    body, _ = await exchange.json(services.body_limit)
    state, model = await services.target(exchange, body.get("model") or body.get("name"))
    if state.node.kind == "ollama":
        data = encoded({**body, "model": model.id})
        return await exchange.while_connected(sent_on(exchange, state, "/api/show", data))
    item = model.openai
    if state.node.kind == "llamacpp":
        item = await state.peer.json("GET", f"/engine/models/{quote(model.id, safe='')}", timeout_s=_ASK_TIMEOUT_S)
    return await exchange.reply(200, orjson.dumps(describe.shown(item)))


async def chat(exchange: Exchange, services: Services) -> None:
    """`POST /api/chat`; without messages it loads or unloads the model."""
    body, raw = await exchange.json(services.body_limit)

    async def attempt(state: NodeState, model: Model) -> None:
        if state.node.kind == "ollama":
            return await pass_on(exchange, services, state, model, "/api/chat", body, len(raw))
        if not body.get("messages"):
            return await _load(exchange, state, model, body, chat_shape)
        translated = requests.chat(body, model.id, llama=state.node.kind == "llamacpp")
        return await _generate(exchange, services, state, model, body, translated, len(raw))

    await services.serve(exchange, body.get("model"), attempt)


async def generate(exchange: Exchange, services: Services) -> None:
    """`POST /api/generate`; without a prompt it loads or unloads the model."""
    body, raw = await exchange.json(services.body_limit)
    if not isinstance(body.setdefault("prompt", ""), str):
        raise bad_request("prompt must be a string")

    async def attempt(state: NodeState, model: Model) -> None:
        if state.node.kind == "ollama":
            return await pass_on(exchange, services, state, model, "/api/generate", body, len(raw))
        if not body["prompt"] and not body.get("images"):
            return await _load(exchange, state, model, body, generate_shape)
        translated = requests.generate(body, model.id, llama=state.node.kind == "llamacpp")
        return await _generate(exchange, services, state, model, body, translated, len(raw))

    await services.serve(exchange, body.get("model"), attempt)


async def sent_on(exchange: Exchange, state: NodeState, path: str, data: Any, method: str = "POST") -> None:
    """Send `data` to a node that is Ollama, and its answer back as it is."""
    async with state.peer.request(method, path, data) as response:
        await relay(exchange, response, state.node, counts=ollama_counts_in)


async def pass_on(
    exchange: Exchange, services: Services, state: NodeState, model: Model, path: str, body: Json, size: int
) -> None:
    """Send a request of `size` bytes to a node that is Ollama, and its answer back as it is."""
    refuse = services.settings.refuse_truncation
    wanted = body.get("options")
    limit = wanted.get("num_ctx") if isinstance(wanted, dict) else None
    truncation.guard(exchange, body, size, limit if isinstance(limit, int) else model.reads, refuse=refuse)
    data = encoded({**body, "model": name_for(body["model"], state, model)})
    async with state.peer.request("POST", path, data) as response:
        await relay(exchange, response, state.node, counts=ollama_counts_in, refuse=refuse)


async def _generate(
    exchange: Exchange,
    services: Services,
    state: NodeState,
    model: Model,
    body: Json,
    translated: Translated,
    size: int,
) -> None:
    truncation.guard(exchange, body, size, model.reads, refuse=services.settings.refuse_truncation)
    if requests.streamed(body):
        lines = LineStream(body["model"], translated.shape, exchange.started_at)
        return await told_again(exchange, state, translated.path, encoded(translated.body), lines, NDJSON)
    document = await state.peer.json("POST", translated.path, translated.body)
    exchange.tokens = counts_in_answer(document)
    line = replies.whole(body["model"], document, translated.shape, exchange.started_at, translated.echo)
    truncation.judge(exchange, refuse=services.settings.refuse_truncation)
    return await exchange.reply(200, orjson.dumps(line))


async def _load(exchange: Exchange, state: NodeState, model: Model, body: Json, shape: Shape) -> None:
    """Load the model, or unload it when `keep_alive` is 0."""
    unload = options.means_unload(body.get("keep_alive"))
    reason = "unload" if unload else "load"
    if state.node.kind == "llamacpp" and unload:
        await state.peer.json("POST", "/engine/unload", {"model": model.id})
    elif state.node.kind == "llamacpp":
        wanted = requests.keep_alive(body, llama=True)
        # The least that makes the engine load a model.
        await state.peer.json("POST", "/tokenize", {"model": model.id, "content": "", **wanted})
    elif unload:
        raise Refusal(501, f"the engine that serves {body['model']} does not unload models on request")
    line = replies.loaded(body["model"], shape, reason, exchange.started_at)
    content_type = NDJSON if requests.streamed(body) else b"application/json"
    await exchange.reply(200, orjson.dumps(line) + b"\n", content_type)


async def _running_on(state: NodeState) -> list[Json]:
    try:
        if state.node.kind == "llamacpp":
            loaded = await state.peer.json("GET", "/engine/loaded", timeout_s=_ASK_TIMEOUT_S)
            return describe.running(loaded, state.models)
        if state.node.kind == "ollama":
            entries: list[Json] = (await state.peer.json("GET", "/api/ps", timeout_s=_ASK_TIMEOUT_S))["models"]
            return entries
    except Refusal:
        return []
    return []
