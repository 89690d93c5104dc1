"""Model management over Ollama's surface: for administrators of the chat, on nodes that are Ollama."""

from aistack.gateway.exchange import Exchange
from aistack.gateway.node_state import NodeState
from aistack.gateway.ollama_surface import sent_on
from aistack.gateway.refusals import Refusal
from aistack.gateway.relay import relay
from aistack.gateway.routes import Match
from aistack.gateway.services import Services

_INSTEAD = (
    "this stack's engine does not manage models over the API; on the server, `aistack models pull NAME` is the way"
)


def require_administrator(exchange: Exchange, services: Services) -> None:
    """Return for an administrator of the chat who did not come through the proxy; else raise Refusal 403.

    Whoever has no valid credential learns no more than one who has: 403 for all.
    """
    refusal = Refusal(403, "models are managed by administrators, with `aistack models` or in the chat's settings")
    if exchange.from_edge or exchange.repeated:
        raise refusal
    try:
        exchange.principal = services.gatekeeper.admit(exchange.headers)
    except Refusal as error:
        raise refusal from error
    if not exchange.principal.administrates:
        raise refusal


async def manage(exchange: Exchange, services: Services, match: Match) -> None:
    """Pass a management request on. Raises Refusal 501 when the node that it concerns is not Ollama."""
    if match.route.name == "blobs":
        state = _ollama(services)
        path = f"/api/blobs/{_digest(match.argument)}"
        if exchange.method == "HEAD":
            return await sent_on(exchange, state, path, None, "HEAD")
        return await exchange.while_connected(_uploaded(exchange, state, path))
    body, raw = await exchange.json(services.body_limit)
    name = body.get("source") or body.get("model") or body.get("name")
    state = _concerned(services, name, wanted_new=match.route.name in ("pull", "create"))
    work = sent_on(exchange, state, f"/api/{match.route.name}", raw, exchange.method)
    await exchange.while_connected(work)
    # The client knows by now, and may ask for the model before the next check.
    state.outdate()
    return await state.check()


async def _uploaded(exchange: Exchange, state: NodeState, path: str) -> None:
    async with state.peer.request("POST", path, exchange.body_parts()) as response:
        await relay(exchange, response, state.node)


def _concerned(services: Services, name: object, *, wanted_new: bool) -> NodeState:
    """The node with the model `name`; for one that is not there, or is wanted anew, the first Ollama."""
    if not wanted_new and isinstance(name, str):
        for state in _ready_first(services):
            if state.has(name):
                if state.node.kind != "ollama":
                    raise Refusal(501, _INSTEAD)
                return state
    return _ollama(services)


def _ollama(services: Services) -> NodeState:
    for state in _ready_first(services):
        if state.node.kind == "ollama":
            return state
    raise Refusal(501, _INSTEAD)


def _ready_first(services: Services) -> list[NodeState]:
    """A node that is being drained is spared requests, but may well be given a model before it is resumed."""
    return sorted(services.nodes.states, key=lambda state: state.draining or not state.up)


def _digest(argument: str) -> str:
    if argument.startswith("sha256:") and argument[7:].isalnum():
        return argument
    raise Refusal(400, "invalid digest")
