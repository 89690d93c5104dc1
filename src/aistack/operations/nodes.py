"""`aistack nodes`: how the engine nodes are, and which are spared for maintenance."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aistack.errors import ServiceError, UserError
from aistack.operations.stack import Stack, gateway_database
from aistack.system import probe

# The node of this machine, as the gateway's settings call it.
LOCAL = "local"
_LOOK_S = 0.2
# How long a gateway that is waited for may be away, as when it starts anew, or not have read its database.
_PATIENCE_S = 15.0


@dataclass(frozen=True)
class NodeStatus:
    """One node as the gateway sees it. `state` is `ready`, `draining`, `down`, `resting` or two of these, `unknown` for
    one that the gateway has not been told of, `removed` for one that is drained and no node any more; `slots` how many
    requests it works on at once for a model; `only_here` its models that no other node could answer for."""

    name: str
    kind: str
    url: str
    state: str
    problem: str
    slots: int
    in_flight: int
    models: tuple[str, ...]
    only_here: tuple[str, ...]


def node_names(stack: Stack) -> tuple[str, ...]:
    """The nodes that stack.toml names."""
    return (LOCAL, *(node.name for node in stack.config.engine.nodes))


def require_node(stack: Stack, name: str) -> None:
    """Raise UserError when stack.toml has no node of that name."""
    names = node_names(stack)
    if name not in names:
        raise UserError(f"there is no node {name!r}", f"there are: {', '.join(names)}")


def nodes(stack: Stack) -> tuple[NodeStatus, ...]:
    """Every node of stack.toml and of the gateway. Raises ServiceError when the gateway does not answer."""
    engine = stack.config.engine
    wanted: dict[str, tuple[str, str]] = {LOCAL: (engine.kind, stack.runtime.placement.url("engine"))}
    wanted |= {node.name: (node.kind, node.url) for node in engine.nodes}
    found = json.loads(probe.fetch(f"{stack.runtime.url('gateway')}/internal/nodes"))
    # What the gateway has not been told of yet may be drained already, which it takes for removed.
    told = {item["name"]: item for item in found if item["state"] != "removed" or item["name"] not in wanted}
    return tuple(
        _status(told[name], wanted.get(name, ("", ""))[1]) if name in told else _untold(name, *wanted[name])
        for name in dict.fromkeys((*wanted, *told))
    )


def drained_nodes(stack: Stack) -> frozenset[str]:
    """The names of the drained nodes, also of such as stack.toml has no more. Raises UserError."""
    # Imported before our code may be out of reach (see gateway_database).
    from aistack.gateway.state import drained

    with gateway_database(stack) as database, database.read() as connection:
        return drained.read(connection)


def drain(stack: Stack, name: str) -> bool:
    """Have every gateway send the node nothing new, until it is resumed; returns whether that is new."""
    from aistack.gateway.state import drained

    with gateway_database(stack) as database:
        return drained.drain(database, name)


def resume(stack: Stack, name: str) -> bool:
    """Have the node sent requests again; returns whether that is new."""
    from aistack.gateway.state import drained

    with gateway_database(stack) as database:
        return drained.resume(database, name)


def wait_until_idle(stack: Stack, name: str, timeout_s: float | None = None, patience_s: float = _PATIENCE_S) -> None:
    """Return when the gateway sends the node `name` nothing new, and it has finished what it was sent.

    Raises UserError when somebody resumed it, and ServiceError when that takes longer than `timeout_s`, or the gateway
    does not answer, or does not heed that the node is drained, for `patience_s`.
    """
    begun = well = time.monotonic()
    while True:
        trouble: UserError | None = None
        try:
            node = next(item for item in nodes(stack) if item.name == name)
            if node.state == "unknown" or ("draining" in node.state and not node.in_flight):
                return
            if "draining" not in node.state:
                trouble = _unheeded(stack, name)
        except ServiceError as error:
            trouble = error
        now = time.monotonic()
        if trouble is None:
            well = now
        over = timeout_s is not None and now - begun >= timeout_s
        if trouble is not None and (over or now - well >= patience_s):
            raise trouble
        if over:
            raise ServiceError(
                f"{name} still works on {node.in_flight} requests after {timeout_s:g} s; it gets no new ones",
                "wait longer with --timeout, or look with `aistack nodes ls`",
            )
        time.sleep(_LOOK_S)


def _unheeded(stack: Stack, name: str) -> ServiceError:
    """Why the gateway does not have the node as drained. Raises UserError when it is drained no more."""
    if name not in drained_nodes(stack):
        raise UserError(f"{name} is not drained any more: somebody resumed it", f"`aistack nodes drain {name}` again")
    return ServiceError(
        f"{name} is drained, and the gateway still sends it requests",
        "`aistack logs gateway` says whether it can read its database",
    )


def _status(told: Mapping[str, Any], url: str) -> NodeStatus:
    lists = {name: tuple(told[name]) for name in ("models", "only_here")}
    return NodeStatus(url=url, **{**told, **lists})


def _untold(name: str, kind: str, url: str) -> NodeStatus:
    return NodeStatus(name, kind, url, "unknown", "the gateway is told of it by `aistack up`", 0, 0, (), ())
