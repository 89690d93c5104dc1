"""What the handlers of requests share: settings, the gatekeeper, the nodes, the metrics."""

from dataclasses import dataclass
from typing import Any

from aistack.gateway.administrators import Administrators
from aistack.gateway.exchange import Exchange
from aistack.gateway.listing import Model
from aistack.gateway.metrics import Meters
from aistack.gateway.nodes import Nodes, NodeState
from aistack.gateway.principals import Gatekeeper
from aistack.gateway.refusals import bad_request
from aistack.gateway.settings import Settings

Json = dict[str, Any]


@dataclass(frozen=True)
class Services:
    """One of each for the life of the gateway."""

    settings: Settings
    gatekeeper: Gatekeeper
    nodes: Nodes
    administrators: Administrators
    meters: Meters

    @property
    def body_limit(self) -> int:
        """The largest body that is read into memory, in bytes."""
        return self.settings.max_body_mb << 20

    async def target(self, exchange: Exchange, name: Any) -> tuple[NodeState, Model]:
        """The node for the model that a request names. Raises Refusal 400, 404 or 503."""
        if not isinstance(name, str) or not name:
            raise bad_request("model is required")
        exchange.model = "other"
        state, model = await self.nodes.find(name)
        exchange.model = model.id
        return state, model
