"""From the table of drained nodes to the nodes of this gateway."""

import asyncio
import threading

from sqlalchemy import Connection

from aistack.gateway.following import Read
from aistack.gateway.nodes import Nodes
from aistack.gateway.state import drained


def draining(nodes: Nodes) -> Read:
    """Reads which nodes are drained, and has `nodes` heed it: at once when that is in the event loop, else as soon as
    the loop gets to it. To be called in the loop."""
    loop = asyncio.get_running_loop()
    home = threading.get_ident()

    def read(connection: Connection) -> None:
        names = drained.read(connection)
        if threading.get_ident() == home:
            nodes.drain(names)
        else:
            loop.call_soon_threadsafe(nodes.drain, names)

    return read
