"""The server's side of a connection: uvicorn's own, which also tells a request that its client has gone.

ASGI would have each request wait for that in a task of its own, for longer than all else that we do with it.
"""

from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aistack.gateway.exchange import GONE, ON_GONE


class Connection(HttpToolsProtocol):
    """An HTTP/1.1 connection of a client."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: whoever works for it may stop."""
        super().connection_lost(exc)
        for cycle in (self.cycle, *(waiting for waiting, _ in self.pipeline)):
            if cycle is not None and not cycle.response_complete:
                scope = cast("dict[str, Any]", cycle.scope)
                scope[GONE] = True
                if on_gone := scope.get(ON_GONE):
                    on_gone()
