"""The same stack and model as processes, on systemd and in containers, side by side: what Compose costs.

All three are up at once and take turns, so that whatever else the machine does hits them alike. Requests go the whole
way, through nginx with TLS. Where there is no root or no Docker, `run` says why and there is no table.
"""

import asyncio
import json
import os
import ssl
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.engine_against_llamacpp import write_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "e2e"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "machines"))

from engine import NoEngine
from engine import engine as docker_engine
from sites import PlaceTaken, compose_site, systemd_site
from stacks import RealStack, make_stack

_FOLDER = Path(os.environ.get("AISTACK_TEST_IMAGES") or Path(__file__).parents[1] / ".cache" / "engine")
_MODEL = "bench"
_ROUNDS = 7
_STREAMS, _STREAM_TOKENS = 8, 32  # by one client in a round, one after the other
_CLIENTS, _CLIENT_TOKENS = 4, 48  # at once; as many as the engine has slots
_SMALL, _SMALL_CLIENTS = 1500, 8  # requests that no model answers, in a round


@dataclass
class Column:
    """What one runtime took, a number a round. Memory is what the machine had less once the stack was up and had
    answered, with all that carries it; the rest is seconds, rates, and CPU seconds of the whole machine."""

    memory_mib: float = 0.0
    first_token_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    small_per_s: list[float] = field(default_factory=list)
    small_cpu_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """The columns by runtime, or why there are none."""

    columns: dict[str, Column]
    why_not: str = ""


def run() -> Found:
    """Bring the three stacks up, let them take turns for some minutes, take them down."""
    columns: dict[str, Column] = {}
    try:
        with ExitStack() as up:
            docker = up.enter_context(docker_engine(_FOLDER))
            sites = {
                name: _brought_up(up, columns, name, site)
                for name, site in (
                    ("process", _process_site),
                    ("systemd", lambda: systemd_site(docker)),
                    ("compose", lambda: compose_site(docker)),
                )
            }
            keys = {name: site.key("bench") for name, site in sites.items()}
            for number in range(_ROUNDS):
                order = list(sites) if number % 2 else list(reversed(sites))
                for name in order:
                    asyncio.run(_round(sites[name], keys[name], columns[name]))
    except (NoEngine, PlaceTaken) as why:
        return Found({}, str(why))
    return Found(columns)


@contextmanager
def _process_site() -> Iterator[RealStack]:
    made = make_stack()
    try:
        made.run("up", "--yes", timeout=900)
        yield made
    finally:
        made.end()


def _brought_up(
    up: ExitStack, columns: dict[str, Column], name: str, site: Callable[[], AbstractContextManager[RealStack]]
) -> RealStack:
    before = _available_mib()
    made = up.enter_context(site())
    write_model(made.home / "data" / "models" / f"{_MODEL}.gguf")
    made.settings |= {"proxy.limits.api_rate": "100000r/s", "proxy.limits.api_burst": 100_000}
    made.write()
    made.run("up", "--yes")
    made.ask("/v1/chat/completions", made.key("first"), _wish(1, stream=False))
    columns[name] = Column(memory_mib=before - _available_mib())
    return made


async def _round(site: RealStack, key: str, column: Column) -> None:
    connector = aiohttp.TCPConnector(limit=0, ssl=ssl.create_default_context(cafile=site.ca))
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(site.url, connector=connector, headers=headers) as session:
        await _streamed(session, 1)  # connected, and the model in memory
        alone = [await _streamed(session, _STREAM_TOKENS) for _ in range(_STREAMS)]
        column.first_token_s.append(statistics.median(first for first, _ in alone))
        column.token_s.append(statistics.median(rest for _, rest in alone) / (_STREAM_TOKENS - 1))
        began = time.perf_counter()
        await asyncio.gather(*(_streamed(session, _CLIENT_TOKENS) for _ in range(_CLIENTS)))
        column.tokens_per_s.append(_CLIENTS * _CLIENT_TOKENS / (time.perf_counter() - began))
        seconds, cpu_s = await _measured(lambda: _small(session))
        column.small_per_s.append(_SMALL / seconds)
        column.small_cpu_s.append(cpu_s / _SMALL)


async def _streamed(session: aiohttp.ClientSession, tokens: int) -> tuple[float, float]:
    """Seconds to the first token of a stream, and from there to the last."""
    began = time.perf_counter()
    first = 0.0
    async with session.post("/v1/chat/completions", json=_wish(tokens, stream=True)) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not first and line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                first = time.perf_counter()
    return first - began, time.perf_counter() - first


async def _small(session: aiohttp.ClientSession) -> None:
    """Requests for the list of models: nginx and the gateway, next to no engine."""
    left = iter(range(_SMALL))

    async def client() -> None:
        for _ in left:
            async with session.get("/v1/models") as answer:
                answer.raise_for_status()
                await answer.read()

    await asyncio.gather(*(client() for _ in range(_SMALL_CLIENTS)))


async def _measured(work: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Seconds that `work` took, and CPU seconds of the whole machine meanwhile, ours too."""
    began, cpu_s = time.perf_counter(), _machine_cpu_s()
    await work()
    return time.perf_counter() - began, _machine_cpu_s() - cpu_s


def _wish(tokens: int, *, stream: bool) -> dict[str, object]:
    return {
        "model": _MODEL, "stream": stream, "max_tokens": tokens, "ignore_eos": True,
        "messages": [{"role": "user", "content": "Tell me a long story."}],
    }  # fmt: skip


def _machine_cpu_s() -> float:
    """CPU seconds since boot that were neither idle nor waiting for a disk."""
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / os.sysconf("SC_CLK_TCK")


def _available_mib() -> float:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1024


def table(found: Found) -> str:
    """The table, medians over the rounds, and how the others compare with plain processes round by round."""
    if not found.columns:
        return f"Not measured: {found.why_not}."
    rows: list[tuple[str, Callable[[Column], list[float]], float]] = [
        ("time to the first token, one client, ms", lambda one: one.first_token_s, 1e3),
        ("time a further token, one client, ms", lambda one: one.token_s, 1e3),
        (f"tokens a second, {_CLIENTS} clients", lambda one: one.tokens_per_s, 1),
        (f"small requests a second, {_SMALL_CLIENTS} clients", lambda one: one.small_per_s, 1),
        ("CPU time of the whole machine a small request, µs", lambda one: one.small_cpu_s, 1e6),
    ]
    base = found.columns["process"]
    lines = [f"| | {' | '.join(found.columns)} |", f"|---|{'--:|' * len(found.columns)}"]
    for title, values, scale in rows:
        cells = []
        for name, column in found.columns.items():
            cell = f"{statistics.median(values(column)) * scale:,.1f}"
            if name != "process":
                ratios = [one / other for one, other in zip(values(column), values(base), strict=True)]
                cell += f" ({statistics.median(ratios):.2f})"
            cells.append(cell)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    memory = " | ".join(f"{column.memory_mib:,.0f}" for column in found.columns.values())
    lines.append(f"| memory that the machine has less, MiB | {memory} |")
    return "\n".join([
        *lines,
        "",
        f"In brackets: the ratio to plain processes, the median over {_ROUNDS} rounds in which the three took turns. "
        "The systemd stack ran in a booted Debian that shares the machine's network, its memory with that of the "
        "whole system in there; Compose's has Docker's own processes in it. A small request is a list of models: "
        "nginx with TLS and the gateway, next to no engine; its CPU time has the client's in it, the same for all.",
    ])  # fmt: skip
