"""How the engine nodes are, as `aistack nodes` and administrators are told."""

from typing import Any

from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes

Json = dict[str, Any]


def report(nodes: Nodes) -> list[Json]:
    """Every node, in the order of the settings."""
    return [told_of_node(state, nodes) for state in nodes.states]


def told_of_node(state: NodeState, nodes: Nodes) -> Json:
    """One node. `state` is `ready`, `draining`, `down`, `resting`, or two of them; `slots` how many requests it works
    on at once for a model; `only_here` which of its models no other node could answer for."""
    return {
        "name": state.name,
        "kind": state.node.kind,
        "state": state.word,
        "problem": state.problem,
        "slots": state.most_slots,
        "in_flight": state.in_flight,
        "models": sorted(model.id for model in state.models.values()),
        "only_here": sorted(model.id for key, model in state.models.items() if not _elsewhere(key, state, nodes)),
    }


def _elsewhere(key: str, state: NodeState, nodes: Nodes) -> bool:
    return any(other is not state and other.up and not other.draining and key in other.models for other in nodes.states)
