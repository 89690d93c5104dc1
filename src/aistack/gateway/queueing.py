"""Who may go next: requests wait here, not in the engines, and everybody's turn comes.

Each model has one line. A node takes as many requests for a model as it has slots; whoever finds none free
waits, and when a slot comes free on any node with the model, the fairest of those who wait gets it. Fair is
start-time fair queueing (Goyal, Vin, Cheng 1996): a request's start tag is the later of the line's virtual time
and the end of its principal's previous request, an end is `1 / weight` after its start, the smallest start goes
first. So somebody new waits behind one request of everybody else at most, however many they have in line.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection
from heapq import heapify, heappop, heappush

from aistack.gateway.listing import Model, canonical
from aistack.gateway.node_state import NodeState
from aistack.gateway.nodes import Nodes
from aistack.gateway.principals import Principal
from aistack.gateway.refusals import Refusal

# Of a model's requests, how much the newest counts in the average of what one takes.
_NEWEST = 0.2
_MOST_REMEMBERED = 1000
_LONGEST_RETRY_S = 120


class Place:
    """A slot on a node. `waited_s` is how long it took to get it, `ahead` how many stood in line before."""

    __slots__ = ("ahead", "key", "model", "since", "state", "waited_s")

    def __init__(self, key: str, state: NodeState, model: Model) -> None:
        self.key = key
        self.state = state
        self.model = model
        self.since = time.monotonic()
        self.waited_s = 0.0
        self.ahead = 0


class _Ticket:
    __slots__ = ("future", "label", "number", "start", "tried")

    def __init__(self, label: str, start: float, number: int, tried: Collection[NodeState]) -> None:
        self.label = label
        self.start = start
        self.number = number
        self.tried = tried
        self.future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()

    def __lt__(self, other: "_Ticket") -> bool:
        return (self.start, self.number) < (other.start, other.number)


class _Line:
    """Those who wait for one model, and what fairness must remember of those who were served."""

    __slots__ = ("ends", "numbers", "request_s", "virtual", "waiting")

    def __init__(self) -> None:
        self.waiting: list[_Ticket] = []
        self.virtual = 0.0
        self.ends: dict[str, float] = {}
        self.numbers = 0
        self.request_s = 1.0

    def start_of(self, principal: Principal) -> float:
        """The start tag of the principal's next request, which is thereby taken."""
        start = max(self.virtual, self.ends.get(principal.label, 0.0))
        if len(self.ends) > _MOST_REMEMBERED:
            self.ends = {label: end for label, end in self.ends.items() if end > self.virtual}
        self.ends[principal.label] = start + 1 / principal.weight
        return start

    def greediest(self) -> tuple[str, int]:
        """Who has most in line, and how many."""
        counted = Counter(ticket.label for ticket in self.waiting if not ticket.future.done())
        return counted.most_common(1)[0] if counted else ("", 0)


class FairQueue:
    """The lines of all models over all nodes; at most `most_waiting` wait in one."""

    def __init__(self, nodes: Nodes, most_waiting: int) -> None:
        self.most_waiting = most_waiting
        self._nodes = nodes
        self._lines: dict[str, _Line] = {}
        nodes.notify(self._look_again)

    async def enter(self, name: str, principal: Principal, tried: Collection[NodeState] = ()) -> Place:
        """A slot for the model `name`, on a node that is not among those `tried` as long as there is another; to
        be given back with `leave`.

        Raises Refusal 404 or 503 when nobody serves the model, 429 when the line is full: at once for whoever has
        most in it, while others take the last place of that one.
        """
        key = canonical(name)
        if not self._nodes.serving(key):
            await self._nodes.find(name)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        if not line.waiting and (place := self._free(key, tried)) is not None:
            line.virtual = line.start_of(principal)
            return place
        return await self._wait(key, line, principal, tried)

    def leave(self, place: Place) -> None:
        """Give a slot back; whoever is next gets it."""
        line = self._lines[place.key]
        line.request_s += (time.monotonic() - place.since - line.request_s) * _NEWEST
        self._give_back(place)

    def waiting(self) -> dict[str, int]:
        """How many wait, by canonical name of the model; those for whom somebody waited lately."""
        return {key: _alive(line) for key, line in self._lines.items()}

    async def _wait(self, key: str, line: _Line, principal: Principal, tried: Collection[NodeState]) -> Place:
        if len(line.waiting) >= self.most_waiting:
            self._make_room(key, line, principal)
        line.numbers += 1
        ticket = _Ticket(principal.label, line.start_of(principal), line.numbers, tried)
        ahead = sum(other < ticket for other in line.waiting)
        heappush(line.waiting, ticket)
        arrived = time.monotonic()
        # Whoever stands before may wait for another node than the one that is free.
        self._advance(key, line)
        try:
            place = await ticket.future
        except asyncio.CancelledError:
            # The slot may have come in the same moment as the client's end.
            if ticket.future.done() and not ticket.future.cancelled() and not ticket.future.exception():
                self._give_back(ticket.future.result())
            else:
                self._forget(key, line, ticket)
            raise
        place.waited_s, place.ahead = place.since - arrived, ahead
        return place

    def _free(self, key: str, tried: Collection[NodeState]) -> Place | None:
        """A slot that is free now: where the model is loaded, then where there is least to do."""
        candidates = self._nodes.serving(key)
        if tried:
            candidates = [found for found in candidates if found[0] not in tried] or candidates
        best: tuple[NodeState, Model] | None = None
        least = (True, 1.0)
        for state, model in candidates:
            load = (not model.loaded, state.busy.get(key, 0) / state.slots(model))
            if load[1] < 1 and (best is None or load < least):
                best, least = (state, model), load
        if best is None:
            return None
        best[0].busy[key] = best[0].busy.get(key, 0) + 1
        return Place(key, *best)

    def _give_back(self, place: Place) -> None:
        busy = place.state.busy
        busy[place.key] -= 1
        if not busy[place.key]:
            del busy[place.key]
        self._advance(place.key, self._lines[place.key])

    def _advance(self, key: str, line: _Line) -> None:
        """Give the free slots to those whose turn it is."""
        passed: list[_Ticket] = []
        while line.waiting:
            ticket = heappop(line.waiting)
            if ticket.future.done():
                continue
            place = self._free(key, ticket.tried)
            if place is None:
                passed.append(ticket)
                if ticket.tried:  # it waits for another node than the rest may
                    continue
                break
            line.virtual = max(line.virtual, ticket.start)
            ticket.future.set_result(place)
        for ticket in passed:
            heappush(line.waiting, ticket)
        if not line.waiting and not any(state.busy.get(key) for state in self._nodes.states):
            # Nobody is owed anything any more.
            line.virtual = 0.0
            line.ends.clear()

    def _look_again(self) -> None:
        """The nodes have changed: more may go on, or all hope be gone."""
        for key, line in self._lines.items():
            if not line.waiting:
                continue
            if self._nodes.serving(key):
                self._advance(key, line)
                continue
            for ticket in line.waiting:
                if not ticket.future.done():
                    ticket.future.set_exception(self._nodes.refusal(key))
            line.waiting.clear()

    def _make_room(self, key: str, line: _Line, principal: Principal) -> None:
        """Turn away the last request of whoever has most in line. Raises Refusal 429 when that is the caller."""
        label, most = line.greediest()
        own = sum(ticket.label == principal.label for ticket in line.waiting)
        if own + 1 >= most:
            raise self._full(key, line)
        last = max(ticket for ticket in line.waiting if ticket.label == label and not ticket.future.done())
        last.future.set_exception(self._full(key, line))
        self._forget(key, line, last)

    def _forget(self, key: str, line: _Line, ticket: _Ticket) -> None:
        if ticket in line.waiting:
            line.waiting.remove(ticket)
            heapify(line.waiting)
        self._advance(key, line)

    def _full(self, key: str, line: _Line) -> Refusal:
        slots = sum(state.slots(model) for state, model in self._nodes.serving(key)) or 1
        seconds = min(_LONGEST_RETRY_S, max(1, round(len(line.waiting) * line.request_s / slots)))
        message = f"too many requests wait for '{key}'; try again in {seconds} s"
        return Refusal(429, message, "queue_full", ((b"retry-after", b"%d" % seconds),))


def _alive(line: _Line) -> int:
    return sum(not ticket.future.done() for ticket in line.waiting)
