"""The Ollamas that the tests run: the stand-in always, and a real one where `ollama` is on PATH."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

STAND_IN = str(Path(__file__).parent / "fixtures/ollama/bin/ollama")
INSTALLED = shutil.which("ollama")
PROGRAMS = [
    pytest.param(STAND_IN, id="stand-in"),
    pytest.param(
        INSTALLED or "ollama", id="real", marks=pytest.mark.skipif(not INSTALLED, reason="no ollama is on PATH")
    ),
]


@dataclass(frozen=True)
class Ollama:
    """A running `ollama serve`; `environment` is what it was given."""

    url: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        self.process.send_signal(number)
        self.process.wait(20)


@contextlib.contextmanager
def serving(program: str, folder: Path) -> Iterator[Ollama]:
    """`program serve` on loopback, with its files below `folder`, in a process group of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(folder), "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(folder / "models"), "OLLAMA_CONTEXT_LENGTH": "2048", "OLLAMA_NO_CLOUD": "1",
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve"], env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, process_group=0
        )
    try:
        _wait(f"http://127.0.0.1:{port}/api/version", process, folder / "log")
        yield Ollama(f"http://127.0.0.1:{port}", environment, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, log.read_text(errors="replace")
        assert time.monotonic() < deadline, log.read_text(errors="replace")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.05)
