"""What we ask of Ollama; the same runs against a real one where AISTACK_TEST_OLLAMA names its address."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from aistack.errors import ModelError, ServiceError
from aistack.models.errors import HubUnreachable
from aistack.models.ollama import OllamaServer
from aistack.models.progress import Progress

PULLED = (
    {"status": "pulling manifest"},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 1000},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 1000, "completed": 600},
    {"status": "pulling aa", "digest": "sha256:aa", "total": 1000, "completed": 1000},
    {"status": "pulling bb", "digest": "sha256:bb", "total": 50, "completed": 50},
    {"status": "verifying sha256 digest"},
    {"status": "writing manifest"},
    {"status": "success"},
)
# What the pull of such a model ends in, in the words of Ollama's source.
ENDS: dict[str, dict[str, str]] = {
    "unknown": {"error": "pull model manifest: file does not exist"},
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

    def do_GET(self) -> None:
        model = {"name": "qwen3:latest", "model": "qwen3:latest", "size": 7, "digest": "ab", "details": {},
                 "modified_at": "2026-11-01T10:00:00.123456789+01:00"}  # fmt: skip
        self._answer(200, json.dumps({"models": [model]}).encode())

    def do_DELETE(self) -> None:
        name = self._body()["model"]
        if name == "qwen3":
            self._answer(200, b"")
        else:
            self._answer(404, json.dumps({"error": f"model '{name}' not found"}).encode())

    def do_POST(self) -> None:
        name = self._body()["model"]
        lines = PULLED if name == "qwen3" else (PULLED[0], ENDS[name])
        self._answer(200, b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def _body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def fake() -> Iterator[OllamaServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield OllamaServer(f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=["fake", "real"])
def ollama(request: pytest.FixtureRequest, fake: OllamaServer) -> OllamaServer:
    if request.param == "fake":
        return fake
    address = os.environ.get("AISTACK_TEST_OLLAMA")
    if not address:
        pytest.skip("AISTACK_TEST_OLLAMA names no Ollama")
    return OllamaServer(address)


def test_models_are_listed(ollama: OllamaServer) -> None:
    for model in ollama.list():
        assert model.size > 0
        assert not model.name.endswith(":latest")
        assert model.digest
        assert model.modified_at.startswith("20")


def test_removing_what_is_not_there_says_so(ollama: OllamaServer) -> None:
    with pytest.raises(ModelError, match="not found"):
        ollama.remove("no-such-model-here")


def test_what_it_has_is_read(fake: OllamaServer) -> None:
    assert [(model.name, model.size, model.digest) for model in fake.list()] == [("qwen3", 7, "ab")]
    fake.remove("qwen3")


def test_a_pull_tells_how_far_all_layers_together_are(fake: OllamaServer) -> None:
    told: list[Progress] = []
    fake.pull("qwen3", told.append)
    assert told[0] == Progress("qwen3", "looking", 0, 0)
    assert told[2] == Progress("qwen3", "downloading", 600, 1000)
    assert told[4] == Progress("qwen3", "downloading", 1050, 1050)
    assert [progress.step for progress in told[5:]] == ["verifying", "installing", "installing"]


@pytest.mark.parametrize(
    ("name", "unreachable"), [("unknown", False), ("full", False), ("offline", True), ("cut", True)]
)
def test_why_a_pull_failed_is_told(fake: OllamaServer, name: str, unreachable: bool) -> None:
    with pytest.raises(ModelError) as caught:
        fake.pull(name)
    assert isinstance(caught.value, HubUnreachable) is unreachable
    assert caught.value.hint


def test_an_ollama_that_is_not_there_is_a_service_that_does_not_answer() -> None:
    nobody = OllamaServer("http://127.0.0.1:9", connect_s=2)
    with pytest.raises(ServiceError, match="does not answer"):
        nobody.list()
    with pytest.raises(ServiceError, match="does not answer"):
        nobody.pull("qwen3")
