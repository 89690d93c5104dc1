"""One engine node: whether it answers, which models it has, how much it is working on, whether it is spared."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aistack.gateway.listing import Model, canonical, from_llamacpp, from_ollama, from_openai
from aistack.gateway.refusals import Refusal
from aistack.gateway.settings import Node, NodeKind
from aistack.gateway.upstream import Peer

Json = dict[str, Any]

CHECK_TIMEOUT_S = 5.0
# So many checks in a row that time out mean that a node is down.
_SILENCES = 3
# So many requests in a row that a node fails make the breaker open: others are asked for a while.
_FAILURES = 3
_REST_S = 10.0
# What is assumed of a node that does not say: Ollama works on one request a model unless told otherwise.
_SLOTS: Mapping[NodeKind, int] = {"llamacpp": 1, "ollama": 1, "openai": 32}

_log = logging.getLogger("aistack.gateway.nodes")


class NodeState:
    """One node and what is known of it. `models` stay known while the node is down.

    `busy` counts by canonical model name the requests that it was sent; `draining` is whether it is sent no more.
    """

    def __init__(self, peer: Peer, changed: Callable[[], None] = lambda: None) -> None:
        self.peer = peer
        self.node: Node = peer.node
        self.up = False
        self.draining = False
        self.models: dict[str, Model] = {}
        self.busy: dict[str, int] = {}
        self.checked_at = -float("inf")
        self.changed = changed
        self._silences = 0
        self._failures = 0
        self._rests_until = -float("inf")
        self._changed_at = -float("inf")
        self._checking: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The node's name in the settings."""
        return self.node.name

    @property
    def resting(self) -> bool:
        """Whether its breaker is open: it answers checks and yet failed the last requests."""
        return self._rests_until > time.monotonic()

    @property
    def in_flight(self) -> int:
        """How many requests it is working on."""
        return sum(self.busy.values())

    def has(self, name: str) -> bool:
        """Whether the node had the model `name` when it last answered."""
        return canonical(name) in self.models

    def slots(self, model: Model) -> int:
        """How many requests for `model` it works on at once; further ones wait here, in a fair order."""
        return self.node.slots or model.slots or _SLOTS[self.node.kind]

    def failed(self) -> None:
        """It could not be reached, or broke off, when it was sent a request. Others are asked for a while when
        that goes on; one more failure after the rest is enough for the next."""
        self._failures += 1
        if self._failures >= _FAILURES:
            self._rests_until = time.monotonic() + _REST_S
            _log.warning("node %s failed %d requests in a row and is spared for a while", self.name, self._failures)
        if self._checking is None:
            # Its watcher would find out a moment later; nobody else shall be sent there meanwhile.
            self._begin_check()

    def succeeded(self) -> None:
        """It has answered a request."""
        self._failures = 0

    async def check(self) -> None:
        """Ask the node for its models. Checks that are wanted while one runs share it."""
        await asyncio.shield(self._checking or self._begin_check())

    def _begin_check(self) -> "asyncio.Task[None]":
        self._checking = asyncio.ensure_future(self._check())
        self._checking.add_done_callback(self._checked)
        return self._checking

    def outdate(self) -> None:
        """The models have changed: what is known of them is old, and so is what a running check will find."""
        self._changed_at = time.monotonic()
        self.checked_at = -float("inf")
        self._checking = None

    async def _check(self) -> None:
        asked_at = time.monotonic()
        try:
            models = await _models(self.peer)
        except (Refusal, KeyError, TypeError, AttributeError) as error:
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
        self.changed()

    def _checked(self, done: "asyncio.Task[None]") -> None:
        if self._checking is done:
            self._checking = None

    def _turn(self, *, up: bool, why: str) -> None:
        if up != self.up or self.checked_at < 0:
            _log.info("node %s is %s: %s", self.node.name, "up" if up else "down", why)
        self.up = up


async def _models(peer: Peer) -> list[Model]:
    """What the node has. Raises Refusal, or whatever reading nonsense raises."""
    if peer.node.kind == "ollama":
        document = await peer.json("GET", "/api/tags", timeout_s=CHECK_TIMEOUT_S)
        running = await _running(peer)
        return [from_ollama(item, running) for item in document["models"] or []]
    document = await peer.json("GET", "/v1/models", timeout_s=CHECK_TIMEOUT_S)
    read = from_llamacpp if peer.node.kind == "llamacpp" else from_openai
    return [read(item) for item in document["data"] or []]


async def _running(peer: Peer) -> Mapping[str, Json]:
    """The models that an Ollama has loaded, by name; none when it does not tell."""
    try:
        document = await peer.json("GET", "/api/ps", timeout_s=CHECK_TIMEOUT_S)
        return {item.get("model") or item["name"]: item for item in document["models"] or []}
    except (Refusal, KeyError, TypeError, AttributeError):
        return {}
