"""What was measured as the tables of docs/benchmarks.md. Pure, but for the versions that it names."""

import re
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version

from benchmarks.gateway.bench import OPENAI, Sample, counted, median
from benchmarks.gateway.chart import drawn
from benchmarks.gateway.measures import BAR_CLIENTS, FEW, MANY, RATE, Found
from benchmarks.gateway.peers import DIRECT, LITELLM, LITELLM_VERSION, NGINX, OURS

PICTURE = "images/gateway-throughput.svg"
_PEERS = {
    OURS: "ours, everything on",
    LITELLM: f"LiteLLM {LITELLM_VERSION}, bare",
    NGINX: "nginx, plain proxy",
    DIRECT: "direct",
}
_WHAT = """\
One process each, alone on one core; the clients and the engine's stand-in, which answers at once, share the other.
All are up together and take turns, round by round; medians of the rounds.

- **ours** is what a site runs: an API key on every request, all four limits counted for it, the fair queue, the
  engine's counts of tokens read from every answer, usage written to the database, metrics, access log and audit log.
- **LiteLLM {litellm}** is at its cheapest, one worker: no keys (it starts without only where that is forced), no
  database, no limits, no log of requests.
- **nginx {nginx}** is a plain proxy, one worker, upstream connections kept alive: it looks into no body and asks for
  no key. It stands for the least that a proxy can cost.
- **direct** is the stand-in itself: what the measuring can do.
"""
Row = Sequence[str]


def section(found: Found) -> str:
    """The tables of everything that was measured."""
    parts = [table for table in (_bars(found), _throughput(found), _streams(found), _translated(found), _memory(found))
              if table]  # fmt: skip
    return "\n".join([_what(), *parts, _noise(found)])


def picture(found: Found) -> str:
    """The chart of requests a second by the number of clients, which must have been measured."""
    lines = {}
    for name in (OURS, NGINX, LITELLM, DIRECT):
        mine = {clients: samples for (peer, clients), samples in found.throughput.items() if peer == name}
        if mine:
            lines[name] = [(clients, median(samples, _rps)) for clients, samples in mine.items()]
    return drawn("Whole answers, one core for the proxy", lines, "clients at once", "requests a second")


def _rps(sample: Sample) -> float:
    return sample.requests_per_s


def _what() -> str:
    said = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr
    nginx = re.search(r"[\d.]+", said)
    return (
        _WHAT.format(litellm=LITELLM_VERSION, nginx=nginx[0] if nginx else "")
        + f"\nuvloop {version('uvloop')}, httptools {version('httptools')}.\n"
    )


def _bars(found: Found) -> str:
    """Our own aims, and what was found."""
    ours, litellm, nginx = (found.throughput.get((name, BAR_CLIENTS), []) for name in (OURS, LITELLM, NGINX))
    many, first = found.many.get(OURS, []), found.first.get(OURS, [])
    rows: list[Row] = []
    if ours:
        rows.append(("CPU a whole answer", "170 µs or less", f"{median(ours, _per_request):.0f} µs"))
    for name, theirs, aim, digits in (("LiteLLM", litellm, "40 times", 0), ("nginx", nginx, "0.2 times", 2)):
        if ours and theirs:
            ratio = f"{median(ours, _rps) / median(theirs, _rps):.{digits}f} times"
            rows.append((f"requests/s at {BAR_CLIENTS} clients, against {name}", f"{aim} or more", ratio))
    if many:
        gap = median(many, lambda sample: sample.result.gaps.p99)
        rows.append(("CPU a streamed piece", "35 µs or less", f"{median(many, _per_chunk):.0f} µs"))
        aim = "none lost or out of order; gap p99 40 ms or less"
        rows.append((f"{MANY} streams at {RATE} pieces a second", aim, f"{_lost(many)}; {gap:.0f} ms"))
    if first:
        rows.append(("time to first token, added, one client", "p50 1 ms, p99 5 ms", _added(first)))
    if found.memory:
        measure = f"memory after {found.memory[-1][0]:,} requests"
        rows.append((measure, "150 MB or less, flat over the last half", _grown(found.memory)))
    return "### Our aims\n\n" + _table(("measure", "aim", "found"), rows) if rows else ""


def _throughput(found: Found) -> str:
    if not found.throughput:
        return ""
    clients = sorted({number for _, number in found.throughput})
    speeds, costs = [], []
    for name, words in _PEERS.items():
        by_clients = [found.throughput.get((name, number), []) for number in clients]
        if all(by_clients):
            speeds.append((words, *(f"{median(samples, _rps):,.0f}" for samples in by_clients)))
            at_bar = by_clients[clients.index(BAR_CLIENTS)]
            costs.append((words, f"{median(at_bar, _per_request):,.0f}", *_elsewhere(at_bar)))
    return (
        f"### Whole answers\n\n![Throughput against concurrency]({PICTURE})\n\n"
        + _table(("requests a second by clients", *map(str, clients)), speeds)
        + "\n"
        + _table((f"at {BAR_CLIENTS} clients", "CPU µs a request", "clients' µs", "stand-in's µs", "their core"), costs)
        + "\nWhere the core of clients and stand-in is full, they are the limit and not the proxy.\n"
    )


def _elsewhere(samples: list[Sample]) -> Row:
    clients = median(samples, lambda sample: sample.result.cpu_s * 1e6 / sample.result.requests)
    upstream = median(samples, lambda sample: sample.upstream_cpu_s * 1e6 / sample.result.requests)
    return f"{clients:.0f}", f"{upstream:.0f}", f"{median(samples, lambda sample: sample.clients_core):.0%}"


def _streams(found: Found) -> str:
    rows = []
    for name, words in _PEERS.items():
        for number, by_peer in ((FEW, found.few), (MANY, found.many)):
            if samples := by_peer.get(name):
                rows.append((words, *_stream_row(number, samples)))
    if not rows:
        return ""
    more = [(words, _added(found.first[name])) for name, words in _PEERS.items() if name in found.first]
    first = _table(("time to first token, added to direct: one client", "p50, p99"), more) if more else ""
    note = f"\nLiteLLM is not asked for {MANY} streams: they are {MANY * RATE:,} pieces a second.\n"
    return f"### Streams, {RATE} pieces a second each\n\n" + _table(_STREAM_HEAD, rows) + note + "\n" + first


_STREAM_HEAD = ("", "streams", "CPU µs a piece", "lost or out of order", "gap p50 ms", "gap p99 ms", "longest gap ms")


def _stream_row(number: int, samples: list[Sample]) -> Row:
    gaps: tuple[Callable[[Sample], float], ...] = (
        lambda sample: sample.result.gaps.p50, lambda sample: sample.result.gaps.p99,
        lambda sample: sample.result.gaps.most,
    )  # fmt: skip
    return (str(number), f"{median(samples, _per_chunk):.0f}", _lost(samples),
            *(f"{median(samples, gap):.0f}" for gap in gaps))  # fmt: skip


def _translated(found: Found) -> str:
    if len(found.translated_whole) < 2:
        return ""
    rows = [
        (name, f"{median(samples, _per_request):.0f}", f"{median(samples, _rps):,.0f}",
         f"{median(found.translated_few[name], _per_chunk):.0f}", *_stream_row(MANY, found.translated_many[name])[1:4],
         f"{median(found.translated_many[name], lambda sample: sample.result.gaps.p99):.0f}")
        for name, samples in found.translated_whole.items()
    ]  # fmt: skip
    head = ("surface", "CPU µs a whole answer", f"requests/s at {BAR_CLIENTS} clients",
            f"CPU µs a piece, {FEW} streams", f"{MANY} streams", "lost or out of order", "gap p50 ms",
            "gap p99 ms")  # fmt: skip
    text = f"The engine speaks OpenAI's API; {OPENAI.name} is passed on, the others are translated both ways.\n\n"
    return "### Translated surfaces of ours\n\n" + text + _table(head, rows)


def _memory(found: Found) -> str:
    if not found.memory:
        return ""
    marks = found.memory[:: max(len(found.memory) // 4, 1)]
    marks = marks if marks[-1] == found.memory[-1] else [*marks, found.memory[-1]]
    rows = [(f"{requests:,}", f"{size:.1f}") for requests, size in marks]
    others = "".join(
        f" {_PEERS[name]}, after what it was sent here: {size:.0f} MB." for name, size in found.other_memory.items()
    )
    return "### Memory of ours\n\n" + _table(("requests answered", "resident MB"), rows) + f"\n{others.strip()}\n"


def _noise(found: Found) -> str:
    groups = found.groups()
    worst = [max(sample.foreign for sample in counted(samples)) for samples in groups]
    if not worst:
        return ""
    results = [sample.result for samples in groups for sample in samples]
    failed, every = sum(result.failed for result in results), sum(result.requests for result in results)
    return (
        f"{failed:,} of {every:,} requests failed. "
        "Rounds count in which other programs took less than 5 % of the machine, or else the three calmest of each: "
        f"others took {sum(worst) / len(worst):.0%} in the mean, {max(worst):.0%} at the worst.\n"
    )


def _per_request(sample: Sample) -> float:
    return sample.cpu_us_per_request


def _per_chunk(sample: Sample) -> float:
    return sample.cpu_us_per_chunk


def _lost(samples: list[Sample]) -> str:
    """Over all rounds, whoever else was busy."""
    broken = sum(sample.result.lost + sample.result.reordered for sample in samples)
    return f"{broken} of {sum(sample.result.chunks + sample.result.lost for sample in samples):,}"


def _added(samples: list[Sample]) -> str:
    p50 = median(samples, lambda sample: sample.result.times.p50 - sample.result.other_times.p50)
    p99 = median(samples, lambda sample: sample.result.times.p99 - sample.result.other_times.p99)
    return f"{p50:.2f} ms, {p99:.2f} ms"


def _grown(memory: list[tuple[int, float]]) -> str:
    half = memory[len(memory) // 2 - 1][1]
    return f"{memory[-1][1]:.0f} MB; {memory[-1][1] - half:+.1f} MB over the last half"


def _table(head: Row, rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
