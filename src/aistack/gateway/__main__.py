"""`python -m aistack.gateway --settings FILE.json`: serve until SIGTERM, then finish what is under way.

SIGHUP has the settings read anew.
"""

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from aistack.errors import ServiceError, UserError
from aistack.gateway.administration import Administration
from aistack.gateway.administrators import Administrators
from aistack.gateway.application import Application
from aistack.gateway.audit import AuditLog
from aistack.gateway.batches import Batches
from aistack.gateway.draining import draining
from aistack.gateway.http_server import Server
from aistack.gateway.key_ring import KeyRing
from aistack.gateway.limits import Limiter
from aistack.gateway.metrics import Meters
from aistack.gateway.nodes import Nodes
from aistack.gateway.principals import Gatekeeper
from aistack.gateway.queueing import FairQueue
from aistack.gateway.reloading import reload, states_of
from aistack.gateway.services import Services
from aistack.gateway.settings import Settings, load, read_secret
from aistack.gateway.state.database import Database
from aistack.gateway.usage import UsageBook
from aistack.gateway.usage_report import spent

if TYPE_CHECKING:
    from aistack.gateway.shared_limits import SharedLimiter

# How long streams may go on after SIGTERM; a supervisor waits longer than this before it kills.
GRACE_S = 8
# nginx keeps idle connections to us for 60 s; whoever closes first must not be us.
KEEP_ALIVE_S = 75

_log = logging.getLogger("aistack.gateway")


async def serve(path: Path) -> None:
    """Serve as the settings in `path` say until a signal. Raises UserError when they cannot be used."""
    settings = load(path)
    database = _database(settings)
    nodes = Nodes(states_of(settings.nodes), settings.default_models.values())
    keys = KeyRing(database, settings.allowances.keys, also=draining(nodes))
    access_log = Batches(_write_out)
    shared = _shared_limiter(settings)
    services = _services(settings, keys, database, nodes, shared)
    if shared:
        await shared.run()
    await services.nodes.watch()
    await services.usage.run()
    looking = asyncio.ensure_future(keys.keep_looking())
    _take_signals(lambda: reload(path, services))
    # What stands now stands for ever; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        await _run_server(settings, Application(services, access_log))
    finally:
        looking.cancel()
        access_log.flush()
        services.audit.close()
        services.administrators.close()
        await services.nodes.stop()
        await services.usage.stop()
        if shared:
            await shared.stop()
        keys.close()
        database.close()


def _database(settings: Settings) -> Database:
    """The database of keys and usage. Raises UserError."""
    secret = settings.database_password_file
    return Database(settings.database, read_secret(secret) if secret else None)


def _shared_limiter(settings: Settings) -> "SharedLimiter | None":
    """Limits in Redis, if there is to be one. Raises UserError."""
    secret = settings.redis_password_file
    if not settings.redis or not secret:
        return None
    # Its library is 20 MB that most gateways do without.
    from aistack.gateway.redis_counts import RedisCounts
    from aistack.gateway.shared_limits import SharedLimiter

    return SharedLimiter(RedisCounts(settings.redis, read_secret(secret), secret.name))


def _services(
    settings: Settings, keys: KeyRing, database: Database, nodes: Nodes, shared: "SharedLimiter | None"
) -> Services:
    queue = FairQueue(nodes, settings.most_waiting)
    meters = Meters()
    meters.watch(lambda: nodes.states, queue.waiting)
    usage = UsageBook(database)
    meters.watch_database(lambda: usage.waiting, lambda: keys.failing or usage.failing)
    if shared:
        meters.watch_redis(lambda: shared.failing)
    return Services(
        settings,
        Gatekeeper(keys, read_secret(settings.internal_key_file), settings.allowances),
        nodes,
        queue,
        Administrators(settings.chat_url),
        meters,
        AuditLog(settings.audit),
        _primed(shared or Limiter(), database),
        usage,
        Administration(database, keys),
    )


def _primed(limiter: Limiter, database: Database) -> Limiter:
    """Its counts go on where they were before the restart; those of a minute begin anew."""
    for label, name, before, current in spent(database, time.time()):
        limiter.prime(label, name, before, current)
    return limiter


def _take_signals(reloaded: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """On SIGHUP do what `reloaded` says, one after the other."""
    turn = asyncio.Lock()
    running: set[asyncio.Task[None]] = set()

    async def in_turn() -> None:
        async with turn:
            await reloaded()

    def begin() -> None:
        task = asyncio.ensure_future(in_turn())
        running.add(task)
        task.add_done_callback(running.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, begin)


async def _run_server(settings: Settings, application: Application) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    _log.info("listening on http://%s:%d", host, port)
    await Server(application, idle_s=KEEP_ALIVE_S).serve(listener, stop, GRACE_S)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        hint = f"see which program listens there: ss -ltnp | grep :{settings.port}"
        raise ServiceError(f"cannot listen on {where}: {error.strerror}", hint) from error


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="aistack.gateway", description="The stack's API gateway.")
    parser.add_argument("--settings", type=Path, required=True, help="JSON file with the settings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(arguments.settings))
    except UserError as error:
        print(f"{error.message}\n{error.hint}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
