"""The application: find the operation, let the caller in or not, answer, count, log."""

import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial

import orjson

from aistack.gateway import (
    admin_surface,
    anthropic_surface,
    description_surface,
    management,
    models_surface,
    node_report,
    ollama_embeddings,
    ollama_surface,
    openai_surface,
    rerank,
    responses_surface,
    truncation,
)
from aistack.gateway.access_log import line
from aistack.gateway.batches import Batches
from aistack.gateway.exchange import Exchange
from aistack.gateway.http_request import Request
from aistack.gateway.metrics import CONTENT_TYPE
from aistack.gateway.principals import Principal
from aistack.gateway.refusals import ClientGone, Refusal, anthropic_error, ollama_error, openai_error
from aistack.gateway.routes import Match, Route, Surface, find, surface_of
from aistack.gateway.services import Services

Handler = Callable[[Exchange, Services], Awaitable[None]]

# nginx's number for a client that went away first; it stands only in our log and metrics.
CLIENT_GONE = 499

_log = logging.getLogger("aistack.gateway")

_CHALLENGES = {
    Surface.OLLAMA: (b"www-authenticate", b'Basic realm="aistack"'),
    Surface.OPENAI: (b"www-authenticate", b'Bearer realm="aistack"'),
    Surface.ANTHROPIC: (b"www-authenticate", b'Bearer realm="aistack"'),
    Surface.ADMIN: (b"www-authenticate", b'Bearer realm="aistack"'),
}
_ERRORS = {Surface.ANTHROPIC: anthropic_error, Surface.OLLAMA: ollama_error}
_UNKNOWN = "unknown"


async def _health(exchange: Exchange, services: Services) -> None:
    if services.nodes.any_up:
        return await exchange.reply(200, b'{"status":"ok"}')
    return await exchange.reply(503, b'{"status":"unavailable"}')


async def _live(exchange: Exchange, _: Services) -> None:
    await exchange.reply(200, b'{"status":"ok"}')


async def _metrics(exchange: Exchange, services: Services) -> None:
    if exchange.from_edge:
        raise Refusal(403, "metrics are not for the outside")
    await exchange.reply(200, services.meters.text(), CONTENT_TYPE)


async def _nodes(exchange: Exchange, services: Services) -> None:
    if exchange.from_edge:
        raise Refusal(403, "this is not for the outside")
    await exchange.reply(200, orjson.dumps(node_report.report(services.nodes)))


async def _authorize_admin(exchange: Exchange, services: Services) -> None:
    await services.administrators.authorize(exchange.headers)
    await exchange.reply(204, b"", b"")


_OPEN: dict[str, Handler] = {
    "openapi": description_surface.openapi,
    "docs": description_surface.docs,
    "health": _health,
    "live": _live,
    "metrics": _metrics,
    "nodes": _nodes,
    "authorize-admin": _authorize_admin,
}
_PROTECTED: dict[tuple[Surface, str], Handler] = {
    (Surface.OPENAI, "models"): models_surface.models,
    **{
        (Surface.OPENAI, name): partial(openai_surface.generation, operation=name)
        for name in ("chat/completions", "completions", "embeddings")
    },
    (Surface.OPENAI, "responses"): responses_surface.responses,
    (Surface.OPENAI, "rerank"): rerank.rerank,
    (Surface.ANTHROPIC, "messages"): anthropic_surface.messages,
    (Surface.ANTHROPIC, "messages/count_tokens"): anthropic_surface.count_tokens,
    (Surface.OLLAMA, "root"): ollama_surface.root,
    (Surface.OLLAMA, "version"): ollama_surface.version,
    (Surface.OLLAMA, "tags"): ollama_surface.tags,
    (Surface.OLLAMA, "ps"): ollama_surface.running,
    (Surface.OLLAMA, "show"): ollama_surface.show,
    (Surface.OLLAMA, "chat"): ollama_surface.chat,
    (Surface.OLLAMA, "generate"): ollama_surface.generate,
    (Surface.OLLAMA, "embed"): ollama_embeddings.embed,
    (Surface.OLLAMA, "embeddings"): ollama_embeddings.embeddings_of_one,
    (Surface.ADMIN, "keys"): admin_surface.keys,
    (Surface.ADMIN, "usage"): admin_surface.usage,
    (Surface.ADMIN, "nodes"): admin_surface.nodes,
}
# Those whose path names something.
_NAMED: dict[tuple[Surface, str], Callable[[Exchange, Services, str], Awaitable[None]]] = {
    (Surface.OPENAI, "models/{id}"): models_surface.model,
    (Surface.ADMIN, "keys/{id}"): admin_surface.key,
    (Surface.ADMIN, "keys/{id}/rotate"): admin_surface.rotate,
    (Surface.ADMIN, "nodes/{name}/drain"): admin_surface.drain,
    (Surface.ADMIN, "nodes/{name}/resume"): admin_surface.resume,
}


class Application:
    """What answers every request. `services` is made by the caller, who also closes it."""

    def __init__(self, services: Services, access_log: Batches) -> None:
        self._services = services
        self._access_log = access_log

    async def __call__(self, request: Request) -> None:
        """Answer one request."""
        exchange = Exchange(request)
        match = find(exchange.path)
        meters = self._services.meters
        meters.in_flight += 1
        outcome = "ok"
        try:
            await self._answer(exchange, match)
            if exchange.failed_node:
                outcome = "engine_failed"
        except Refusal as refusal:
            outcome = refusal.code or "refused"
            meters.refused(refusal.code)
            if refusal.node and refusal.status >= 500:
                exchange.failed_node = refusal.node
            await _refuse(exchange, match, refusal)
        except ClientGone:
            exchange.status = CLIENT_GONE
            outcome = "client_gone"
        except Exception:
            outcome = "gateway_failed"
            _log.exception("a request failed: %s", exchange.raw_path.decode("latin-1"))
            if exchange.status:
                raise  # the answer has begun: the server cuts the connection, so nobody takes it for whole
            await _refuse(exchange, match, Refusal(500, "the gateway failed; its log says why"))
        finally:
            meters.in_flight -= 1
            self._record(exchange, match.route if match else None, outcome)

    async def _answer(self, exchange: Exchange, match: Match | None) -> None:
        if match is None:
            raise Refusal(404, "there is nothing at this path")
        route = match.route
        if route.management:
            management.require_administrator(exchange, self._services)
            if not route.methods:
                raise Refusal(404, "there is nothing at this path")
        if exchange.method not in route.methods:
            allowed = ", ".join(route.methods).encode()
            raise Refusal(405, f"{exchange.method} is not for this path", None, ((b"allow", allowed),))
        if exchange.repeated:
            raise Refusal(400, f"the header {exchange.repeated.decode('latin-1')} was sent twice")
        if route.surface is Surface.SERVICE:
            return await _OPEN[route.name](exchange, self._services)
        if route.management:
            return await management.manage(exchange, self._services, match)
        exchange.principal = self._services.gatekeeper.admit(exchange.headers)
        if route.scope and not exchange.principal.may(route.scope):
            raise _insufficient(exchange.principal, route.scope)
        if match.argument:
            return await _NAMED[route.surface, route.name](exchange, self._services, match.argument)
        return await _PROTECTED[route.surface, route.name](exchange, self._services)

    def _record(self, exchange: Exchange, route: Route | None, outcome: str) -> None:
        surface = route.surface if route else surface_of(exchange.path)
        name = route.name if route else _UNKNOWN
        truncation.note(exchange)
        self._services.meters.answered(exchange, surface, name, time.perf_counter() - exchange.started_at)
        if surface is not Surface.SERVICE:
            self._services.audit.record(exchange, surface, name, outcome)
            self._services.account(exchange, name, outcome)
        self._access_log.add(line(exchange))


def _insufficient(principal: Principal, scope: str) -> Refusal:
    lacking = f"this key lacks the scope '{scope}'"
    message = lacking if principal.kind == "key" else f"this takes a key with the scope '{scope}'"
    return Refusal(403, message, "insufficient_scope")


async def _refuse(exchange: Exchange, match: Match | None, refusal: Refusal) -> None:
    surface = match.route.surface if match else surface_of(exchange.path)
    if surface is Surface.OPENAI and models_surface.ANTHROPICS in exchange.headers:
        surface = Surface.ANTHROPIC
    headers = refusal.headers
    if refusal.status == 401 and (challenge := _CHALLENGES.get(surface)):
        headers = (*headers, challenge)
    await exchange.reply(refusal.status, _ERRORS.get(surface, openai_error)(refusal), headers=headers)
