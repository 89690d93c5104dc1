"""How the engine nodes are, as `aistack nodes` and administrators are told."""

from typing import Any

from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes

Json = dict[str, Any]


def report(nodes: Nodes) -> list[Json]:
    """Every node, in the order of the settings; then those that are drained and there no more."""
    here = [told_of_node(state, nodes) for state in nodes.states]
    return [*here, *(told_of_removed(name) for name in nodes.removed)]


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


def told_of_removed(name: str) -> Json:
    """One that is drained, and not among the nodes: `state` is `removed`."""
    problem = "drained, and no node any more; one of this name would be drained too"
    return {
        "name": name, "kind": "", "state": "removed", "problem": problem, "slots": 0, "in_flight": 0, "models": [],
        "only_here": [],
    }  # fmt: skip


def _elsewhere(key: str, state: NodeState, nodes: Nodes) -> bool:
    return any(other is not state and other.up and not other.draining and key in other.models for other in nodes.states)
