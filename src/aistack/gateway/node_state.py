"""One engine node: whether it answers, which models it has, how much it is working on, whether it is spared."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aistack.gateway.listing import Model, canonical, from_llamacpp, from_ollama, from_openai
from aistack.gateway.refusals import KEY_REFUSED, Refusal
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
    `refuses_key` is whether it did not let us in when it was last asked.
    """

    def __init__(self, peer: Peer, changed: Callable[[], None] = lambda: None) -> None:
        self.peer = peer
        self.node: Node = peer.node
        self.up = False
        self.draining = False
        self.refuses_key = False
        self._refused_a_check = False
        self.models: dict[str, Model] = {}
        self.busy: dict[str, int] = {}
        self.checked_at = -float("inf")
        self.changed = changed
        self._silences = 0
        self._failures = 0
        self._why_down = ""
        self._why_refused = ""
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
    def word(self) -> str:
        """How it is: `ready`, `draining`, `down`, `resting`, or two of these."""
        words = (("draining", self.draining), ("down", not self.up), ("resting", self.up and self.resting))
        return ", ".join(word for word, applies in words if applies) or "ready"

    @property
    def problem(self) -> str:
        """What is wrong with it; "" when nothing is."""
        if not self.up:
            return self._why_down
        return self._why_refused or ("failed the last requests" if self.resting else "")

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

    @property
    def most_slots(self) -> int:
        """How many requests it works on at once for any one model."""
        return max((self.slots(model) for model in self.models.values()), default=self.node.slots)

    def failed(self, refusal: Refusal | None = None) -> None:
        """It could not be reached, broke off, or did not take our key, when it was sent a request. Others are asked
        for a while when that goes on; one more failure after the rest is enough for the next."""
        self._failures += 1
        if refusal is not None and refusal.code == KEY_REFUSED:
            # Some servers list their models to everybody, and want a key only for the rest.
            self._shut_out(refusal.message)
        if self._failures >= _FAILURES:
            self._rests_until = time.monotonic() + _REST_S
            _log.warning("node %s failed %d requests in a row and is spared for a while", self.name, self._failures)
        if self._checking is None:
            # Its watcher would find out a moment later; nobody else shall be sent there meanwhile.
            self._begin_check()

    def succeeded(self) -> None:
        """It has answered a request."""
        self._failures = 0
        if self.refuses_key:
            self._let_in()

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
            models = {canonical(model.id): model for model in await _models(self.peer)}
        except Exception as error:
            # Whatever nonsense a node tells of its models, it is down, and no more than that.
            self._silences += 1
            # A busy machine may keep us waiting; only a node that is silent again and again is down.
            silent = isinstance(error, Refusal) and error.status == 504
            if not silent or self._silences >= _SILENCES or not self.up:
                self._turn(up=False, why=_why(error))
            if isinstance(error, Refusal) and error.code == KEY_REFUSED:
                self._refused_a_check = True
                self._shut_out(error.message)
        else:
            if asked_at < self._changed_at:
                return
            self._silences = 0
            if self._refused_a_check:
                self._let_in()
            self.models = models
            self._turn(up=True, why=f"{len(models)} models")
        self.checked_at = time.monotonic()
        self.changed()

    def _checked(self, done: "asyncio.Task[None]") -> None:
        if self._checking is done:
            self._checking = None

    def _turn(self, *, up: bool, why: str) -> None:
        if up != self.up or self.checked_at < 0:
            _log.info("node %s is %s: %s", self.node.name, "up" if up else "down", why)
        self.up = up
        self._why_down = "" if up else why

    def _shut_out(self, why: str) -> None:
        if not self.refuses_key:
            _log.error("node %s does not let the gateway in: %s", self.name, why)
        self.refuses_key = True
        self._why_refused = why

    def _let_in(self) -> None:
        _log.warning("node %s lets the gateway in again", self.name)
        self.refuses_key = self._refused_a_check = False
        self._why_refused = ""


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, Refusal) else f"its list of models cannot be read: {error!r}"


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
