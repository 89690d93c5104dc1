"""The access log: one line a request.

    2026-11-23T09:38:12.123Z POST /v1/chat/completions 200 12.3ms key:k1a2b3c4 tiny

Never in it: query strings, headers, bodies, credentials.
"""

import time

from aistack.gateway.clock import CLOCK
from aistack.gateway.exchange import Exchange

_LONGEST_PATH = 200


def line(exchange: Exchange) -> str:
    """The line of one request."""
    milliseconds = (time.perf_counter() - exchange.started_at) * 1000
    who = _one_word(exchange.principal.label) if exchange.principal else "-"
    # The raw path is still percent-encoded: nothing in it can break the line.
    path = exchange.raw_path[:_LONGEST_PATH].decode("latin-1")
    model = _one_word(exchange.model or "-")
    return f"{CLOCK.text(time.time())} {exchange.method} {path} {exchange.status} {milliseconds:.1f}ms {who} {model}\n"


def _one_word(text: str) -> str:
    return text if text.isprintable() and " " not in text else ascii(text).replace(" ", "_")
