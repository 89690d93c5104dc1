"""Real stacks for the end-to-end tests: each below one folder of its own, on ports of its own."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
# Several gigabytes, made once: the environments of Open WebUI and Chroma serve every stack of the tests.
PROGRAMS = Path(os.environ.get("AISTACK_TEST_PROGRAMS") or REPOSITORY / ".cache" / "programs")
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
    """A stack below `home`; `settings` is stack.toml as {"table.key": value}, `programs` comes first on PATH.

    `inside` comes before every command line: what runs it in the machine that the stack is on, which sees the two
    folders of `home` as root's usual ones; `aistack` is the program there.
    """

    home: Path
    settings: dict[str, object]
    programs: Path | None = None
    inside: tuple[str, ...] = ()
    aistack: str = str(Path(sys.executable).with_name("aistack"))

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
        return self.there(self.aistack, *arguments, status=status, timeout=timeout)

    def there(self, *argv: str, status: int | None = 0, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `argv` where the stack is; fails unless it ends with `status` (None: any)."""
        done = subprocess.run(
            [*self.inside, *argv], env=self.environment, capture_output=True, text=True, timeout=timeout,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        story = f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert status is None or done.returncode == status, story
        return done

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `aistack` with `arguments` and leave it running."""
        return subprocess.Popen(
            [*self.inside, self.aistack, *arguments], env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def put(self, name: str, text: str) -> str:
        """Write a file where the stack is; returns its path there."""
        (self.home / "data" / name).write_text(text)
        return f"/var/lib/ai-stack/{name}" if self.inside else str(self.home / "data" / name)

    def interrupt(self, started: subprocess.Popen[str], *arguments: str) -> None:
        """Ctrl-C for what `start` started with `arguments`."""
        if not self.inside:
            started.send_signal(signal.SIGINT)
            return
        for line in self.there("ps", "-e", "-o", "pid=,args=").stdout.splitlines():
            if line.endswith(" ".join((self.aistack, *arguments))):
                self.there("kill", "-INT", line.split()[0])

    def descendants(self, service: str) -> set[int]:
        """Every process that came of the service's first, as numbered where the stack is."""
        listed = self.there("ps", "-e", "-o", "pid=,ppid=").stdout.splitlines()
        parents = {int(pid): int(parent) for pid, parent in map(str.split, listed)}
        found = {self.status()[service]["pid"]}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def signal(self, service: str, name: str) -> None:
        """Send a signal, `STOP` and the like, to every process of a service."""
        self.there("kill", f"-{name}", *map(str, self.descendants(service)))

    def status(self) -> dict[str, dict[str, Any]]:
        """`aistack status --json`, by service."""
        found = json.loads(self.run("status", "--json", status=None).stdout)
        return {item["service"]: item for item in found}

    def ask(self, path: str, key: str = "", body: object = None) -> Any:
        """The answer to a request through nginx, as JSON; raises HTTPError."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=self.ca), timeout=60) as answer:
            return json.load(answer)

    def sign_in(self) -> str:
        """The administrator's token of the chat."""
        return str(
            self.ask("/api/v1/auths/signin", "", {"email": "admin@localhost", "password": self.password})["token"]
        )

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
