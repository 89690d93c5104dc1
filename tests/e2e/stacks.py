"""Real stacks for the end-to-end tests: each below one folder of its own, on ports of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
# Several gigabytes, made once: the environments of Open WebUI and Chroma serve every stack of the tests.
PROGRAMS = Path(os.environ.get("AISTACK_TEST_PROGRAMS") or REPOSITORY / ".cache" / "programs")
_AISTACK = Path(sys.executable).with_name("aistack")
_PORTS = (
    "proxy.https_port", "proxy.status_port", "chat.port", "gateway.port", "engine.port", "vectors.port",
    "monitoring.prometheus_port", "monitoring.node_exporter_port", "monitoring.nginx_exporter_port",
    "monitoring.exporter_port",
)  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(closing(socket.socket())) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


@dataclass
class RealStack:
    """A stack below `home`; `settings` is stack.toml as {"table.key": value}, `programs` comes first on PATH."""

    home: Path
    settings: dict[str, object]
    programs: Path | None = None

    @property
    def url(self) -> str:
        """Its address, as people use it."""
        return f"https://localhost:{self.settings['proxy.https_port']}"

    @property
    def ca(self) -> Path:
        """The root certificate that a client must trust."""
        return self.home / "config" / "tls" / "root.pem"

    @property
    def password(self) -> str:
        """The administrator's."""
        return (self.home / "config" / "secrets" / "administrator-password").read_text().strip()

    @property
    def environment(self) -> dict[str, str]:
        """For running aistack on this stack."""
        path = f"{self.programs}:{os.environ['PATH']}" if self.programs else os.environ["PATH"]
        return {**os.environ, "AISTACK_HOME": str(self.home), "PATH": path}

    def write(self) -> None:
        """Write stack.toml from `settings`."""
        tables: dict[str, list[str]] = {}
        for key, value in self.settings.items():
            table, _, name = key.rpartition(".")
            tables.setdefault(table, []).append(f"{name} = {json.dumps(value)}")
        text = "\n".join(
            (f"[{table}]\n" if table else "") + "\n".join(lines) + "\n" for table, lines in sorted(tables.items())
        )
        (self.home / "config").mkdir(parents=True, exist_ok=True)
        (self.home / "config" / "stack.toml").write_text(text)

    def run(self, *arguments: str, status: int | None = 0, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run `aistack` with `arguments`; fails unless it ends with `status` (None: any)."""
        done = subprocess.run(
            [_AISTACK, *arguments], env=self.environment, capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        story = f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, story
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `aistack` with `arguments` and leave it running."""
        return subprocess.Popen(
            [_AISTACK, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def status(self) -> dict[str, dict[str, Any]]:
        """`aistack status --json`, by service."""
        found = json.loads(self.run("status", "--json", status=None).stdout)
        return {item["service"]: item for item in found}

    def key(self, name: str) -> str:
        """A new API key."""
        return self.run("keys", "create", name).stdout.strip()

    def processes(self) -> dict[int, str]:
        """Every live process that has to do with this stack, by its command line."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if str(self.home) in command or f"HOME={self.home}/".encode() in environment:
                    found[int(entry.name)] = command
        return found

    def end(self) -> None:
        """Take it down, whatever state it is in."""
        self.run("down", status=None)
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def make_stack(**settings: object) -> RealStack:
    """A stack that is not up yet; `settings` (dots as double underscores) on top of free ports and high limits."""
    # Short, because supervisord's socket lies below it; open to nginx's workers, unlike pytest's own folders.
    home = Path(tempfile.mkdtemp(prefix="ai-", dir="/tmp"))
    home.chmod(0o711)
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    limits = {
        "proxy.limits.api_rate": "1000r/s", "proxy.limits.api_burst": 1000,
        "proxy.limits.chat_rate": "1000r/s", "proxy.limits.chat_burst": 1000,
        "proxy.limits.read_rate": "1000r/s", "proxy.limits.read_burst": 1000,
    }  # fmt: skip
    own = {key.replace("__", "."): value for key, value in settings.items()}
    stack = RealStack(home, {"paths.programs": str(PROGRAMS), **ports, **limits, "models.chat": "demo", **own})
    stack.write()
    return stack
