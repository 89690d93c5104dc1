"""A stack whose engine is Ollama: the stand-in always, a real one too where `ollama` is on PATH."""

import json
import os
import shutil
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from stacks import RealStack, make_stack
from test_clients import ollama_client, openai_client

from aistack.models.demo import write_demo
from aistack.runtimes.programs import SYSTEM_PATH
from contract.gateway.tiny_model import EMBEDDING_WIDTH, write_tiny_embed
from hubs import Hubs, serve_hubs
from ollamas import INSTALLED, PROGRAMS, STAND_IN, serving

# Without a full stop: after one, the demo model may well have nothing more to say.
QUESTION = [{"role": "user", "content": "tell me about the sea"}]


@pytest.fixture(scope="module")
def hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hubs]:
    """A registry with `tiny`, which chats, and `tiny-embed`."""
    folder = tmp_path_factory.mktemp("models")
    write_demo(folder / "tiny")
    write_tiny_embed(folder / "tiny-embed")
    with serve_hubs() as served:
        served.moves_blobs = True
        for file in folder.iterdir():
            served.add_registry_model(file.name, file.read_bytes())
        yield served


@pytest.fixture(scope="module", params=PROGRAMS)
def stack(request: pytest.FixtureRequest, hubs: Hubs) -> Iterator[RealStack]:
    """A stack that is up, with what the first `up` told in `first-up`."""
    if request.param == STAND_IN and shutil.which("ollama", path=SYSTEM_PATH):
        pytest.skip("the machine's own ollama goes before the stand-in")
    made = make_stack(
        engine__kind="ollama", engine__keep_alive="1d",
        models__chat=f"{hubs.host}/library/tiny", models__embedding=f"{hubs.host}/library/tiny-embed",
    )  # fmt: skip
    made.programs = Path(request.param).parent
    try:
        done = made.run("up", "--yes", timeout=1500)
        (made.home / "first-up").write_text(done.stdout + done.stderr)
        yield made
    finally:
        made.end()
        shutil.rmtree(made.home, ignore_errors=True)


@pytest.fixture
def trust(stack: RealStack) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=stack.ca)


@pytest.fixture(scope="module")
def key(stack: RealStack) -> str:
    return stack.key("ollama")


def _eventually(holds: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


def _models(stack: RealStack) -> set[str]:
    return {item["name"] for item in json.loads(stack.run("models", "ls", "--json").stdout)}


def test_up_has_ollama_fetch_both_models_and_tells_how_far(stack: RealStack, hubs: Hubs) -> None:
    told = (stack.home / "first-up").read_text()
    for name in ("tiny", "tiny-embed"):
        assert f"{hubs.host}/library/{name}: downloading" in told
    assert "was not fetched" not in told
    assert _models(stack) == {f"{hubs.host}/library/tiny", f"{hubs.host}/library/tiny-embed"}
    assert time.strftime("%Y-") in stack.run("models", "ls").stdout


def test_a_second_up_changes_and_fetches_nothing(stack: RealStack, hubs: Hubs) -> None:
    pids, asked = {name: item["pid"] for name, item in stack.status().items()}, len(hubs.requests)
    assert not any(json.loads(stack.run("diff", "--json").stdout).values())
    assert "nothing had to change" in stack.run("up", "--yes").stdout
    assert {name: item["pid"] for name, item in stack.status().items()} == pids
    assert len(hubs.requests) == asked


def test_everything_is_well(stack: RealStack) -> None:
    found = stack.status()
    assert all(item["healthy"] for item in found.values())
    assert found["engine"]["title"] == "Engine (Ollama)"
    findings = json.loads(stack.run("doctor", "--json", status=None).stdout)
    problems = [one for one in findings if one["severity"] == "problem" and one["check"] in ("ports", "services")]
    assert problems == []
    programs = [one["message"] for one in findings if one["check"] == "programs"]
    assert any(message.startswith("ollama") and "." in message for message in programs)


def test_the_official_clients_chat_and_embed(stack: RealStack, hubs: Hubs, trust: ssl.SSLContext, key: str) -> None:
    chat, embedding = f"{hubs.host}/library/tiny:latest", f"{hubs.host}/library/tiny-embed:latest"
    with ollama_client(stack, trust, f"Bearer {key}") as client:
        pieces = list(client.chat(chat, QUESTION, options={"num_predict": 8}, stream=True))
        assert len(pieces) > 4
        assert "".join(piece.message.content or "" for piece in pieces).strip()
        assert pieces[-1].eval_count == 8
        vector = client.embed(embedding, "the sea").embeddings[0]
        assert len(vector) == EMBEDDING_WIDTH
    with openai_client(stack, trust, key) as other:
        answer = other.chat.completions.create(model=chat, messages=QUESTION, max_tokens=8)
        assert answer.choices[0].message.content
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 8
        (row,) = other.embeddings.create(model=embedding, input="the sea").data
        assert row.embedding == pytest.approx(list(vector), abs=1e-4)


def test_the_chat_embeds_documents_with_it(stack: RealStack, trust: ssl.SSLContext) -> None:
    with httpx2.Client(base_url=stack.url, verify=trust, timeout=60) as client:
        who = {"email": "admin@localhost", "password": stack.password}
        token = client.post("/api/v1/auths/signin", json=who).raise_for_status().json()["token"]
        client.headers["Authorization"] = f"Bearer {token}"
        text = {"name": "tides", "content": "The tide comes twice a day.", "collection_name": "tides"}
        assert client.post("/api/v1/retrieval/process/text", json=text).raise_for_status().json()["status"]
        wish = {"collection_name": "tides", "query": "How often does the tide come?", "k": 1}
        found = client.post("/api/v1/retrieval/query/doc", json=wish).raise_for_status().json()
    assert found["documents"] == [["The tide comes twice a day."]]


def test_a_model_is_pulled_and_removed_by_hand(
    stack: RealStack, hubs: Hubs, trust: ssl.SSLContext, key: str, tmp_path: Path
) -> None:
    write_demo(tmp_path / "other.gguf")
    hubs.add_registry_model("other", (tmp_path / "other.gguf").read_bytes())
    name = f"{hubs.host}/library/other"
    done = stack.run("models", "pull", name)
    assert f"{name} is here" in done.stdout
    assert name in _models(stack)
    with openai_client(stack, trust, key) as client:
        _eventually(lambda: f"{name}:latest" in {model.id for model in client.models.list()}, "the new model")
        stack.run("models", "rm", name)
        assert name not in _models(stack)
        _eventually(lambda: f"{name}:latest" not in {model.id for model in client.models.list()}, "it to go")
    assert "not found" in stack.run("models", "rm", name, status=1).stderr
    assert "does not exist" in stack.run("models", "pull", f"{hubs.host}/library/nobody", status=1).stderr
    refused = stack.run("models", "import", str(tmp_path / "other.gguf"), status=1).stderr
    assert f"OLLAMA_HOST=127.0.0.1:{stack.settings['engine.port']} ollama create" in refused


def test_an_ollama_that_is_killed_comes_back_and_leaves_no_model_running(
    stack: RealStack, hubs: Hubs, trust: ssl.SSLContext, key: str
) -> None:
    with ollama_client(stack, trust, f"Bearer {key}") as client:
        chat = f"{hubs.host}/library/tiny:latest"
        client.generate(chat, "the sea", options={"num_predict": 1})
        loaded = {pid for pid, command in stack.processes().items() if " runner" in command}
        assert loaded
        pid = stack.status()["engine"]["pid"]
        os.kill(pid, signal.SIGKILL)
        _eventually(lambda: stack.status()["engine"]["pid"] not in (0, pid), "another Ollama")
        _eventually(lambda: all(item["healthy"] for item in stack.status().values()), "all to be well")
        assert not loaded & stack.processes().keys()
        _eventually(lambda: chat in {model.model for model in client.list().models}, "the gateway to see it")
        assert client.generate(chat, "the sea", options={"num_predict": 1}).response
    assert not any(json.loads(stack.run("diff", "--json").stdout).values())


def test_a_registry_that_cannot_be_reached_stops_nothing_and_is_not_asked_by_every_up(
    stack: RealStack, hubs: Hubs
) -> None:
    log, missing = stack.home / "data" / "logs" / "engine.log", "127.0.0.1:9/library/tiny"
    stack.settings["models.chat"] = missing
    stack.write()
    try:
        told = stack.run("up", "--yes").stderr
        assert f"{missing} was not fetched" in told
        assert f"`aistack models pull {missing}`" in told
        pulls = log.read_text(errors="replace").count("/api/pull")
        again = stack.run("up", "--yes")
        assert f"{missing} was not fetched" in again.stderr
        assert "nothing had to change" in again.stdout
        assert log.read_text(errors="replace").count("/api/pull") == pulls > 0
        assert "Ollama cannot fetch" in stack.run("models", "pull", missing, status=1).stderr
    finally:
        stack.settings["models.chat"] = f"{hubs.host}/library/tiny"
        stack.write()


def test_the_built_in_engine_takes_over_and_down_leaves_nothing(
    stack: RealStack, trust: ssl.SSLContext, key: str
) -> None:
    stack.settings |= {"engine.kind": "llamacpp", "models.chat": "demo", "models.embedding": "all-minilm"}
    stack.write()
    steps = {change["service"]: change["step"] for change in json.loads(stack.run("diff", "--json").stdout)["changes"]}
    assert steps["engine"] == "restart"
    stack.run("up", "--yes")
    assert not [command for command in stack.processes().values() if command.endswith((" serve ", " runner "))]
    assert _models(stack) == {"demo", "all-minilm"}
    with openai_client(stack, trust, key) as client:
        assert {model.id for model in client.models.list()} == {"demo", "all-minilm"}
    stack.settings["engine.kind"] = "ollama"
    stack.write()
    assert "was not fetched" in stack.run("up", "--yes").stderr
    stack.run("down")
    assert stack.processes() == {}


@pytest.mark.skipif(INSTALLED is not None, reason="an ollama is on PATH")
def test_without_the_program_nothing_is_touched(own_stack: RealStack) -> None:
    own_stack.settings["engine.kind"] = "ollama"
    own_stack.write()
    before = sorted(own_stack.home.rglob("*"))
    told = own_stack.run("up", "--yes", status=1).stderr
    assert "ollama, which is not installed" in told
    assert 'engine.kind = "llamacpp"' in told
    assert "engine: ollama is not installed" in own_stack.run("diff").stdout
    assert [path.name for path in sorted(own_stack.home.rglob("*")) if path not in before] == [
        "data", "run", "change.lock",
    ]  # fmt: skip
    assert own_stack.processes() == {}


def test_an_ollama_of_somebody_else_keeps_its_port(own_stack: RealStack, tmp_path: Path) -> None:
    own_stack.programs = Path(STAND_IN).parent
    with serving(STAND_IN, tmp_path) as other:
        port = int(other.url.rpartition(":")[2])
        own_stack.settings |= {"engine.kind": "ollama", "engine.port": port}
        own_stack.write()
        told = own_stack.run("up", "--yes", status=1).stderr
        assert f"port {port}, which Engine (Ollama) should listen on, is taken by" in told
        assert f"pid {other.process.pid}" in told
        assert "another port in stack.toml" in told
        assert other.process.poll() is None
    assert own_stack.processes() == {}
