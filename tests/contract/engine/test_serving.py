"""What the engine serves: llama.cpp's answers as they are, and what it says about its models."""

import json
import socket
from pathlib import Path

import httpx
import openai
import pytest

from aistack.models.demo import write_demo

from .conftest import Engine, Starter, until


def test_chat_is_answered_in_openais_shape_under_the_models_name(engine: Engine) -> None:
    body = {"model": "demo:latest", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    answer = engine.post("/v1/chat/completions", body).json()
    assert answer["model"] == "demo"
    assert answer["choices"][0]["message"]["content"].strip()
    assert answer["usage"]["completion_tokens"] == 5


def test_the_official_client_streams_and_gets_usage(engine: Engine) -> None:
    with openai.OpenAI(base_url=f"{engine.url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "hi"}], max_tokens=7, stream=True,
            stream_options={"include_usage": True}, extra_body={"ignore_eos": True},
        )  # fmt: skip
        chunks = list(stream)
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said.strip()
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 7


def test_a_streamed_response_is_llamacpps_bytes_and_the_connection_serves_another(engine: Engine) -> None:
    body = json.dumps({"model": "demo", "prompt": "a", "max_tokens": 3, "stream": True}).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", engine.port), timeout=20) as client:
        for _ in range(3):
            client.sendall(request)
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                answer += client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"Connection: keep-alive" in answer
            assert answer.count(b"data: [DONE]") == 1


def test_errors_of_llamacpp_pass_as_they_are(engine: Engine) -> None:
    answer = engine.post("/v1/chat/completions", {"model": "demo", "messages": "not a list"})
    assert answer.status_code in (400, 500)
    assert answer.json()["error"]["message"]


def test_models_are_told_with_what_their_files_say(engine: Engine) -> None:
    [item] = engine.get("/v1/models").json()["data"]
    assert (item["id"], item["object"], item["owned_by"]) == ("demo", "model", "aistack")
    meta = item["meta"]
    assert (meta["kind"], meta["architecture"], meta["capabilities"]) == ("chat", "llama", ["completion"])
    one = engine.get("/engine/models/demo:latest").json()
    assert "messages" in one["meta"]["template"]
    assert one["meta"]["parameters"]["num_ctx"] == 512


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/completions", {"prompt": "x"}, 400),
        ("/v1/completions", {"model": 7}, 400),
        ("/v1/completions", {"model": "nobody"}, 404),
        ("/v1/completions", {"model": "../../etc/passwd"}, 404),
        ("/v1/completions", {"model": "x" * 5000}, 404),
        ("/v1/completions", {"model": "demo", "keep_alive": "soon"}, 400),
        ("/v1/embeddings", {"model": "demo", "input": "x"}, 400),
        ("/v1/rerank", {"model": "demo", "query": "x", "documents": ["y"]}, 400),
        ("/engine/unload", {"model": "nobody"}, 404),
        ("/slots/0", {"model": "demo"}, 404),
        ("/props", {"model": "demo"}, 404),
    ],
)
def test_what_cannot_be_served_is_refused_in_openais_shape(
    engine: Engine, path: str, body: dict[str, object], status: int
) -> None:
    answer = engine.post(path, body)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["message"]
    assert error["type"].endswith("_error")
    assert error["code"] == status


def test_tokens_and_templates_are_llamacpps(engine: Engine) -> None:
    assert engine.post("/tokenize", {"model": "demo", "content": "a cat"}).json()["tokens"]
    body = {"model": "demo", "messages": [{"role": "user", "content": "q"}]}
    assert "<|user|>q" in engine.post("/apply-template", body).json()["prompt"]


def test_metrics_are_the_engines_and_each_models_llamacpps(engine: Engine) -> None:
    engine.complete()
    text = engine.get("/metrics").text
    assert 'aistack_engine_requests_total{model="demo",path="/v1/completions",status="200"}' in text
    assert "aistack_engine_loaded_models 1.0" in text
    assert 'llamacpp:tokens_predicted_total{model="demo"}' in text
    assert text.count("# TYPE llamacpp:tokens_predicted_total counter") == 1


def test_health_needs_no_model(start: Starter) -> None:
    started = start()
    (started.models / "demo.gguf").unlink()
    assert started.get("/health").json() == {"status": "ok"}
    assert started.get("/v1/models").json()["data"] == []


def test_a_model_dropped_in_serves_and_a_removed_one_is_gone_without_a_restart(start: Starter, tmp_path: Path) -> None:
    started = start()
    write_demo(tmp_path / "new.gguf")
    (tmp_path / "new.gguf").rename(started.models / "new.gguf")
    assert started.complete("new").status_code == 200
    (started.models / "new.gguf").unlink()
    assert started.complete("new").status_code == 404
    until(lambda: "new" not in started.loaded())


def test_sixteen_clients_at_once_all_get_their_whole_stream(engine: Engine) -> None:
    from concurrent.futures import ThreadPoolExecutor

    body = {"model": "demo", "prompt": "x", "max_tokens": 50, "stream": True, "ignore_eos": True}

    def tokens(_: int) -> int:
        with httpx.stream("POST", f"{engine.url}/v1/completions", json=body, timeout=60) as answer:
            lines = [line for line in answer.iter_lines() if line.startswith("data: {")]
        return int(json.loads(lines[-1][6:])["usage"]["completion_tokens"])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(tokens, range(16))) == [50] * 16
