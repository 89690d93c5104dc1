"""The peers, each started as it would be in earnest, one at a time on the core that is theirs."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from aistack.gateway.allowances import LIMIT_NAMES
from aistack.gateway.keys import KeyStore
from benchmarks.gateway.upstream import MODEL

_CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, OTHER_CORE = _CORES[0], _CORES[-1]
DIRECT, OURS, LITELLM, NGINX = "direct", "aistack", "LiteLLM", "nginx"
LITELLM_VERSION = "1.109.1"
_ROOT = Path(__file__).parents[2]
_LITELLM = _ROOT / ".cache" / "benchmarks" / "litellm"
_LOCK = Path(__file__).with_name("requirements.lock")
_START_S = 90.0
# Of requests or tokens in any stretch of time: more than a limit's key can use.
_NEVER = 1_000_000_000_000


@dataclass(frozen=True)
class Peer:
    """A running peer: where it listens, what a request must carry, and its process (0: none of its own)."""

    name: str
    port: int
    pid: int
    authorization: str = ""

    def cpu_s(self) -> float:
        """CPU seconds that the threads of its process and of its children have run so far."""
        # /proc/PID/stat would count in hundredths of a second.
        tasks = [task for pid in _family(self.pid) for task in Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def resident_mb(self) -> float:
        """Memory that its processes hold, in MB of a million bytes; pages that they share count once for each."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in _family(self.pid))
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _family(pid: int) -> list[int]:
    if not pid:
        return []
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(one for file in children for child in file.read_text().split() for one in _family(int(child)))]


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def upstream() -> Iterator[Peer]:
    """The engine's stand-in; as a peer it is the direct way."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.gateway.upstream", str(port)]
    with _started(argv, port, OTHER_CORE) as process:
        yield Peer(DIRECT, port, process.pid)


@contextmanager
def gateway(upstream: Peer, folder: Path) -> Iterator[Peer]:
    """Ours as a site runs it: a key with every limit, none of which is ever reached, the fair queue, counts of tokens,
    usage in the database, metrics, access log and audit log."""
    port = free_port()
    internal = folder / "internal.key"
    internal.write_text(secrets.token_hex(32))
    database = folder / "gateway.db"
    store = KeyStore(database)
    key, _ = store.create("benchmark", terms=dict.fromkeys(LIMIT_NAMES, _NEVER))
    store.close()
    settings = folder / "gateway.json"
    node = {"name": "engine", "kind": "llamacpp", "url": f"http://127.0.0.1:{upstream.port}"}
    settings.write_text(json.dumps({
        "host": "127.0.0.1", "port": port, "database": str(database), "internal_key_file": str(internal),
        "nodes": [node], "chat_url": "http://127.0.0.1:9", "max_body_mb": 64,
        "audit": {"file": str(folder / "audit.log"), "prompts": False, "max_mb": 100, "keep": 3},
    }))  # fmt: skip
    argv = [sys.executable, "-m", "aistack.gateway", "--settings", str(settings)]
    with _started(argv, port, PROXY_CORE, folder / "gateway.log") as process:
        yield Peer(OURS, port, process.pid, f"Bearer {key}")


@contextmanager
def litellm(upstream: Peer, folder: Path) -> Iterator[Peer]:
    """LiteLLM's proxy at its cheapest: one worker, no database, no log, no keys, which it must be told to allow."""
    _install_litellm()
    port = free_port()
    file = folder / "litellm.yaml"
    model = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "none"}
    file.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": model}]}))
    argv = [str(_LITELLM / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--num_workers", "1"]
    allowed = {"LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "true"}
    with _started(argv, port, PROXY_CORE, folder / "litellm.log", **allowed) as process:
        yield Peer(LITELLM, port, process.pid)


def _install_litellm() -> None:
    """An environment of its own, with what requirements.lock says; quick when nothing changed."""
    stamp = _LITELLM / ".installed"
    if stamp.exists() and stamp.read_bytes() == _LOCK.read_bytes():
        return
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "-q", "--clear", "--python", sys.executable, str(_LITELLM)], check=True)
    python = str(_LITELLM / "bin" / "python")
    subprocess.run([uv, "pip", "sync", "-q", "--python", python, str(_LOCK)], check=True)
    stamp.write_bytes(_LOCK.read_bytes())


_CONFIGURATION = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    keepalive_requests 100000000;
    upstream engine {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
        }}
    }}
}}
"""


@contextmanager
def nginx(upstream: Peer, folder: Path) -> Iterator[Peer]:
    """nginx as a plain proxy with one worker: it looks at nothing but the headers."""
    port = free_port()
    file = folder / "nginx.conf"
    file.write_text(_CONFIGURATION.format(folder=folder, upstream=upstream.port, port=port))
    with _started(["nginx", "-c", str(file), "-e", str(folder / "nginx.log")], port, PROXY_CORE) as process:
        yield Peer(NGINX, port, process.pid)


PEERS: dict[str, Callable[[Peer, Path], AbstractContextManager[Peer]]] = {
    OURS: gateway,
    NGINX: nginx,
    LITELLM: litellm,
}


@contextmanager
def _started(
    argv: list[str], port: int, core: int, log: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    with (log or Path(os.devnull)).open("wb") as sink:
        process = subprocess.Popen(
            ["taskset", "-c", str(core), *argv],
            cwd=_ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
        )  # fmt: skip
        try:
            _wait(port, process)
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen")
