"""`/openapi.json` and `/docs`: what the gateway's API is. Open to all, since it tells nothing of the site."""

from functools import cache

import orjson

from aistack.gateway.description.document import document
from aistack.gateway.description.page import page
from aistack.gateway.exchange import Exchange
from aistack.gateway.routes import PATHS
from aistack.gateway.services import Services

_HTML = b"text/html; charset=utf-8"
_CLOSED = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")


@cache
def _written() -> tuple[bytes, bytes]:
    found = document(PATHS)
    return orjson.dumps(found), page(found)


async def openapi(exchange: Exchange, _: Services) -> None:
    """`GET /openapi.json`."""
    await exchange.reply(200, _written()[0])


async def docs(exchange: Exchange, _: Services) -> None:
    """`GET /docs`."""
    await exchange.reply(200, _written()[1], _HTML, (_CLOSED,))
