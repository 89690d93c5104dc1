"""Tokens a second of our engine against the bare llama.cpp server: same model, same parameters, same run.

Both are up at once and take turns, round by round, so that whatever else the machine does hits both alike.
The model is random but of a size that makes a token cost what tokens cost. Bounded to three minutes.
"""

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

    `ratio` is the median over the pairs of rounds, `best_ratio` that of each one's best round: what else
    the machine does can only slow a round down, so the best ones are the least disturbed.
    """

    clients: int
    bare_tokens_per_s: float
    engine_tokens_per_s: float
    ratio: float
    best_ratio: float
    front_cpu_us_per_token: float


def run(rounds: int = 12, limit_s: float = 130.0) -> list[Row]:
    """Measure; at most `rounds` rounds a number of clients, fewer when `limit_s` seconds are over."""
    with tempfile.TemporaryDirectory(prefix="aistack-bench-") as folder:
        root = Path(folder)
        settings = Settings("127.0.0.1", 0, root / "models", root / "run", num_parallel=_SLOTS, context_length=256)
        settings.models_dir.mkdir()
        write_model(settings.models_dir / "bench.gguf")
        store = ModelStore(settings.models_dir)
        model = store.get("bench")
        launch = launch_of(model, store.header(model), settings, 16 << 30)
        with _bare(launch) as bare, _engine(settings, root) as (engine, front):
            _round(engine, 1, 1), _round(bare, 1, 1)
            until = time.monotonic() + limit_s
            return [
                _compared(bare, engine, front, clients, rounds, until, share=1 / (len(CLIENTS) - number))
                for number, clients in enumerate(CLIENTS)
            ]


def _compared(bare: int, engine: int, front: int, clients: int, rounds: int, until: float, *, share: float) -> Row:
    stop = time.monotonic() + (until - time.monotonic()) * share
    tokens = _TOKENS[clients]
    pairs: list[tuple[float, float]] = []
    theirs = used = 0.0
    while len(pairs) < rounds and (time.monotonic() < stop or not pairs):
        if len(pairs) % 2:  # whoever is first finds a cooler machine
            theirs = _round(bare, clients, tokens)
        before = _cpu_s(front)
        ours = _round(engine, clients, tokens)
        used += _cpu_s(front) - before
        if len(pairs) % 2 == 0:
            theirs = _round(bare, clients, tokens)
        pairs.append((theirs, ours))
    return Row(
        clients,
        statistics.median(theirs for theirs, _ in pairs),
        statistics.median(ours for _, ours in pairs),
        statistics.median(ours / theirs for theirs, ours in pairs),
        max(ours for _, ours in pairs) / max(theirs for theirs, _ in pairs),
        used * 1e6 / (len(pairs) * clients * tokens),
    )


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


def _cpu_s(pid: int) -> float:
    """Seconds that the process's main thread has run; /proc/PID/stat would count in hundredths."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def _bare(launch: Launch) -> Iterator[int]:
    """The bare server; gives its port."""
    with _started([sys.executable, "-c", _BARE], json.dumps(asdict(launch))) as (_, line):
        yield int(line.rpartition(":")[2].strip("/\n"))


@contextmanager
def _engine(settings: Settings, root: Path) -> Iterator[tuple[int, int]]:
    """Our engine; gives its port and the process id of its front."""
    file = root / "engine.json"
    file.write_text(json.dumps(asdict(settings), default=str))
    argv = [sys.executable, "-m", "aistack.engine", "--settings", str(file)]
    with _started(argv, "") as (process, line):
        yield int(line.rpartition(":")[2]), process.pid


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
        "| clients | llama.cpp tokens/s | aistack tokens/s | ratio | ratio of the best | front CPU µs a token |",
        "|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row.clients} | {row.bare_tokens_per_s:.1f} | {row.engine_tokens_per_s:.1f} | {row.ratio:.3f} "
        f"| {row.best_ratio:.3f} | {row.front_cpu_us_per_token:.0f} |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(f"{os.cpu_count()} cores")
    print(table(run()))
