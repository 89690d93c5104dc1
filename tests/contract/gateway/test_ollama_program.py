"""The gateway over an Ollama that runs: official clients unmodified; each Ollama that is there passes the same."""

import hashlib
import json
import math
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from aistack.models.demo import write_demo
from ollamas import PROGRAMS, Ollama, serving

from .processes import Gateway, StartGateway, wait_for
from .test_ollama_node import ADMIN
from .tiny_model import EMBEDDING_WIDTH, write_tiny_embed

QUESTION: Any = [{"role": "user", "content": "what does the farmer do"}]


@pytest.fixture(scope="module", params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def engine(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    with serving(program, tmp_path_factory.mktemp("ollama")) as started:
        yield started


@pytest.fixture(scope="module")
def gateway(engine: Ollama, start_lasting_gateway: StartGateway, folder: Path) -> Gateway:
    """A gateway whose administrator has made the models `demo` and `tiny-embed` through it."""
    made = start_lasting_gateway([{"name": "local", "kind": "ollama", "url": engine.url}])
    for name, write in (("demo", write_demo), ("tiny-embed", write_tiny_embed)):
        file = folder / f"{name}-for-ollama.gguf"
        write(file)
        _create(made, name, file.read_bytes())
    return made


def _create(gateway: Gateway, name: str, content: bytes) -> None:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if gateway.ask("HEAD", f"/ollama/api/blobs/{digest}", headers=ADMIN)[0] != 200:
        assert gateway.ask("POST", f"/ollama/api/blobs/{digest}", content, ADMIN)[0] == 201
    status, _, body = gateway.ask("POST", "/ollama/api/create", {"model": name, "files": {"m.gguf": digest}}, ADMIN)
    assert (status, json.loads(body.splitlines()[-1])) == (200, {"status": "success"})


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    with ollama.Client(f"{gateway.url}/ollama", headers={"Authorization": f"Bearer {gateway.key}"}) as made:
        yield made


@pytest.fixture
def openai_client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def test_its_models_are_listed_and_shown(client: ollama.Client, openai_client: openai.OpenAI) -> None:
    found = {model.model: model for model in client.list().models}
    assert set(found) == {"demo:latest", "tiny-embed:latest"}
    assert (found["demo:latest"].size or 0) > 100_000
    assert {model.id for model in openai_client.models.list()} == set(found)
    assert client.show("demo").capabilities == ["completion"]
    assert client.show("tiny-embed").capabilities == ["embedding"]


def test_it_chats_in_one_piece_and_in_many(client: ollama.Client) -> None:
    whole = client.chat("demo", QUESTION, options={"num_predict": 6})
    assert whole.message.content
    assert (whole.done_reason, whole.eval_count) == ("length", 6)
    assert (whole.prompt_eval_count or 0) > 0
    pieces = list(client.chat("demo", QUESTION, options={"num_predict": 6}, stream=True))
    assert len(pieces) > 3
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == 6


def test_it_completes_a_bare_prompt(client: ollama.Client) -> None:
    assert client.generate("demo", "The harbor", options={"num_predict": 4}).response


def test_it_chats_with_the_client_of_openai(openai_client: openai.OpenAI) -> None:
    whole = openai_client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=6)
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 6
    stream = openai_client.chat.completions.create(
        model="demo", messages=QUESTION, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


def test_it_embeds_the_same_for_both_clients(client: ollama.Client, openai_client: openai.OpenAI) -> None:
    texts = ["the sea", "the harbor"]
    ours = [list(vector) for vector in client.embed("tiny-embed", texts).embeddings]
    theirs = [item.embedding for item in openai_client.embeddings.create(model="tiny-embed", input=texts).data]
    assert [len(vector) for vector in ours] == [EMBEDDING_WIDTH] * 2
    assert math.hypot(*ours[0]) == pytest.approx(1, abs=1e-3)
    for one, other in zip(ours, theirs, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert len(client.embeddings("tiny-embed", texts[0]).embedding) == EMBEDDING_WIDTH


def test_a_model_is_loaded_and_unloaded_without_a_prompt(client: ollama.Client) -> None:
    assert client.generate("demo").done_reason == "load"
    assert "demo:latest" in {model.model for model in client.ps().models}
    assert client.generate("demo", keep_alive=0).done_reason == "unload"
    wait_for(lambda: "demo:latest" not in {model.model for model in client.ps().models}, "the model to go")


def test_what_it_refuses_reaches_the_client(client: ollama.Client, openai_client: openai.OpenAI) -> None:
    with pytest.raises(ollama.ResponseError, match="does not support chat") as refused:
        client.chat("tiny-embed", QUESTION)
    assert refused.value.status_code == 400
    with pytest.raises(openai.BadRequestError, match="does not support chat"):
        openai_client.chat.completions.create(model="tiny-embed", messages=QUESTION)
    with pytest.raises(ollama.ResponseError, match="not found") as unknown:
        client.show("nobody")
    assert unknown.value.status_code == 404


def test_an_administrator_sees_a_pull_fail_and_removes_a_model(gateway: Gateway, client: ollama.Client) -> None:
    wish = {"model": "127.0.0.1:9/library/tiny", "insecure": True}
    status, _, body = gateway.ask("POST", "/ollama/api/pull", wish, ADMIN)
    lines = [json.loads(line) for line in body.splitlines()]
    assert (status, lines[0]) == (200, {"status": "pulling manifest"})
    assert "refused" in lines[-1]["error"]
    file = gateway.log.parent / "short-lived.gguf"
    write_demo(file)
    _create(gateway, "short-lived", file.read_bytes())
    wait_for(lambda: "short-lived:latest" in {model.model for model in client.list().models}, "the new model")
    assert gateway.ask("DELETE", "/ollama/api/delete", {"model": "short-lived"}, ADMIN)[0] == 200
    assert gateway.ask("DELETE", "/ollama/api/delete", {"model": "short-lived"}, ADMIN)[0] == 404
    wait_for(lambda: "short-lived:latest" not in {model.model for model in client.list().models}, "it to go")


def test_it_answers_no_host_name_that_it_does_not_know(engine: Ollama) -> None:
    strange = urllib.request.Request(f"{engine.url}/api/tags", headers={"Host": "ai.example"})
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(strange, timeout=10)
    refused.value.close()


def test_it_tells_its_version_whether_it_serves_or_not(program: str, engine: Ollama) -> None:
    with urllib.request.urlopen(f"{engine.url}/api/version", timeout=10) as answer:
        version = json.load(answer)["version"]
    told = [
        subprocess.run(
            [program, "--version"], env={**engine.environment, "OLLAMA_HOST": host}, capture_output=True, text=True,
            check=True,
        ).stdout.splitlines()
        for host in (engine.environment["OLLAMA_HOST"], "127.0.0.1:9")
    ]  # fmt: skip
    assert told[0] == [f"ollama version is {version}"]
    assert told[1] == ["Warning: could not connect to a running Ollama instance",
                       f"Warning: client version is {version}"]  # fmt: skip


def test_a_model_is_a_process_of_its_own_that_ends_with_it(program: str, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    write_demo(file)
    with serving(program, tmp_path) as started, ollama.Client(started.url) as client:
        client.create("m", files={"m.gguf": client.create_blob(file)})
        client.generate("m", "the sea", options={"num_predict": 1})
        assert len(_group(started.process.pid)) > 1
        started.end()
        wait_for(lambda: not _group(started.process.pid), "the model's process to end", seconds=10)


def _group(leader: int) -> set[str]:
    """The live processes of a process group, by their pids."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "stat").exists():
            try:
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == leader and state not in "ZX":
                found.add(entry.name)
    return found
