"""What clients see when an engine node misbehaves, byte for byte from a scripted upstream."""

import http.client
import json
import re
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ollama
import openai
import pytest

from .processes import Gateway, StartGateway, free_port, wait_for
from .scripted import ScriptedUpstream, chunk, event, response, stream_head

QUESTION = [{"role": "user", "content": "hello"}]
CHAT = {"model": "m", "messages": QUESTION}
STREAM = {**CHAT, "stream": True}


@pytest.fixture
def gateway(over_scripted_openai: Gateway) -> Gateway:
    """Over a node that speaks OpenAI's API."""
    return over_scripted_openai


def said(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])


STOP = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
DONE = b"data: [DONE]\n\n"


def lines_of(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.splitlines()]


def test_a_stream_that_is_cut_in_mid_event_ends_with_an_error_event(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    upstream.answers["/v1/chat/completions"] = [stream_head(), chunk(said("one")), chunk(said("two")[:20])]
    _, _, body = gateway.ask("POST", "/v1/chat/completions", STREAM)
    assert body.startswith(said("one"))
    assert b"two" not in body
    error = json.loads(body.removeprefix(said("one")).strip().removeprefix(b"data: "))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client,
        pytest.raises(openai.APIError, match="stopped in the middle"),
    ):
        list(client.chat.completions.create(model="m", messages=QUESTION, stream=True))


def test_a_stream_that_ends_without_done_counts_as_cut(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = [stream_head(), chunk(said("one")), chunk(b"")]
    _, _, body = gateway.ask("POST", "/v1/chat/completions", STREAM)
    assert b'"error"' in body


def test_a_whole_stream_is_relayed_byte_for_byte(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    whole = said("grüße ") + said("水") + STOP + DONE
    pieces: list[bytes] = [chunk(whole[at : at + 7]) for at in range(0, len(whole), 7)]
    upstream.answers["/v1/chat/completions"] = [stream_head(), *pieces, chunk(b"")]
    status, headers, body = gateway.ask("POST", "/v1/chat/completions", STREAM)
    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert body == whole


def test_events_that_end_in_carriage_returns_are_not_held_back(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    release = threading.Event()
    first = said("one").replace(b"\n", b"\r\n")
    upstream.answers["/v1/chat/completions"] = [stream_head(), chunk(first), release, chunk(DONE), chunk(b"")]
    with _Stream(gateway, "/v1/chat/completions", STREAM) as stream:
        assert stream.read(len(first)) == first
        release.set()
        assert stream.read_all() == DONE


def test_a_cut_translated_stream_ends_with_an_error_line(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = [stream_head(), chunk(said("one")), chunk(said("two")[:20])]
    _, _, body = gateway.ask("POST", "/ollama/api/chat", CHAT)
    first, last = lines_of(body)
    assert first["message"]["content"] == "one"
    assert "stopped in the middle" in last["error"]
    with (
        ollama.Client(f"{gateway.url}/ollama", headers={"Authorization": f"Bearer {gateway.key}"}) as client,
        pytest.raises(ollama.ResponseError, match="stopped in the middle"),
    ):
        list(client.chat("m", QUESTION, stream=True))


def test_a_cut_ollama_stream_ends_with_an_error_line(over_scripted_ollama: Gateway, upstream: ScriptedUpstream) -> None:
    line = b'{"message":{"content":"one"},"done":false}\n'
    upstream.answers["/api/chat"] = [stream_head("application/x-ndjson"), chunk(line), chunk(line[:9])]
    _, _, body = over_scripted_ollama.ask("POST", "/ollama/api/chat", CHAT)
    assert body.startswith(line)
    assert "stopped in the middle" in lines_of(body)[1]["error"]
    assert len(lines_of(body)) == 2


def test_characters_that_are_split_over_chunks_are_put_together(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    whole = (
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "水と火"}}]}, ensure_ascii=False).encode()
    )
    whole += b"\n\n" + STOP + DONE
    pieces: list[bytes] = [chunk(whole[at : at + 1]) for at in range(len(whole))]
    upstream.answers["/v1/chat/completions"] = [stream_head(), *pieces, chunk(b"")]
    _, _, body = gateway.ask("POST", "/ollama/api/chat", CHAT)
    assert [line["message"]["content"] for line in lines_of(body)] == ["水と火", ""]


def test_an_error_inside_the_stream_becomes_an_error_line(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    failed = event(error={"message": "out of memory", "code": 500})
    upstream.answers["/v1/chat/completions"] = [stream_head(), chunk(said("a")), chunk(failed), chunk(b"")]
    _, _, body = gateway.ask("POST", "/ollama/api/chat", CHAT)
    assert lines_of(body)[1] == {"error": "out of memory"}


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", STREAM), ("/ollama/api/chat", CHAT)])
@pytest.mark.parametrize("status", [400, 429, 500])
def test_an_error_of_the_node_keeps_its_status_and_message(
    gateway: Gateway, upstream: ScriptedUpstream, path: str, body: Any, status: int
) -> None:
    error = json.dumps({"error": {"message": "no more", "type": "x", "code": "y"}}).encode()
    upstream.answers["/v1/chat/completions"] = [response(status, error, more="retry-after: 7\r\n")]
    got, headers, answer = gateway.ask("POST", path, body)
    error_said = json.loads(answer)["error"]
    assert (got, headers["retry-after"]) == (status, "7")
    assert (error_said if path.startswith("/ollama") else error_said["message"]) == "no more"


@pytest.mark.parametrize("kind", ["openai", "llamacpp", "ollama"])
def test_a_node_of_any_kind_is_given_its_key_and_not_the_clients(
    start_gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "key").write_text("sk-of-the-node\n")
    node = {"name": "only", "kind": kind, "url": upstream.url, "key_file": str(tmp_path / "key")}
    gateway = start_gateway([node])
    path = "/v1/chat/completions"
    upstream.answers[path] = [response(200, b'{"choices":[]}')]
    assert gateway.ask("POST", path, {"model": "m", "messages": []})[0] == 200
    # Others, who have no key for it, look at the same server.
    known = [head.split()[1] for head, _ in upstream.requests if "authorization: Bearer sk-of-the-node\r\n" in head]
    assert known.count(path) == 1
    assert ("/api/tags" if kind == "ollama" else "/v1/models") in known
    assert gateway.key not in "".join(head for head, _ in upstream.requests)
    assert "sk-of-the-node" not in gateway.log.read_text()


@pytest.mark.parametrize("shut", ["/v1/models", "/v1/chat/completions"])
def test_a_node_that_does_not_let_us_in_is_told_as_such_until_it_does(
    start_gateway: StartGateway, upstream: ScriptedUpstream, shut: str
) -> None:
    path = "/v1/chat/completions"
    upstream.answers[path] = [response(200, b'{"choices":[]}')]
    opened = upstream.answers[shut]
    upstream.answers[shut] = [response(401, b'{"error":"no"}')]
    gateway = start_gateway([{"name": "only", "kind": "llamacpp", "url": upstream.url}])

    def metric() -> bool:
        return b'node_key_refused{node="only"} 1.0' in gateway.ask("GET", "/metrics")[2]

    def chat() -> int:
        return gateway.ask("POST", path, {"model": "m", "messages": []})[0]

    assert chat() in (502, 503)
    assert metric()
    said = "engine node 'only' wants a key, and the gateway has none for it"
    assert f"node only does not let the gateway in: {said}" in gateway.log.read_text()
    assert json.loads(gateway.ask("GET", "/internal/nodes")[2])[0]["problem"] == said
    upstream.answers[shut] = opened
    wait_for(lambda: chat() == 200, "the node to let us in")
    assert not metric()
    assert "node only lets the gateway in again" in gateway.log.read_text()


def test_a_node_that_refuses_our_key_is_no_fault_of_the_client(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = [response(401, b"{}")]
    status, headers, _ = gateway.ask("POST", "/v1/chat/completions", CHAT)
    assert status == 502
    assert "www-authenticate" not in headers


@pytest.mark.parametrize("garbage", [b"<html>", b"[]", b"{}", b'{"choices":[]}'])
def test_garbage_instead_of_an_answer_is_502(gateway: Gateway, upstream: ScriptedUpstream, garbage: bytes) -> None:
    upstream.answers["/v1/chat/completions"] = [response(200, garbage)]
    assert gateway.ask("POST", "/ollama/api/chat", {**CHAT, "stream": False})[0] == 502


def test_a_node_that_hangs_up_without_an_answer_is_503(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = []
    before = _failures(gateway)
    status, _, body = gateway.ask("POST", "/v1/chat/completions", CHAT)
    assert status == 503
    assert "scripted" in json.loads(body)["error"]["message"]
    assert _failures(gateway) == before + 1


def _failures(gateway: Gateway) -> float:
    text = gateway.ask("GET", "/metrics")[2].decode()
    found = re.search(r'upstream_errors_total\{node="scripted"\} (\S+)', text)
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/ollama/api/chat"])
def test_a_client_that_goes_away_stops_the_engine(
    gateway: Gateway, upstream: ScriptedUpstream, path: str, stream: bool
) -> None:
    never = threading.Event()
    line = f"POST {path} 499"
    before = gateway.log.read_text().count(line)
    begun: list[Any] = [stream_head(), chunk(said("one"))] if stream else []
    upstream.answers["/v1/chat/completions"] = [*begun, never]
    with _Stream(gateway, path, {**CHAT, "stream": stream}, wait=stream):
        wait_for(lambda: any("/v1/chat/completions" in head for head, _ in upstream.requests), "the request")
    assert upstream.gone.wait(10)
    wait_for(lambda: gateway.log.read_text().count(line) > before, "the log to say that the client went")


def test_a_dead_node_is_503_and_does_not_hinder_the_other(
    start_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    dead = {"name": "dead", "kind": "llamacpp", "url": f"http://127.0.0.1:{free_port()}"}
    alone = start_gateway([dead])
    assert alone.ask("GET", "/health", headers={})[0] == 503
    assert alone.ask("GET", "/health/live", headers={})[0] == 200
    status, headers, body = alone.ask("POST", "/v1/chat/completions", CHAT)
    assert (status, headers["retry-after"]) == (503, "5")
    assert "dead" in json.loads(body)["error"]["message"]
    both = start_gateway([dead, {"name": "scripted", "kind": "openai", "url": upstream.url}])
    upstream.answers["/v1/chat/completions"] = [response(200, b'{"choices":[]}')]
    assert both.ask("POST", "/v1/chat/completions", CHAT)[0] == 200
    assert both.ask("GET", "/health", headers={})[:1] == (200,)
    metrics = both.ask("GET", "/metrics")[2]
    assert b'aistack_gateway_node_up{node="dead"} 0.0' in metrics
    assert b'aistack_gateway_node_up{node="scripted"} 1.0' in metrics


def test_a_node_that_comes_back_is_found(start_gateway: StartGateway) -> None:
    with ScriptedUpstream() as late:
        gateway = start_gateway([{"name": "late", "kind": "ollama", "url": late.url}])
        assert gateway.ask("GET", "/health")[0] == 503
        tags = b'{"models":[{"name":"m:latest","model":"m:latest"}]}'
        late.answers["/api/tags"] = [response(200, tags)]
        thread = threading.Thread(target=late.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            wait_for(lambda: gateway.ask("GET", "/health")[0] == 200, "the node to be found")
        finally:
            late.shutdown()
            thread.join()


class _Stream:
    """One raw request whose answer is read as far as wanted; leaving the block hangs up."""

    def __init__(self, gateway: Gateway, path: str, body: Any, *, wait: bool = True) -> None:
        address = urlsplit(gateway.url)
        assert address.hostname is not None
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=30)
        headers = {"Authorization": f"Bearer {gateway.key}"}
        self._connection.request("POST", path, json.dumps(body), headers)
        self._response = self._connection.getresponse() if wait else None

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()

    def read(self, size: int) -> bytes:
        assert self._response is not None
        return self._response.read(size)

    def read_all(self) -> bytes:
        assert self._response is not None
        return self._response.read()
