"""What we ask of Ollama to have models fetched, listed and removed; each Ollama that is there passes the same."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from aistack.errors import ModelError, ServiceError
from aistack.models.errors import HubUnreachable
from aistack.models.ollama import OllamaServer
from aistack.models.progress import Progress
from hubs import Hubs
from ollamas import PROGRAMS, serving


@pytest.fixture(params=PROGRAMS)
def ollama(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OllamaServer]:
    with serving(request.param, tmp_path) as started:
        yield OllamaServer(started.url)


def test_a_model_is_pulled_with_progress_listed_and_removed(
    ollama: OllamaServer, hubs: Hubs, gguf_bytes: bytes
) -> None:
    assert ollama.list() == ()
    hubs.moves_blobs = True
    path = hubs.add_registry_model("tiny", gguf_bytes)
    name, told, before = f"{hubs.host}/library/tiny", list[Progress](), time.time()
    ollama.pull(name, told.append)
    assert {progress.model for progress in told} == {name}
    assert told[0] == Progress(name, "looking", 0, 0)
    assert told[-1].step == "installing"
    moving = [progress.done for progress in told if progress.step == "downloading"]
    assert moving == sorted(moving)
    assert moving[-1] == told[-1].total > len(gguf_bytes)
    (model,) = ollama.list()
    assert model.name == name
    assert model.size >= len(gguf_bytes)
    assert len(model.digest) == 64
    assert before - 2 < model.modified_at < time.time() + 2
    asked = len(hubs.asked(path))
    ollama.pull(name + ":latest")
    assert len(hubs.asked(path)) == asked
    ollama.remove(name)
    assert ollama.list() == ()


def test_a_registry_that_says_no_is_told_from_one_that_is_not_there(ollama: OllamaServer, hubs: Hubs) -> None:
    with pytest.raises(ModelError, match="does not exist") as unknown:
        ollama.pull(f"{hubs.host}/library/unknown")
    assert not isinstance(unknown.value, HubUnreachable)
    with pytest.raises(HubUnreachable, match="refused") as nobody:
        ollama.pull("127.0.0.1:9/library/tiny")
    assert nobody.value.hint


@pytest.mark.parametrize("name", ["a b", "x/y/z/w", "-"])
def test_what_is_no_name_is_refused(ollama: OllamaServer, name: str) -> None:
    with pytest.raises(ModelError, match="name"):
        ollama.pull(name)


def test_removing_what_is_not_there_says_so(ollama: OllamaServer) -> None:
    with pytest.raises(ModelError, match="not found"):
        ollama.remove("no-such-model-here")


def test_an_ollama_that_is_not_there_is_a_service_that_does_not_answer() -> None:
    nobody = OllamaServer("http://127.0.0.1:9", connect_s=2)
    with pytest.raises(ServiceError, match="does not answer"):
        nobody.list()
    with pytest.raises(ServiceError, match="does not answer"):
        nobody.pull("qwen3")


# How a pull ends that no Ollama can be brought to here; in the words of its source.
ENDS: dict[str, dict[str, str]] = {
    "offline": {
        "error": 'pull model manifest: Get "https://registry.ollama.ai/v2/": dial tcp: lookup '
        "registry.ollama.ai: no such host"
    },
    "full": {"error": "write /root/.ollama/models/blobs/sha256-aa-partial: no space left on device"},
    "cut": {"status": "pulling manifest"},
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        body = b'{"status": "pulling manifest"}\n' + json.dumps(ENDS[name]).encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def scripted() -> Iterator[OllamaServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield OllamaServer(f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(("name", "unreachable"), [("full", False), ("offline", True), ("cut", True)])
def test_why_a_pull_failed_is_told(scripted: OllamaServer, name: str, unreachable: bool) -> None:
    with pytest.raises(ModelError) as caught:
        scripted.pull(name)
    assert isinstance(caught.value, HubUnreachable) is unreachable
    assert caught.value.hint
