"""Which engine nodes there are, which answer, and which has which model.

A watcher asks every node for its models again and again; requests only look at what was found last.
So a node that is dead or slow costs no request more than the request it was sent itself.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aistack.gateway.listing import Model, canonical, from_llamacpp, from_ollama, from_openai
from aistack.gateway.refusals import Refusal, node_down, unknown_model
from aistack.gateway.settings import Node, NodeKind
from aistack.gateway.upstream import FAILURES, Peer

Json = dict[str, Any]

CHECK_TIMEOUT_S = 5.0
# How old a list may be before a request that lists models, or misses one, has it asked for again.
FRESH_S = 1.0
# How long such a request waits for that. A node that is slower is listed as it was.
_PATIENCE_S = 2.0
# So many checks in a row that time out mean that a node is down.
_SILENCES = 3
# Seconds between two checks; an OpenAI-compatible service may be somebody else's and is asked less.
_PERIOD_S: Mapping[NodeKind, float] = {"llamacpp": 1.0, "ollama": 2.0, "openai": 15.0}

_log = logging.getLogger("aistack.gateway.nodes")


class NodeState:
    """One node and what is known of it. `models` stay known while the node is down."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.node: Node = peer.node
        self.up = False
        self.models: dict[str, Model] = {}
        self.checked_at = -float("inf")
        self._silences = 0
        self._changed_at = -float("inf")
        self._checking: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The node's name in the settings."""
        return self.node.name

    def has(self, name: str) -> bool:
        """Whether the node had the model `name` when it last answered."""
        return canonical(name) in self.models

    async def check(self) -> None:
        """Ask the node for its models. Checks that are wanted while one runs share it."""
        if self._checking is None:
            self._checking = asyncio.ensure_future(self._check())
            self._checking.add_done_callback(self._checked)
        await asyncio.shield(self._checking)

    def outdate(self) -> None:
        """The models have changed: what is known of them is old, and so is what a running check will find."""
        self._changed_at = time.monotonic()
        self.checked_at = -float("inf")
        self._checking = None

    async def _check(self) -> None:
        asked_at = time.monotonic()
        try:
            document = await self.peer.json("GET", _list_path(self.node), timeout_s=CHECK_TIMEOUT_S)
            models = _models(self.node, document)
        except (Refusal, KeyError, TypeError, AttributeError, *FAILURES) as error:
            self._silences += 1
            # A busy machine may keep us waiting; only a node that is silent again and again is down.
            silent = isinstance(error, Refusal) and error.status == 504
            if not silent or self._silences >= _SILENCES or not self.up:
                self._turn(up=False, why=str(error))
        else:
            if asked_at < self._changed_at:
                return
            self._silences = 0
            self.models = {canonical(model.id): model for model in models}
            self._turn(up=True, why=f"{len(self.models)} models")
        self.checked_at = time.monotonic()

    def _checked(self, done: "asyncio.Task[None]") -> None:
        if self._checking is done:
            self._checking = None

    def _turn(self, *, up: bool, why: str) -> None:
        if up != self.up or self.checked_at < 0:
            _log.info("node %s is %s: %s", self.node.name, "up" if up else "down", why)
        self.up = up


class Nodes:
    """All nodes, in the order of the settings, which is the order in which they are preferred."""

    def __init__(self, states: Iterable[NodeState], default_models: Iterable[str] = ()) -> None:
        self.states = tuple(states)
        self._first = tuple(canonical(name) for name in default_models)
        self._watchers: list[asyncio.Task[None]] = []

    async def watch(self) -> None:
        """Start to check every node; returns when each was checked once, or after the patience for that."""
        self._watchers = [asyncio.ensure_future(_keep_checking(state)) for state in self.states]
        await _settle(state.check() for state in self.states)

    async def stop(self) -> None:
        """Stop checking."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    @property
    def any_up(self) -> bool:
        """Whether some node answers."""
        return any(state.up for state in self.states)

    async def find(self, name: str) -> tuple[NodeState, Model]:
        """The node to ask for the model `name`, and the model as that node knows it.

        Raises Refusal 404 when no node has it, 503 when those that have it, or might, are down.
        """
        found = self._find(name)
        if found is None:
            await self.refresh()
            found = self._find(name)
        if found is not None:
            return found
        silent = next((state for state in self.states if state.has(name)), None)
        if silent is None and not self.any_up and self.states:
            silent = self.states[0]
        raise node_down(silent.node.name) if silent else unknown_model(name)

    async def models(self) -> list[tuple[NodeState, Model]]:
        """Every model of every node that answers, once each, the default models first."""
        await self.refresh()
        merged: dict[str, tuple[NodeState, Model]] = {}
        for state in self.states:
            if state.up:
                for key, model in state.models.items():
                    merged.setdefault(key, (state, model))
        first = {name: merged[name] for name in self._first if name in merged}
        return list({**first, **merged}.values())

    async def refresh(self, max_age_s: float = FRESH_S) -> None:
        """Check the nodes whose list is older than `max_age_s`; their watchers see to those that are down."""
        oldest = time.monotonic() - max_age_s
        await _settle(state.check() for state in self.states if state.up and state.checked_at < oldest)

    def _find(self, name: str) -> tuple[NodeState, Model] | None:
        key = canonical(name)
        for state in self.states:
            if state.up and (model := state.models.get(key)):
                return state, model
        return None


async def _keep_checking(state: NodeState) -> None:
    while True:
        await state.check()
        await asyncio.sleep(_PERIOD_S[state.node.kind])


async def _settle(checks: Iterable[Any]) -> None:
    tasks = [asyncio.ensure_future(check) for check in checks]
    if tasks:
        await asyncio.wait(tasks, timeout=_PATIENCE_S)


def _list_path(node: Node) -> str:
    return "/api/tags" if node.kind == "ollama" else "/v1/models"


def _models(node: Node, document: Json) -> list[Model]:
    readers: dict[NodeKind, tuple[str, Callable[[Json], Model]]] = {
        "llamacpp": ("data", from_llamacpp),
        "ollama": ("models", from_ollama),
        "openai": ("data", from_openai),
    }
    key, read = readers[node.kind]
    return [read(item) for item in document[key] or []]
