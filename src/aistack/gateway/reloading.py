"""SIGHUP: the settings are read anew, and whatever is under way goes on as it began."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from aistack.errors import UserError
from aistack.gateway.audit import AuditLog
from aistack.gateway.node_state import NodeState
from aistack.gateway.services import Services
from aistack.gateway.settings import Node, Settings, load
from aistack.gateway.upstream import Peer

_log = logging.getLogger("aistack.gateway")
# What only a new process can change.
_FIXED = (
    "host", "port", "database", "database_password_file", "redis", "redis_password_file", "internal_key_file",
)  # fmt: skip


async def reload(path: Path, services: Services) -> None:
    """Take over what the settings in `path` say by now. Settings that cannot be used are said, and nothing changes."""
    try:
        settings = load(path)
        states = states_of(settings.nodes, services.nodes.states)
    except UserError as error:
        _log.error("the settings are not taken over: %s", error.message)
        return
    await adopt(settings, states, services)
    _log.info("the settings were read anew")


async def adopt(settings: Settings, states: Iterable[NodeState], services: Services) -> None:
    """Make `settings`, with its nodes' `states`, those in force."""
    old = services.settings
    for name in _FIXED:
        if getattr(settings, name) != getattr(old, name):
            _log.warning("%s has changed, which only a restart can take over", name)
    services.settings = replace(settings, **{name: getattr(old, name) for name in _FIXED})
    if settings.audit != old.audit:
        services.audit.close()
        services.audit = AuditLog(settings.audit)
    services.gatekeeper.allow(settings.allowances)
    services.administrators.ask_at(settings.chat_url)
    services.queue.most_waiting = settings.most_waiting
    services.nodes.set(states, settings.default_models.values())
    await services.nodes.watch()


def states_of(nodes: Iterable[Node], known: Iterable[NodeState] = ()) -> list[NodeState]:
    """A state for each node; that of the same node among those `known`. Raises ConfigError when a key is missing."""
    states = {state.node: state for state in known}
    return [states.get(node) or NodeState(Peer(node)) for node in nodes]
