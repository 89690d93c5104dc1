"""Real engines with real llama.cpp processes on models written on the spot."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from aistack.models.demo import write_demo

Body = dict[str, Any]


@dataclass
class Engine:
    """A running engine: its models folder, its front process, what it logged so far."""

    url: str
    models: Path
    run_dir: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=60)

    def post(self, path: str, body: Body) -> httpx.Response:
        return httpx.post(self.url + path, json=body, timeout=60)

    def complete(self, model: str = "demo", **more: object) -> httpx.Response:
        return self.post("/v1/completions", {"model": model, "prompt": "hello", "max_tokens": 4, **more})

    def loaded(self) -> dict[str, Body]:
        return {item["id"]: item for item in self.get("/engine/loaded").json()["models"]}

    def children(self) -> list[int]:
        """The processes of the loaded models."""
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in found.split()]

    def descriptors(self) -> int:
        """How many files and sockets the front holds open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def logged(self, start: str) -> int:
        """How many lines began with `start`."""
        return sum(line.startswith(start) for line in self.lines)


def until(condition: Callable[[], object], limit_s: float = 20.0) -> None:
    """Wait for `condition`; fails when it does not come."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that is dead and only not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in demo model."""
    file = tmp_path_factory.mktemp("demo") / "demo.gguf"
    write_demo(file)
    return file


@pytest.fixture
def start(tmp_path: Path, demo_file: Path) -> Iterator["Starter"]:
    """Starts engines with the demo model under the names given, and other settings by keyword."""
    starter = Starter(tmp_path, demo_file)
    try:
        yield starter
    finally:
        starter.end()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, demo_file: Path) -> Iterator[Engine]:
    """One engine for all tests of a module that leave it as it was."""
    starter = Starter(tmp_path_factory.mktemp("engine"), demo_file)
    try:
        yield starter("demo", num_parallel=2, max_body_mb=1)
    finally:
        starter.end()


class Starter:
    """Starts engines below `folder`, and ends them all."""

    def __init__(self, folder: Path, demo_file: Path) -> None:
        self._folder = folder
        self._demo = demo_file
        self._engines: list[tuple[Engine, threading.Thread]] = []

    def __call__(self, *names: str, **settings: object) -> Engine:
        models, run_dir = self._folder / "models", self._folder / "run"
        models.mkdir(exist_ok=True)
        for name in names or ("demo",):
            (models / f"{name}.gguf").write_bytes(self._demo.read_bytes())
        wanted = {
            "host": "127.0.0.1", "port": 0, "models_dir": str(models), "run_dir": str(run_dir),
            "context_length": 512, **settings,
        }  # fmt: skip
        file = self._folder / "engine.json"
        file.write_text(json.dumps(wanted))
        process = subprocess.Popen(
            [sys.executable, "-m", "aistack.engine", "--settings", str(file)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        engine = Engine("", models, run_dir, process)
        reader = threading.Thread(target=_read_lines, args=(process, engine.lines))
        reader.start()
        self._engines.append((engine, reader))
        until(lambda: engine.logged("serving ") or process.poll() is not None)
        engine.url = next(line for line in engine.lines if line.startswith("serving ")).split(" on ")[1]
        return engine

    def end(self) -> None:
        for engine, reader in self._engines:
            if engine.process.poll() is None:
                os.kill(engine.process.pid, signal.SIGKILL)
            engine.process.wait()
            reader.join()
            assert engine.process.stdout
            engine.process.stdout.close()


def _read_lines(process: subprocess.Popen[str], lines: list[str]) -> None:
    assert process.stdout
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
