"""Real processes for the gateway's suite: our engine with small models, a gateway for each kind of node."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aistack.gateway.keys import KeyStore
from aistack.models.demo import write_demo

from .processes import Gateway, Process, StartGateway, StartProgram, address, free_port, stop, wait_for
from .scripted import ScriptedUpstream
from .small_models import write_talker, write_tiny_rerank
from .tiny_model import write_tiny_embed

INTERNAL_KEY = "internal-key-of-the-tests"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="session")
def start_program() -> Iterator[StartProgram]:
    """Starts `python -m MODULE --settings FILE`; all are stopped at the end of the session."""
    with contextlib.ExitStack() as stack:
        yield lambda module, settings, where: _started(stack, module, settings, where)


@pytest.fixture(scope="session")
def start_lasting_gateway(folder: Path, start_program: StartProgram) -> StartGateway:
    """Starts a gateway over the given nodes, with one API key, for the whole session."""
    count = itertools.count()
    return lambda nodes, **more: _gateway(start_program, folder / f"lasting{next(count)}", nodes, more)


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Starts a gateway over the given nodes, with one API key, for one test."""
    count = itertools.count()
    with contextlib.ExitStack() as stack:

        def start_program(module: str, settings: dict[str, Any], where: Path) -> tuple[Process, Path]:
            return _started(stack, module, settings, where)

        yield lambda nodes, **more: _gateway(start_program, tmp_path / f"gateway{next(count)}", nodes, more)


def _started(stack: contextlib.ExitStack, module: str, settings: dict[str, Any], where: Path) -> tuple[Process, Path]:
    where.mkdir(parents=True, exist_ok=True)
    file = where / "settings.json"
    file.write_text(json.dumps(settings))
    log = where / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, "--settings", str(file)],
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
    stack.callback(stop, process)
    return process, log


def _gateway(start_program: StartProgram, where: Path, nodes: list[dict[str, Any]], more: dict[str, Any]) -> Gateway:
    where.mkdir()
    secret = where / "internal.key"
    secret.write_text(INTERNAL_KEY + "\n")
    database = where / "gateway.db"
    store = KeyStore(database)
    key, _ = store.create("tests")
    store.close()
    settings = {
        "host": "127.0.0.1",
        "port": 0,
        "database": str(database),
        "internal_key_file": str(secret),
        "nodes": nodes,
        "chat_url": "http://127.0.0.1:9",
        "default_models": {"chat": "demo", "embedding": "tiny-embed"},
        "max_body_mb": 1,
        **more,
    }
    process, log = start_program("aistack.gateway", settings, where)
    return Gateway(address(process, log), key, database, log, process)


@pytest.fixture(scope="session")
def engine(folder: Path, start_program: StartProgram) -> str:
    """The address of our engine, with the models `demo`, `acme/words:q4`, `talker`, `tiny-embed`, `tiny-rerank`."""
    models = folder / "models"
    models.mkdir()
    write_demo(models / "demo.gguf")
    write_demo(models / "acme%2Fwords%3Aq4.gguf")
    write_talker(models / "talker.gguf")
    write_tiny_embed(models / "tiny-embed.gguf")
    write_tiny_rerank(models / "tiny-rerank.gguf")
    port = free_port()
    settings = {
        "host": "127.0.0.1", "port": port, "models_dir": str(models), "run_dir": str(folder / "run"),
        "max_loaded_models": 2, "keep_alive_s": 300, "num_parallel": 2, "context_length": 2048,
        "threads": 1, "gpu_layers": 0,
    }  # fmt: skip
    process, log = start_program("aistack.engine", settings, folder / "engine")
    url = f"http://127.0.0.1:{port}"

    def serving() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    wait_for(serving, "the engine to serve")
    return url


@pytest.fixture(scope="session")
def over_engine(start_lasting_gateway: StartGateway, engine: str) -> Gateway:
    """A gateway in front of our engine."""
    return start_lasting_gateway([{"name": "local", "kind": "llamacpp", "url": engine}])


@pytest.fixture(scope="session")
def over_ollama(start_lasting_gateway: StartGateway, over_engine: Gateway, folder: Path) -> Gateway:
    """A gateway in front of an Ollama API: the other gateway's, so that its tokens are real."""
    key_file = folder / "node.key"
    key_file.write_text(over_engine.key)
    url = f"{over_engine.url}/ollama"
    return start_lasting_gateway([{"name": "ollama", "kind": "ollama", "url": url, "key_file": str(key_file)}])


@pytest.fixture(scope="session")
def over_openai(start_lasting_gateway: StartGateway, engine: str) -> Gateway:
    """A gateway in front of a server of which it knows only that it speaks OpenAI's API."""
    return start_lasting_gateway([{"name": "other", "kind": "openai", "url": engine}])


@pytest.fixture(scope="session", params=["over_engine", "over_ollama", "over_openai"])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """A gateway over each kind of node in turn."""
    chosen: Gateway = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture(scope="session")
def scripted_server() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as server:
        server.reset()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def upstream(scripted_server: ScriptedUpstream) -> ScriptedUpstream:
    """A scripted server with one model, `m`, on both surfaces, that remembers nothing of other tests."""
    scripted_server.reset()
    return scripted_server


@pytest.fixture(scope="session")
def over_scripted_llamacpp(start_lasting_gateway: StartGateway, scripted_server: ScriptedUpstream) -> Gateway:
    return start_lasting_gateway([{"name": "scripted", "kind": "llamacpp", "url": scripted_server.url}])


@pytest.fixture(scope="session")
def over_scripted_ollama(start_lasting_gateway: StartGateway, scripted_server: ScriptedUpstream) -> Gateway:
    return start_lasting_gateway([{"name": "scripted", "kind": "ollama", "url": scripted_server.url}])


@pytest.fixture(scope="session")
def over_scripted_openai(start_lasting_gateway: StartGateway, scripted_server: ScriptedUpstream) -> Gateway:
    """Its chat, which knows the administrators, is scripted too."""
    node = {"name": "scripted", "kind": "openai", "url": scripted_server.url}
    return start_lasting_gateway([node], chat_url=scripted_server.url)
