"""Tokens a second of our engine against the bare llama.cpp server: same model, same parameters, same run.

Both are up at once and take turns, round by round, so that whatever else the machine does hits both alike.
The model is random but of a size that makes a token cost what tokens cost. Bounded to three minutes.
"""

import itertools
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import gguf
import numpy as np

from aistack.engine.launch import Launch, launch_of
from aistack.engine.settings import Settings
from aistack.models.store import ModelStore

CLIENTS = (1, 4, 16)
_TOKENS = {1: 96, 4: 64, 16: 32}  # a client and round: a few seconds each on two cores
_SLOTS = 16
_DISTURBED = 0.05  # two threads that wait for each other lose half their speed to a third one in no time
_FEWEST = 3
_LAYERS, _WIDTH, _INNER, _VOCABULARY = 12, 768, 2560, 4096
_BARE = """
import json, signal, sys, xllamacpp
from aistack.engine.launch import Launch
from aistack.engine.llama import parameters
wanted = parameters(Launch(**json.load(sys.stdin)), "unused.sock")
wanted.hostnames = ["127.0.0.1"]
server = xllamacpp.Server(wanted)
print(server.listening_address, flush=True)
signal.pause()
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: medians over the rounds, and ours over bare (1.0: no cost).

    `ratio` is the median over the pairs of rounds, `best_ratio` that of each one's best round. Counted are
    the `rounds` during which other programs took less than a twentieth of the machine, or, where there was
    none, the three calmest; `foreign_share` is what others took in the worst of those.
    """

    clients: int
    bare_tokens_per_s: float
    engine_tokens_per_s: float
    ratio: float
    best_ratio: float
    front_cpu_us_per_token: float
    rounds: int
    foreign_share: float


@dataclass(frozen=True)
class _Server:
    """A running server: its port and its process."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Seconds that its main thread has run; /proc/PID/stat would count in hundredths."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9


def run(rounds: int = 8, limit_s: float = 130.0) -> list[Row]:
    """Measure until each number of clients has had `rounds` calm rounds, or `limit_s` seconds are over."""
    with tempfile.TemporaryDirectory(prefix="aistack-bench-") as folder:
        root = Path(folder)
        settings = Settings("127.0.0.1", 0, root / "models", root / "run", num_parallel=_SLOTS, context_length=256)
        settings.models_dir.mkdir()
        write_model(settings.models_dir / "bench.gguf")
        store = ModelStore(settings.models_dir)
        model = store.get("bench")
        launch = launch_of(model, store.header(model), settings, 16 << 30)
        with _bare(launch) as bare, _engine(settings, root) as engine:
            for server in (bare, engine):
                _round(server.port, 1, 1)
            return _measured(bare, engine, rounds, limit_s)


@dataclass(frozen=True)
class _Pair:
    """A round of each: tokens a second, CPU seconds of our front, and what others took of the machine."""

    theirs: float
    ours: float
    front_cpu_s: float
    foreign_share: float

    @property
    def calm(self) -> bool:
        """Whether it counts."""
        return self.foreign_share < _DISTURBED


def _measured(bare: _Server, engine: _Server, rounds: int, limit_s: float) -> list[Row]:
    """All numbers of clients in turn, so that a calm minute serves each of them."""
    stop = time.monotonic() + limit_s
    pairs: dict[int, list[_Pair]] = {clients: [] for clients in CLIENTS}
    for number in itertools.count():
        for clients, found in pairs.items():
            if sum(pair.calm for pair in found) < rounds:
                found.append(_pair(bare, engine, clients, engine_first=number % 2 == 0))
        enough = all(sum(pair.calm for pair in found) >= rounds for found in pairs.values())
        if enough or time.monotonic() > stop:
            break
    return [_row(clients, found) for clients, found in pairs.items()]


def _row(clients: int, pairs: list[_Pair]) -> Row:
    pairs = sorted(pairs, key=lambda pair: pair.foreign_share)
    kept = [pair for pair in pairs if pair.calm] or pairs[:_FEWEST]
    tokens = _TOKENS[clients]
    return Row(
        clients,
        statistics.median(pair.theirs for pair in kept),
        statistics.median(pair.ours for pair in kept),
        statistics.median(pair.ours / pair.theirs for pair in kept),
        max(pair.ours for pair in kept) / max(pair.theirs for pair in kept),
        sum(pair.front_cpu_s for pair in kept) * 1e6 / (len(kept) * clients * tokens),
        len(kept),
        kept[-1].foreign_share,
    )


def _pair(bare: _Server, engine: _Server, clients: int, *, engine_first: bool) -> _Pair:
    tokens = _TOKENS[clients]
    began, others, front = time.monotonic(), _foreign_cpu_s(bare, engine), engine.cpu_s()
    speeds = {}
    for server in (engine, bare) if engine_first else (bare, engine):  # the first finds a cooler machine
        speeds[server] = _round(server.port, clients, tokens)
    spent = (time.monotonic() - began) * (os.cpu_count() or 1)
    foreign = (_foreign_cpu_s(bare, engine) - others) / spent
    return _Pair(speeds[bare], speeds[engine], engine.cpu_s() - front, foreign)


def _round(port: int, clients: int, tokens: int) -> float:
    """Stream `tokens` tokens to each of `clients` clients at once; returns tokens a second, all together."""
    body = json.dumps(
        {
            "model": "bench", "prompt": "w1 w2 w3 w4", "max_tokens": tokens, "stream": True,
            "ignore_eos": True, "cache_prompt": False, "temperature": 0,
        }
    ).encode()  # fmt: skip
    request = (
        b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body
    began = time.monotonic()
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(request)
            selector.register(client, selectors.EVENT_READ, bytearray())
        while selector.get_map():
            for key, _ in selector.select():
                _read(selector, key, tokens)
    return clients * tokens / (time.monotonic() - began)


def _read(selector: selectors.BaseSelector, key: selectors.SelectorKey, tokens: int) -> None:
    client = key.fileobj
    assert isinstance(client, socket.socket)
    data = client.recv(1 << 16)
    key.data.extend(data)
    if not data:
        selector.unregister(client)
        client.close()
        told = key.data.count(b'"text"')
        if b" 200 " not in key.data[:20] or b"[DONE]" not in key.data or told < tokens / 2:
            raise RuntimeError(f"the response is not whole: {bytes(key.data[-300:])!r}")


def _foreign_cpu_s(*servers: _Server) -> float:
    """CPU seconds that everybody but `servers`, their children and we have used since the machine started."""
    ours = [os.getpid(), *(pid for server in servers for pid in (server.pid, *_children(server.pid)))]
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _waiting, hard, soft = numbers[:7]
    ticks = user + nice + system + hard + soft - sum(_ticks(pid) for pid in ours)
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@contextmanager
def _bare(launch: Launch) -> Iterator[_Server]:
    """The bare server."""
    with _started([sys.executable, "-c", _BARE], json.dumps(asdict(launch))) as (process, line):
        yield _Server(int(line.rpartition(":")[2].strip("/\n")), process.pid)


@contextmanager
def _engine(settings: Settings, root: Path) -> Iterator[_Server]:
    """Our engine; the process is its front."""
    file = root / "engine.json"
    file.write_text(json.dumps(asdict(settings), default=str))
    argv = [sys.executable, "-m", "aistack.engine", "--settings", str(file)]
    with _started(argv, "") as (process, line):
        yield _Server(int(line.rpartition(":")[2]), process.pid)


@contextmanager
def _started(argv: list[str], stdin: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(stdin)
        process.stdin.close()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{argv[:3]} did not start")
        yield process, line
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def write_model(path: Path) -> None:
    """A random llama of about 105 million F16 parameters."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(2048)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(12)
    writer.add_head_count_kv(12)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // 12)
    words = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    kinds = [2, 3, 3] + [6] * 256
    words += [f"▁w{number}" for number in range(_VOCABULARY - len(words))]
    kinds += [1] * (_VOCABULARY - len(kinds))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(number) for number in range(_VOCABULARY)])
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    _add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_weights(writer: gguf.GGUFWriter) -> None:
    random = np.random.default_rng(1)

    def weights(name: str, *shape: int) -> None:
        values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(_WIDTH, np.float32))

    weights("token_embd", _VOCABULARY, _WIDTH)
    weights("output", _VOCABULARY, _WIDTH)
    ones("output_norm")
    for layer in range(_LAYERS):
        ones(f"blk.{layer}.attn_norm")
        ones(f"blk.{layer}.ffn_norm")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(f"blk.{layer}.{part}", _WIDTH, _WIDTH)
        for part in ("ffn_gate", "ffn_up"):
            weights(f"blk.{layer}.{part}", _INNER, _WIDTH)
        weights(f"blk.{layer}.ffn_down", _WIDTH, _INNER)


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| clients | llama.cpp tokens/s | ours | ratio | best to best | front CPU µs/token | rounds | others |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.clients} | {row.bare_tokens_per_s:.1f} | {row.engine_tokens_per_s:.1f} | {row.ratio:.3f} "
        f"| {row.best_ratio:.3f} | {row.front_cpu_us_per_token:.0f} | {row.rounds} | {row.foreign_share:.0%} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    print(table(run()))
