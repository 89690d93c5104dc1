"""One line a request, written in batches so that a slow reader of the log delays nobody much.

    2026-11-23T09:38:12.123Z POST /v1/chat/completions 200 12.3ms key:k1a2b3c4 tiny

Never in it: query strings, headers, bodies, credentials.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

from aistack.gateway.exchange import Exchange

# At most this much of the log is lost to kill -9.
_WAIT_S = 0.2
_LONGEST_PATH = 200


class AccessLog:
    """Collects lines and hands them to `write` together."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._lines: list[str] = []

    def record(self, exchange: Exchange) -> None:
        """Note a request that is done. Needs a running loop."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_WAIT_S, self.flush)
        self._lines.append(line(exchange))

    def flush(self) -> None:
        """Write what is waiting."""
        if self._lines:
            text = "".join(self._lines)
            self._lines.clear()
            self._write(text)


def line(exchange: Exchange) -> str:
    """The line of one request."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    milliseconds = (time.perf_counter() - exchange.started_at) * 1000
    who = _one_word(exchange.principal.label) if exchange.principal else "-"
    # The raw path is still percent-encoded: nothing in it can break the line.
    path = exchange.raw_path[:_LONGEST_PATH].decode("latin-1")
    model = _one_word(exchange.model or "-")
    return f"{moment}Z {exchange.method} {path} {exchange.status} {milliseconds:.1f}ms {who} {model}\n"


def _one_word(text: str) -> str:
    return text if text.isprintable() and " " not in text else ascii(text).replace(" ", "_")
