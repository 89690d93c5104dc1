"""What the gateway's suite runs: gateways as processes, and small things to wait for them."""

import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Gateway:
    """A running gateway. `log` holds what it wrote to stdout and stderr."""

    url: str
    key: str
    database: Path
    log: Path
    process: Process

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers (lower case) and body of one request, with the key unless `headers` are given."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        for name, value in (headers if headers is not None else {"Authorization": f"Bearer {self.key}"}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return response.status, _lower(response.headers), response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _lower(error.headers), error.read()

    def change(self, **settings: Any) -> None:
        """Write other settings into its file, which it reads on SIGHUP."""
        file = self.log.with_name("settings.json")
        file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


StartGateway = Callable[..., Gateway]
StartProgram = Callable[[str, dict[str, Any], Path], tuple[Process, Path]]


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(process: Process) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def address(process: Process, log: Path) -> str:
    found: list[str] = []

    def listening() -> bool:
        assert process.poll() is None, log.read_text()
        found[:] = re.findall(r"listening on (\S+)", log.read_text())
        return bool(found)

    wait_for(listening, "the gateway to listen")
    return found[0]
