"""What is measured of each peer, in rounds; every function returns plain numbers for the tables."""

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.gateway.bench import OPENAI, TRANSLATED, Bench, Sample, Surface, started
from benchmarks.gateway.peers import LITELLM, NGINX, OURS, PEERS, Peer

RATE = 50
MANY = 256
# So many streams at 50 pieces a second LiteLLM bears, also on a machine that is not quite idle.
FEW = 8
BAR_CLIENTS = 32
Samples = dict[str, list[Sample]]


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    rounds: int
    seconds: float
    clients: tuple[int, ...]
    chunks: int
    first_requests: int
    memory_requests: int


FULL = Sizes(5, 1.5, (1, 2, 4, 8, 16, 32, 64, 128, 256), 200, 400, 200_000)
QUICK = Sizes(1, 1.0, (1, 32, 256), 50, 50, 20_000)


@dataclass
class Found:
    """Everything that was measured; what was not asked for is empty.

    `throughput` is by peer and number of clients, `few` and `many` (so many streams at once) and `first` by peer,
    the `translated_...` by surface. `memory` has pairs of requests so far and MB.
    """

    throughput: dict[tuple[str, int], list[Sample]] = field(default_factory=lambda: defaultdict(list))
    few: Samples = field(default_factory=lambda: defaultdict(list))
    many: Samples = field(default_factory=lambda: defaultdict(list))
    first: Samples = field(default_factory=lambda: defaultdict(list))
    translated_whole: Samples = field(default_factory=lambda: defaultdict(list))
    translated_few: Samples = field(default_factory=lambda: defaultdict(list))
    translated_many: Samples = field(default_factory=lambda: defaultdict(list))
    memory: list[tuple[int, float]] = field(default_factory=list)
    other_memory: dict[str, float] = field(default_factory=dict)

    def groups(self) -> list[list[Sample]]:
        """The rounds of each measure and peer."""
        named = (
            self.few, self.many, self.first, self.translated_whole, self.translated_few, self.translated_many
        )  # fmt: skip
        return [*self.throughput.values(), *(samples for by_name in named for samples in by_name.values())]


def throughput(bench: Bench, sizes: Sizes, found: Found) -> None:
    """Whole answers, by the number of clients. A round of a peer is short, the rounds are many."""
    for number in range(sizes.rounds):
        for clients in sizes.clients:
            for peer in _in_turn(bench.peers, number):
                found.throughput[peer.name, clients].append(bench.whole(peer, clients, seconds=sizes.seconds))


def streams(bench: Bench, sizes: Sizes, found: Found) -> None:
    """Streams, as many as LiteLLM bears, and as many as the bar says."""
    for number in range(sizes.rounds):
        for peer in _in_turn(bench.peers, number):
            found.few[peer.name].append(bench.streams(peer, FEW, sizes.chunks, RATE))
            if peer.name != LITELLM:
                found.many[peer.name].append(bench.streams(peer, MANY, sizes.chunks, RATE))


def first(bench: Bench, sizes: Sizes, found: Found) -> None:
    """How much later the first piece of a stream comes than without the peer."""
    for number in range(sizes.rounds):
        for peer in _in_turn(bench.peers, number):
            if peer is not bench.direct:
                found.first[peer.name].append(bench.first(peer, sizes.first_requests))


def translated(bench: Bench, sizes: Sizes, found: Found) -> None:
    """The surfaces that our gateway translates, beside the one that it does not."""
    ours = bench.named(OURS)
    surfaces: tuple[Surface, ...] = (OPENAI, *TRANSLATED)
    for number in range(sizes.rounds):
        for surface in reversed(surfaces) if number % 2 else surfaces:
            name = surface.name
            found.translated_whole[name].append(bench.whole(ours, BAR_CLIENTS, seconds=sizes.seconds, by=surface))
            found.translated_few[name].append(bench.streams(ours, FEW, sizes.chunks, RATE, surface))
            found.translated_many[name].append(bench.streams(ours, MANY, sizes.chunks, RATE, surface))


def memory(bench: Bench, sizes: Sizes, found: Found) -> None:
    """Resident memory of our gateway, over many requests of all surfaces."""
    ours = bench.named(OURS)
    surfaces = (OPENAI, *TRANSLATED)
    step = sizes.memory_requests // 20
    for number in range(20):
        bench.whole(ours, BAR_CLIENTS, requests=step, by=surfaces[number % len(surfaces)])
        found.memory.append(((number + 1) * step, ours.resident_mb()))
    found.other_memory.update({name: bench.named(name).resident_mb() for name in (LITELLM, NGINX) if name in
                               {peer.name for peer in bench.peers}})  # fmt: skip


MEASURES = {
    "throughput": throughput,
    "streams": streams,
    "first": first,
    "translated": translated,
    "memory": memory,
}


def run(sizes: Sizes = FULL, only: Iterable[str] = MEASURES, peers: Iterable[str] = PEERS) -> Found:
    """Measure what `only` names, of the peers of these names; says on standard error how far it is."""
    found = Found()
    with tempfile.TemporaryDirectory(prefix="aistack-bench-") as folder, started(Path(folder), peers) as bench:
        for name in only:
            began = time.monotonic()
            MEASURES[name](bench, sizes, found)
            print(f"gateway, {name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return found


def _in_turn(peers: Iterable[Peer], number: int) -> list[Peer]:
    """In another order every round: whoever comes after a heavy one finds a warmer machine."""
    ordered = list(peers)
    turn = number % len(ordered)
    return ordered[turn:] + ordered[:turn]
