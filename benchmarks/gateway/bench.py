"""One measurement: an order to the clients, and what the peer's processor time and the rest of the machine did."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from aistack.gateway.routes import find
from benchmarks.gateway import peers
from benchmarks.gateway.orders import Order, Result, Spread
from benchmarks.gateway.peers import Peer
from benchmarks.gateway.upstream import MODEL

_ROOT = Path(__file__).parents[2]
_CALM = 0.05
_FEWEST = 3
_LONGEST_S = 300


@dataclass(frozen=True)
class Surface:
    """One API of the gateway that chats: its path, where the messages stand in a request, and what else it says."""

    name: str
    path: str
    extra: tuple[tuple[str, object], ...] = ()
    prompt: str = "messages"

    def body(self, prompt: str, *, stream: bool) -> str:
        """A request's body."""
        messages = [{"role": "user", "content": prompt}]
        return json.dumps({"model": MODEL, self.prompt: messages, "stream": stream, **dict(self.extra)})


OPENAI = Surface("OpenAI", "/v1/chat/completions")
_OTHERS = (
    Surface("Ollama", "/ollama/api/chat"),
    Surface("Anthropic", "/v1/messages", (("max_tokens", 4096),)),
    Surface("Responses", "/v1/responses", prompt="input"),
)
# What the gateway translates of that which it serves; the engine's answers are the same each time.
TRANSLATED = tuple(surface for surface in _OTHERS if find(surface.path))


@dataclass(frozen=True)
class Sample:
    """What one order gave.

    `cpu_s` is what the peer took of its core, `upstream_cpu_s` what the engine's stand-in took of the other, which
    it shares with the clients; `foreign` is the part of the machine that other programs took.
    """

    result: Result
    cpu_s: float
    upstream_cpu_s: float
    foreign: float

    @property
    def requests_per_s(self) -> float:
        """Requests answered a second."""
        return self.result.requests / self.result.seconds

    @property
    def clients_core(self) -> float:
        """How much of the core of clients and stand-in was used; where it is full, they are the limit."""
        return (self.result.cpu_s + self.upstream_cpu_s) / self.result.seconds

    @property
    def cpu_us_per_request(self) -> float:
        """The peer's processor time a request, in microseconds."""
        return self.cpu_s * 1e6 / self.result.requests

    @property
    def cpu_us_per_chunk(self) -> float:
        """The peer's processor time a piece of a stream, in microseconds."""
        return self.cpu_s * 1e6 / max(self.result.chunks, 1)


def counted(samples: Iterable[Sample]) -> list[Sample]:
    """Those during which other programs took less than a twentieth of the machine; failing that the calmest three."""
    ordered = sorted(samples, key=lambda sample: sample.foreign)
    return [sample for sample in ordered if sample.foreign < _CALM] or ordered[:_FEWEST]


def median(samples: Iterable[Sample], value: Callable[[Sample], float]) -> float:
    """The median of `value` over the samples that count."""
    return statistics.median(value(sample) for sample in counted(samples))


class Bench:
    """All peers, up at once, before one upstream. They take turns, so that whatever the machine does hits all alike."""

    def __init__(self, upstream: Peer, others: Iterable[Peer]) -> None:
        self.direct = upstream
        self.peers = (upstream, *others)

    def named(self, name: str) -> Peer:
        """The peer with this name."""
        return next(peer for peer in self.peers if peer.name == name)

    def whole(self, peer: Peer, clients: int, *, seconds: float = 0, requests: int = 0, by: Surface = OPENAI) -> Sample:
        """`clients` that always have one request for a whole answer under way."""
        body = by.body("say something", stream=False)
        return self._measured(peer, self._order("whole", peer, by, body, clients, seconds=seconds, requests=requests))

    def streams(self, peer: Peer, clients: int, chunks: int, rate: int, by: Surface = OPENAI) -> Sample:
        """`clients` streams at once, of so many pieces, so many a second each."""
        body = by.body(f"{chunks} chunks at {rate} a second", stream=True)
        return self._measured(peer, self._order("streams", peer, by, body, clients, chunks=chunks, rate=rate))

    def first(self, peer: Peer, requests: int) -> Sample:
        """One client and short streams, alternately through `peer` and directly."""
        body = OPENAI.body("3 chunks at 0 a second", stream=True)
        other = {"other_port": self.direct.port, "other_path": OPENAI.path, "other_body": body}
        return self._measured(peer, self._order("first", peer, OPENAI, body, 1, requests=requests, **other))

    def _order(self, kind: str, peer: Peer, by: Surface, body: str, clients: int, **more: object) -> dict[str, object]:
        order = Order(kind, peer.port, by.path, body, peer.authorization, clients)
        return {**asdict(order), **more}

    def _measured(self, peer: Peer, order: dict[str, object]) -> Sample:
        began, foreign = time.monotonic(), self._foreign_cpu_s()
        cpu, upstream_cpu = peer.cpu_s(), self.direct.cpu_s()
        result = _carried_out(order)
        spent = (time.monotonic() - began) * (os.cpu_count() or 1)
        if result.failed or result.lost or result.reordered:
            print(f"{peer.name}: {order['kind']}, {order['clients']} clients: {result.failed} failed {result.example}, "
                  f"{result.lost} lost, {result.reordered} reordered", file=sys.stderr)  # fmt: skip
        foreign = max(self._foreign_cpu_s() - foreign, 0) / spent
        return Sample(result, peer.cpu_s() - cpu, self.direct.cpu_s() - upstream_cpu, foreign)

    def _foreign_cpu_s(self) -> float:
        """CPU seconds that everybody but the peers, the clients and we have used since the machine started."""
        user, nice, system, _, _, hard, soft = (
            int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]
        )
        everybody = (user + nice + system + hard + soft) / os.sysconf("SC_CLK_TCK")
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        ours = sum(one.ru_utime + one.ru_stime for one in usage)
        return everybody - ours - sum(peer.cpu_s() for peer in self.peers)


def _carried_out(order: dict[str, object]) -> Result:
    argv = ["taskset", "-c", str(peers.OTHER_CORE), sys.executable, "-m", "benchmarks.gateway.load"]
    done = subprocess.run(
        argv, input=json.dumps(order), stdout=subprocess.PIPE, text=True, check=True, cwd=_ROOT, timeout=_LONGEST_S
    )
    document = json.loads(done.stdout)
    for name in ("times", "other_times", "gaps"):
        document[name] = Spread(**document[name])
    return Result(**document)


@contextmanager
def started(folder: Path, names: Iterable[str]) -> Iterator[Bench]:
    """The upstream and the peers of these names, each with a folder of its own below `folder`."""
    with ExitStack() as stack:
        upstream = stack.enter_context(peers.upstream())
        others = []
        for name in names:
            (folder / name).mkdir()
            others.append(stack.enter_context(peers.PEERS[name](upstream, folder / name)))
        yield Bench(upstream, others)
