"""The audit log: who asked what of which model, when, with how many tokens, and how it ended; a JSON line each.

Never in it: credentials, answers, and, unless the site says so, what people wrote.
"""

import logging
import os
import time
from logging.handlers import RotatingFileHandler

import orjson

from aistack.gateway.batches import Batches
from aistack.gateway.clock import CLOCK
from aistack.gateway.exchange import Exchange, Json
from aistack.gateway.settings import Audit

_log = logging.getLogger("aistack.gateway.audit")


class AuditLog:
    """Writes to the file that `settings` name, if they do, and turns it over when it is full."""

    def __init__(self, settings: Audit | None) -> None:
        self._prompts = settings is not None and settings.prompts
        self._file = None if settings is None else _File(settings)
        self._batches = Batches(self._write)
        self._failing = False

    def record(self, exchange: Exchange, surface: str, route: str, outcome: str) -> None:
        """Note a request that is done; `outcome` is `ok`, or why not. Needs a running loop."""
        if self._file is not None:
            told = entry(exchange, surface, route, outcome, prompts=self._prompts)
            self._batches.add(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE).decode())

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        self._batches.flush()
        if self._file is not None:
            self._file.close()

    def _write(self, text: str) -> None:
        """A full disk must not end the gateway; it is said when it begins and when it is over."""
        assert self._file is not None
        try:
            # The last line before a failure may have been cut short.
            self._file.emit(logging.makeLogRecord({"msg": f"\n{text}" if self._failing else text}))
        except OSError as error:
            if not self._failing:
                _log.error("the audit log cannot be written, lines are lost until it can: %s", error)
            self._failing = True
        else:
            if self._failing:
                _log.warning("the audit log can be written again")
            self._failing = False


class _File(RotatingFileHandler):
    terminator = ""

    def __init__(self, settings: Audit) -> None:
        super().__init__(settings.file, maxBytes=settings.max_mb << 20, backupCount=settings.keep, encoding="utf-8")

    def _open(self):  # type: ignore[no-untyped-def]
        # It tells who does what: for the site's administrators alone.
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT, 0o600))
        return super()._open()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - logging's own name
        raise


def entry(exchange: Exchange, surface: str, route: str, outcome: str, *, prompts: bool) -> Json:
    """One request as the log tells it. `time` is when it came, in UTC; durations are seconds."""
    seconds = time.perf_counter() - exchange.started_at
    principal = exchange.principal
    told: Json = {
        "time": CLOCK.text(time.time() - seconds),
        "id": exchange.request_id.decode(),
        "who": principal.label if principal else None,
        "name": principal.name if principal else None,
        "owner": principal.owner if principal else None,
        "address": exchange.headers.get(b"x-real-ip", b"").decode("latin-1") if exchange.from_edge else None,
        "surface": surface,
        "operation": route,
        "model": exchange.model,
        "node": exchange.node or None,
        "status": exchange.status,
        "outcome": outcome,
        "prompt_tokens": exchange.tokens[0] if exchange.tokens else None,
        "completion_tokens": exchange.tokens[1] if exchange.tokens else None,
        "seconds": round(seconds, 4),
        "queue_seconds": round(exchange.waited_s, 4),
        "truncated": exchange.truncated,
    }
    if exchange.fell_back_from:
        told["fell_back_from"] = exchange.fell_back_from
    if exchange.changed is not None:
        told["changed"] = exchange.changed
    if prompts and exchange.request is not None:
        told["request"] = orjson.Fragment(exchange.request)
    return told
