"""The admin API, for keys with the scope `admin`: what `aistack keys`, `usage` and `nodes` do on the server."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import partial
from typing import Any, Concatenate, ParamSpec, get_args

import orjson

from aistack.errors import UserError
from aistack.gateway.allowances import LIMIT_NAMES
from aistack.gateway.exchange import Exchange
from aistack.gateway.keys import Key, told
from aistack.gateway.node_report import report, told_of_node, told_of_removed
from aistack.gateway.principals import unauthorized
from aistack.gateway.refusals import Refusal, bad_request
from aistack.gateway.services import Services
from aistack.gateway.usage_report import By, moment

Json = dict[str, Any]

_BODY_LIMIT = 1 << 20
_LONGEST_OVERLAP_S = 10 * 365 * 86400
# How each part of a key is called here, and in key_terms.py.
_TERMS = {
    **{name: name for name in ("name", "owner", "scopes", "models", "weight")},
    "expires": "expires_at",
}
_NAMES = {
    **{term: name for name, term in _TERMS.items()},
    **{limit: f"limits.{limit}" for limit in LIMIT_NAMES},
}
_RESUME = "nodes.resume"
_USAGE_FIELDS = ("by", "since", "until")
_SECRET = ((b"cache-control", b"no-store"),)

_log = logging.getLogger("aistack.gateway.administration")

P = ParamSpec("P")


def _not_by_browsers(
    handler: Callable[Concatenate[Exchange, P], Awaitable[None]],
) -> Callable[Concatenate[Exchange, P], Awaitable[None]]:
    """`handler`, but for Basic credentials, 401: a browser that holds them adds them to what other sites have it
    send."""

    async def guarded(exchange: Exchange, /, *args: P.args, **named: P.kwargs) -> None:
        if exchange.headers.get(b"authorization", b"").strip()[:5].lower() == b"basic":
            raise unauthorized("the admin API takes no Basic credentials: send Authorization: Bearer ask_...")
        await handler(exchange, *args, **named)

    return guarded


@_not_by_browsers
async def keys(exchange: Exchange, services: Services) -> None:
    """`GET`: all keys, revoked ones too; `POST`: a new one, with its secret, this once."""
    store = services.administration.store
    if exchange.method != "POST":
        return await _list(exchange, [told(key) for key in await services.administration.read(store.list)])
    body = await _body(exchange)
    exchange.changed = {"action": "keys.create"}
    terms = _terms(body)
    name = terms.pop("name", None)
    plain, key = await _named(
        services.administration.change(partial(store.create, name, terms.pop("owner", None), terms))
    )
    _note(exchange, key, body)
    return await _reply(exchange, {**told(key), "key": plain}, _SECRET)


@_not_by_browsers
async def key(exchange: Exchange, services: Services, called: str) -> None:
    """`GET`, `PATCH`, `DELETE`: a live key is shown, changed, revoked; by its id or name."""
    store = services.administration.store
    called = _printable(called)
    if exchange.method == "PATCH":
        body = await _body(exchange)
        exchange.changed = {"action": "keys.update", "key": called}
        found = await _named(services.administration.change(partial(store.update, called, _terms(body))))
        _note(exchange, found, body)
    elif exchange.method == "DELETE":
        exchange.changed = {"action": "keys.revoke", "key": called}
        found = await services.administration.change(partial(store.revoke, called))
        _note(exchange, found)
    else:
        found = await services.administration.read(partial(store.find, called))
    await _reply(exchange, told(found))


@_not_by_browsers
async def rotate(exchange: Exchange, services: Services, called: str) -> None:
    """`POST`: a key gets a new secret, which is told this once."""
    store = services.administration.store
    called = _printable(called)
    overlap_s = _overlap(await _body(exchange, needed=False))
    exchange.changed = {"action": "keys.rotate", "key": called}
    plain, found = await services.administration.change(partial(store.rotate, called, overlap_s))
    _note(exchange, found)
    await _reply(exchange, {**told(found), "key": plain}, _SECRET)


@_not_by_browsers
async def usage(exchange: Exchange, services: Services) -> None:
    """`GET`: who used how many requests and tokens."""
    query = {name: values[-1] for name, values in exchange.query.items()}
    for name in query:
        if name not in _USAGE_FIELDS:
            raise bad_request(f"there is no {name!r} here; there are: {', '.join(_USAGE_FIELDS)}", name)
    by: Any = query.get("by", "user")
    if by not in get_args(By):
        raise bad_request(f"by must be one of: {', '.join(get_args(By))}", "by")
    lines = await services.administration.usage(by, _moment(query, "since"), _moment(query, "until"))
    await _list(exchange, [asdict(line) for line in lines])


@_not_by_browsers
async def nodes(exchange: Exchange, services: Services) -> None:
    """`GET`: how the engine nodes are."""
    await _list(exchange, report(services.nodes))


@_not_by_browsers
async def drain(exchange: Exchange, services: Services, name: str) -> None:
    """`POST`: a node is sent nothing new; what it was sent it finishes."""
    await _set(exchange, services, name, "nodes.drain", services.administration.drain)


@_not_by_browsers
async def resume(exchange: Exchange, services: Services, name: str) -> None:
    """`POST`: a node is sent requests again, or will be when there is one of that name again."""
    await _set(exchange, services, name, _RESUME, services.administration.resume)


async def _set(
    exchange: Exchange, services: Services, name: str, action: str, change: Callable[[str], Awaitable[None]]
) -> None:
    exchange.changed = {"action": action, "node": name}
    known = {state.name: state for state in services.nodes.states}
    state = known.get(name)
    if state is None and not (action == _RESUME and name in services.nodes.removed):
        raise Refusal(404, f"there is no node {name!r}; there are: {', '.join(known)}", "node_not_found")
    await change(name)
    _log.info("%s: %s %s", _who(exchange), action, name)
    await _reply(exchange, told_of_node(state, services.nodes) if state else told_of_removed(name))


async def _body(exchange: Exchange, *, needed: bool = True) -> Json:
    headers = exchange.headers
    if not needed and headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers:
        return {}
    return (await exchange.json(_BODY_LIMIT))[0]


def _terms(body: Json) -> Json:
    """What a request says of a key, as key_terms.py takes it. Raises Refusal 400 for what no key has."""
    terms: Json = {}
    for name, value in body.items():
        if name == "limits":
            terms |= _limits(value)
        elif name in _TERMS:
            terms[_TERMS[name]] = value
        else:
            raise bad_request(f"a key has no {name!r}; it has: {', '.join(_TERMS)}, limits", name)
    return terms


def _limits(value: Any) -> Json:
    if value is None:
        return dict.fromkeys(LIMIT_NAMES)
    if not isinstance(value, dict):
        raise bad_request("limits must be an object", "limits")
    for name in value:
        if name not in LIMIT_NAMES:
            raise bad_request(f"there is no limit {name!r}; there are: {', '.join(LIMIT_NAMES)}", f"limits.{name}")
    return value


async def _named(change: Awaitable[Any]) -> Any:
    """The result of `change`; a term that it refuses is called as it is here."""
    try:
        return await change
    except Refusal as refusal:
        refusal.param = _NAMES.get(refusal.param or "", refusal.param)
        raise


def _overlap(body: Json) -> float:
    for name in body:
        if name != "overlap_seconds":
            raise bad_request(f"there is no {name!r} here, only overlap_seconds", name)
    seconds = body.get("overlap_seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int) or not 0 <= seconds <= _LONGEST_OVERLAP_S:
        raise bad_request(f"overlap_seconds must be a whole number up to {_LONGEST_OVERLAP_S}", "overlap_seconds")
    return seconds


def _moment(query: dict[str, str], name: str) -> float | None:
    if name not in query:
        return None
    try:
        return moment(query[name])
    except UserError as error:
        raise bad_request(f"{error.message} ({error.hint})", name) from error


def _printable(called: str) -> str:
    """PostgreSQL takes no text with a NUL in it."""
    if not called.isprintable():
        raise Refusal(404, "no key is called like that", "key_not_found")
    return called


def _note(exchange: Exchange, key: Key, terms: Json | None = None) -> None:
    """Who did what to which key: in the audit log, and in the gateway's own, which there always is."""
    assert exchange.changed is not None
    exchange.changed |= {"key": key.id, "name": key.name}
    if terms is not None:
        exchange.changed["terms"] = terms
    _log.info("%s: %s %s (%s)", _who(exchange), exchange.changed["action"], key.id, key.name)


def _who(exchange: Exchange) -> str:
    assert exchange.principal is not None
    return f"{exchange.principal.label} ({exchange.principal.name})"


async def _list(exchange: Exchange, found: list[Json]) -> None:
    await _reply(exchange, {"object": "list", "data": found})


async def _reply(exchange: Exchange, answer: Json, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    await exchange.reply(200, orjson.dumps(answer), headers=headers)
