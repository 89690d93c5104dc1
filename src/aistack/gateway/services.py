"""What the handlers of requests share, and the way of every request that an engine answers."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aistack.gateway.administration import Administration
from aistack.gateway.administrators import Administrators
from aistack.gateway.audit import AuditLog
from aistack.gateway.exchange import Exchange
from aistack.gateway.limits import Limiter
from aistack.gateway.listing import Model, canonical, renamed
from aistack.gateway.metrics import Meters
from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes
from aistack.gateway.principals import Gatekeeper
from aistack.gateway.queueing import FairQueue
from aistack.gateway.refusals import KEY_REFUSED, UNKNOWN_MODEL, Refusal, bad_request, unknown_model
from aistack.gateway.settings import Settings
from aistack.gateway.usage import UsageBook

Json = dict[str, Any]
Attempt = Callable[[NodeState, Model], Awaitable[None]]

# What a node may answer, or not, that another node may do better: it is full, failed, broke off, is away.
_ANOTHER_MAY = frozenset({429, 500, 502, 503})
# Our own words for a node that cannot be reached or breaks off; its answers, also bad ones, are no such thing.
_FAULTS = frozenset({"engine_unavailable", "engine_failed", KEY_REFUSED})


@dataclass
class Services:
    """One of each for the life of the gateway; `settings` are read anew on SIGHUP."""

    settings: Settings
    gatekeeper: Gatekeeper
    nodes: Nodes
    queue: FairQueue
    administrators: Administrators
    meters: Meters
    audit: AuditLog
    limiter: Limiter
    usage: UsageBook
    administration: Administration

    @property
    def body_limit(self) -> int:
        """The largest body that is read into memory, in bytes."""
        return self.settings.max_body_mb << 20

    def named(self, exchange: Exchange, name: Any) -> str:
        """The model that a request means by `name`, which may be an alias. Raises Refusal 400, or 404 for a model
        that the caller may not use."""
        if not isinstance(name, str) or not name:
            raise bad_request("model is required")
        exchange.model = "other"
        if not self._may_use(exchange, name):
            raise unknown_model(name)
        meant = self._meant(name)
        exchange.model = self.nodes.spelled(meant) or "other"
        return meant

    def _meant(self, name: str) -> str:
        return self.settings.aliases.get(canonical(name), name)

    def _may_use(self, exchange: Exchange, name: str) -> bool:
        """A key for an alias is one for whatever it stands for, under that name alone."""
        principal = exchange.principal
        assert principal is not None
        return principal.may_use(canonical(name)) or principal.may_use(canonical(self._meant(name)))

    async def models(self, exchange: Exchange) -> list[tuple[NodeState, Model]]:
        """The models that the caller may use, the default ones first; aliases stand before the rest."""
        found = await self.nodes.models(self.settings.fallbacks)
        known = {canonical(model.id): (state, model) for state, model in found}
        aliases = [
            (known[canonical(target)][0], renamed(known[canonical(target)][1], alias))
            for alias, target in self.settings.aliases.items()
            if canonical(target) in known and alias not in known
        ]
        return [(state, model) for state, model in (*aliases, *found) if self._may_use(exchange, model.id)]

    async def target(self, exchange: Exchange, name: Any) -> tuple[NodeState, Model]:
        """The model that a request names and a node that has it. Raises Refusal 400, 404 or 503."""
        state, model = await self.nodes.find(self.named(exchange, name), self.settings.fallbacks)
        exchange.model = model.id
        return state, model

    def account(self, exchange: Exchange, route: str, outcome: str) -> None:
        """Count what a request used, once it is done: one that a node was given, however it ended."""
        if exchange.node and exchange.principal and exchange.model:
            prompt, completion = exchange.tokens or (0, 0)
            self.usage.record(exchange.principal, route, exchange.model, prompt, completion, outcome)
            if exchange.tokens:
                self.limiter.spend(exchange.principal, prompt + completion)

    async def serve(self, exchange: Exchange, name: Any, attempt: Attempt) -> None:
        """Have a node answer a request for the model `name`: wait for a slot, then `attempt` with the node and the
        model as the node knows it.

        What fails before anything was sent is tried once more, on another node; then the model's fallback is, also
        when no node has been heard of that has the model.
        Raises Refusal, 429 when the caller has used up a limit; ClientGone when the client leaves, which ends the
        attempt and gives the slot back.
        """
        assert exchange.principal is not None
        name = self.named(exchange, name)
        exchange.answer_headers += await self.limiter.admit(exchange.principal)
        await exchange.while_connected(self._served(exchange, name, attempt))

    async def _served(self, exchange: Exchange, name: str, attempt: Attempt) -> None:
        fallback = self.settings.fallbacks.get(canonical(name))
        try:
            await self._tried(exchange, name, attempt)
        except Refusal as refusal:
            unheard = refusal.node is None and refusal.code == UNKNOWN_MODEL
            failed = refusal.node is not None and refusal.status in _ANOTHER_MAY
            if exchange.status or fallback is None or not (unheard or failed):
                raise
            exchange.fell_back_from = name
            await self._tried(exchange, fallback, attempt)

    async def _tried(self, exchange: Exchange, name: str, attempt: Attempt) -> None:
        """On one node, and when that fails before anything was sent once more on another."""
        assert exchange.principal is not None
        tried: list[NodeState] = []
        while True:
            place = await self.queue.enter(name, exchange.principal, tried)
            exchange.placed(place.state.name, place.model.id, place.waited_s, place.ahead)
            try:
                await attempt(place.state, place.model)
                return place.state.failed() if exchange.failed_node else place.state.succeeded()
            except Refusal as refusal:
                if refusal.code in _FAULTS:
                    place.state.failed(refusal)
                if exchange.status or tried or not self._another_may(refusal, name, place.state):
                    raise
                self.meters.node_failed(place.state.name)
                tried.append(place.state)
            finally:
                self.queue.leave(place)

    def _another_may(self, refusal: Refusal, name: str, failed: NodeState) -> bool:
        others = any(state is not failed for state, _ in self.nodes.serving(canonical(name)))
        return others and refusal.node is not None and refusal.status in _ANOTHER_MAY


def name_for(name: str, state: NodeState, model: Model) -> str:
    """What a node is to be asked for when a client asked for `name`: just that where the node takes it for `model`."""
    same = canonical(name) == canonical(model.id) and state.node.kind != "openai"
    return name if same else model.id
