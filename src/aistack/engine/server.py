"""Puts the engine together and runs it: from the settings to a listening port, and down again on SIGTERM."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

from aistack.engine.catalogue import Catalogue
from aistack.engine.connection import Connection, Front
from aistack.engine.metrics import Meters
from aistack.engine.residents import Residents
from aistack.engine.routes import Routes
from aistack.engine.settings import Settings
from aistack.errors import ServiceError
from aistack.models.store import ModelStore
from aistack.system import files

_HOUSEKEEPING_S = 1.0
_BACKLOG = 1024


async def serve(settings: Settings, log: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then let running requests finish for a while.

    Raises ServiceError when the port is taken, UserError when `run_dir` cannot be written.
    """
    stopped = _stopped_by_signal()
    files.make_directory(settings.run_dir, 0o700)
    store, meters = ModelStore(settings.models_dir), Meters()
    residents = Residents(store, settings, meters, log)
    routes = Routes(residents, Catalogue(store, residents, settings), meters)
    loopback = settings.host in ("127.0.0.1", "::1", "localhost")
    front = Front(routes, settings.max_body_mb << 20, loopback)
    server = await _listen(front, settings)
    _remove_old_sockets(settings.run_dir)
    port = server.sockets[0].getsockname()[1]
    log(f"serving {len(store.list())} models on http://{settings.host}:{port}")
    housekeeping = asyncio.create_task(_keep_house(front, residents))
    await stopped.wait()
    log("stopping")
    server.close()
    await front.close(settings.shutdown_grace_s)
    housekeeping.cancel()
    await residents.close()
    log("stopped")


async def _listen(front: Front, settings: Settings) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(lambda: Connection(front), settings.host, settings.port, backlog=_BACKLOG)
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}",
            "another program may have the port: `aistack doctor` tells which",
        ) from error


def _stopped_by_signal() -> asyncio.Event:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def _remove_old_sockets(run_dir: Path) -> None:
    """Sockets of an engine that was killed; the port is ours, so none of them can be in use."""
    for old in run_dir.glob("*.sock"):
        files.remove(old)


async def _keep_house(front: Front, residents: Residents) -> None:
    while True:
        await asyncio.sleep(_HOUSEKEEPING_S)
        front.sweep()
        residents.drop_changed()
