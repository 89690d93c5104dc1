"""`python -m aistack.gateway --settings FILE.json`: serve until SIGTERM, then finish what is under way."""

import argparse
import asyncio
import gc
import logging
import signal
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop
from prometheus_client import disable_created_metrics

from aistack.errors import ServiceError, UserError
from aistack.gateway.access_log import AccessLog
from aistack.gateway.administrators import Administrators
from aistack.gateway.application import Application
from aistack.gateway.connection import Connection
from aistack.gateway.keys import KeyRing
from aistack.gateway.metrics import Meters
from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes
from aistack.gateway.principals import Gatekeeper
from aistack.gateway.queueing import FairQueue
from aistack.gateway.services import Services
from aistack.gateway.settings import Settings, load, read_secret
from aistack.gateway.upstream import Peer, open_session

# How long streams may go on after SIGTERM; a supervisor waits longer than this before it kills.
GRACE_S = 8
# nginx keeps idle connections to us for 60 s; whoever closes first must not be us.
KEEP_ALIVE_S = 75

_log = logging.getLogger("aistack.gateway")


async def serve(settings: Settings) -> None:
    """Serve until a signal. Raises UserError when a file that is named in the settings cannot be used."""
    keys = KeyRing(settings.database)
    gatekeeper = Gatekeeper(keys, read_secret(settings.internal_key_file))
    access_log = AccessLog(_write_out)
    # They would double every series and nobody reads them.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    meters = Meters()
    async with open_session() as session:
        nodes = Nodes(
            [NodeState(Peer(node, session)) for node in settings.nodes],
            settings.default_models.values(),
        )
        meters.watch_nodes(nodes.states)
        administrators = Administrators(settings.chat_url, session)
        queue = FairQueue(nodes, settings.most_waiting)
        services = Services(settings, gatekeeper, nodes, queue, administrators, meters)
        await nodes.watch()
        # What stands now stands for ever; the collector need not look at it again.
        gc.collect()
        gc.freeze()
        try:
            await _run_server(settings, Application(services, access_log))
        finally:
            access_log.flush()
            await nodes.stop()
            keys.close()


async def _run_server(settings: Settings, application: Application) -> None:
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    _log.info("listening on http://%s:%d", host, port)
    await uvicorn.Server(_server_config(application)).serve(sockets=[listener])


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        hint = f"see which program listens there: ss -ltnp | grep :{settings.port}"
        raise ServiceError(f"cannot listen on {where}: {error.strerror}", hint) from error


def _server_config(application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        interface="asgi3",
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Who asks is told by our own headers; whatever else a proxy claims is not looked at.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main() -> int:
    """The program; returns its exit status."""
    parser = argparse.ArgumentParser(prog="aistack.gateway", description="The stack's API gateway.")
    parser.add_argument("--settings", type=Path, required=True, help="JSON file with the settings")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # The server sends the signal that ended it once more when it has stopped; by then there is still
    # something to put away here.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(load(arguments.settings)))
    except UserError as error:
        print(f"{error.message}\n{error.hint}".strip(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
