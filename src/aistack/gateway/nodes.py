"""All engine nodes: what they serve together, and which of them to ask.

Watchers ask every node for its models again and again; requests only look at what was found last.
So a node that is dead or slow costs no request more than the request it was sent itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from aistack.gateway.listing import Model, canonical
from aistack.gateway.node_state import NodeState
from aistack.gateway.refusals import Refusal, node_down, unknown_model
from aistack.gateway.settings import NodeKind

# How old a list may be before a request that lists models, or misses one, has it asked for again.
FRESH_S = 1.0
# How long such a request waits for that. A node that is slower is listed as it was.
_PATIENCE_S = 2.0
# Seconds between two checks; an OpenAI-compatible service may be somebody else's and is asked less.
_PERIOD_S: Mapping[NodeKind, float] = {"llamacpp": 1.0, "ollama": 2.0, "openai": 15.0}

_log = logging.getLogger("aistack.gateway.nodes")


class Nodes:
    """All nodes, in the order of the settings, which is the order in which they are preferred among equals."""

    def __init__(self, states: Iterable[NodeState], default_models: Iterable[str] = ()) -> None:
        self.states: tuple[NodeState, ...] = ()
        self._first: tuple[str, ...] = ()
        self._drained: Collection[str] = ()
        self._watchers: dict[NodeState, asyncio.Task[None]] = {}
        self._on_change: Callable[[], None] = lambda: None
        self.set(states, default_models)

    def set(self, states: Iterable[NodeState], default_models: Iterable[str]) -> None:
        """From now on these are the nodes; those that are no more finish what they were sent."""
        self.states = tuple(states)
        self._first = tuple(canonical(name) for name in default_models)
        for state in self.states:
            state.changed = self._changed
            state.draining = state.name in self._drained

    async def watch(self) -> None:
        """Start to check every node that is not checked yet, and stop checking those that are no more; returns
        when each new one was checked once, or after the patience for that."""
        for state in set(self._watchers) - set(self.states):
            self._watchers.pop(state).cancel()
            state.peer.close()
        new = [state for state in self.states if state not in self._watchers]
        self._watchers.update({state: asyncio.ensure_future(_keep_checking(state)) for state in new})
        await _settle(state.check() for state in new)

    async def stop(self) -> None:
        """Stop checking, and close the connections to all nodes."""
        for state, watcher in self._watchers.items():
            watcher.cancel()
            state.peer.close()
        await asyncio.gather(*self._watchers.values(), return_exceptions=True)

    def notify(self, on_change: Callable[[], None]) -> None:
        """Have `on_change` called after every check and every change of what is drained."""
        self._on_change = on_change

    def drain(self, names: Collection[str]) -> None:
        """From now on the nodes with these names, whether there are such or not yet, are sent nothing new, and all
        others are."""
        self._drained = names
        for state in self.states:
            state.draining = state.name in names
        self._on_change()

    @property
    def removed(self) -> list[str]:
        """The names that are drained, and that none of these nodes has."""
        return sorted(set(self._drained).difference(state.name for state in self.states))

    @property
    def any_up(self) -> bool:
        """Whether some node answers."""
        return any(state.up for state in self.states)

    def spelled(self, name: str) -> str | None:
        """The model `name` as a node that has it calls it, whether that node can be asked or not; None when none has
        it, so that callers cannot fill logs and metrics with names that they made up."""
        key = canonical(name)
        return next((state.models[key].id for state in self.states if key in state.models), None)

    def serving(self, key: str) -> list[tuple[NodeState, Model]]:
        """The nodes that may be sent a request for the model with the canonical name `key`, and the model as
        each knows it. Those whose breaker is open stand in only where there is no other."""
        found = [
            (state, model) for state in self.states
            if state.up and not state.draining and (model := state.models.get(key))
        ]  # fmt: skip
        if len(found) < 2:
            return found
        return [(state, model) for state, model in found if not state.resting] or found

    async def find(self, name: str, fallbacks: Mapping[str, str] = MappingProxyType({})) -> tuple[NodeState, Model]:
        """A node that serves the model `name`, and the model as that node knows it; a drained one where the model's
        fallback (by canonical name) answers.

        Raises Refusal 404 when no node has it, 503 when those that have it, or might, are down.
        """
        key = canonical(name)
        found = self.serving(key)
        if not found:
            await self.refresh()
            found = self.serving(key) or self._replaced(key, fallbacks)
        if found:
            return found[0]
        raise self.refusal(name)

    def refusal(self, name: str) -> Refusal:
        """Why no node serves the model `name`."""
        having = [state for state in self.states if state.has(name)]
        silent = next((state for state in having if not state.up), None)
        if silent is None and not self.any_up and self.states:
            silent = self.states[0]
        if silent is not None:
            return node_down(silent.name)
        if having:
            message = f"engine node '{having[0].name}' is being drained; try again later"
            return Refusal(503, message, "engine_unavailable", ((b"retry-after", b"30"),), having[0].name)
        return unknown_model(name)

    async def models(self, fallbacks: Mapping[str, str] = MappingProxyType({})) -> list[tuple[NodeState, Model]]:
        """Every model that some node may be sent a request for, once each, the default models first; also those of
        drained nodes whose fallback (by canonical name) answers."""
        await self.refresh()
        merged: dict[str, tuple[NodeState, Model]] = {}
        for state in self.states:
            if state.up and not state.draining:
                for key, model in state.models.items():
                    merged.setdefault(key, (state, model))
        for key in fallbacks:
            if key not in merged and (replaced := self._replaced(key, fallbacks)):
                merged[key] = replaced[0]
        first = {name: merged[name] for name in self._first if name in merged}
        return list({**first, **merged}.values())

    async def refresh(self, max_age_s: float = FRESH_S) -> None:
        """Check the nodes whose list is older than `max_age_s`; their watchers see to those that are down."""
        oldest = time.monotonic() - max_age_s
        await _settle(state.check() for state in self.states if state.up and state.checked_at < oldest)

    def _replaced(self, key: str, fallbacks: Mapping[str, str]) -> list[tuple[NodeState, Model]]:
        """A drained node with the model, and the model, when its fallback answers in its place."""
        fallback = fallbacks.get(key)
        if fallback is None or not self.serving(canonical(fallback)):
            return []
        having = [state for state in self.states if state.up and state.draining and key in state.models]
        return [(state, state.models[key]) for state in having[:1]]

    def _changed(self) -> None:
        self._on_change()


async def _keep_checking(state: NodeState) -> None:
    while True:
        try:
            await state.check()
        except Exception:
            # Nobody else would check it again.
            _log.exception("what node %s tells cannot be made use of", state.name)
        await asyncio.sleep(_PERIOD_S[state.node.kind])


async def _settle(checks: Iterable[Any]) -> None:
    tasks = [asyncio.ensure_future(check) for check in checks]
    if tasks:
        await asyncio.wait(tasks, timeout=_PATIENCE_S)
