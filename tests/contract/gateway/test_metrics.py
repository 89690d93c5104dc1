"""The gateway's metrics say what happened: each is read from a running gateway after something that it must tell."""

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aistack.gateway.keys import KeyStore

from .processes import Gateway, StartGateway, wait_for
from .scripted import ScriptedUpstream, chunk, event, response, stream_head

PATH = "/v1/chat/completions"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
USAGE = {"prompt_tokens": 30, "completion_tokens": 11}
# So long a test's engine takes at the least where a metric must show it.
PAUSE_S = 0.2


@pytest.fixture
def gateway(start_gateway: StartGateway, upstream: ScriptedUpstream) -> Gateway:
    """One node with one slot, a line for one, and prompts that are cut refused."""
    listed = {"data": [{"id": "m", "object": "model", "max_model_len": 100}]}
    upstream.answers["/v1/models"] = [response(200, json.dumps(listed).encode())]
    upstream.answers[PATH] = [response(200, json.dumps({"choices": [], "usage": USAGE}).encode())]
    node = {"name": "only", "kind": "openai", "url": upstream.url, "slots": 1}
    return start_gateway([node], most_waiting=1, truncation="refuse")


def samples(gateway: Gateway) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(gateway.ask("GET", "/metrics")[2].decode()):
        for sample in family.samples:
            yield sample.name.removeprefix("aistack_gateway_"), sample.labels, sample.value


def told(gateway: Gateway, name: str, **labels: str) -> float:
    """The sum of a metric's values with these labels among theirs."""
    return sum(value for found, theirs, value in samples(gateway) if found == name and labels.items() <= theirs.items())


def by(gateway: Gateway, name: str, label: str) -> dict[str, float]:
    return {labels[label]: value for found, labels, value in samples(gateway) if found == name}


def key(gateway: Gateway, **terms: Any) -> dict[str, str]:
    store = KeyStore(gateway.database)
    plain, _ = store.create("-".join(terms), None, terms)
    store.close()
    headers = {"Authorization": f"Bearer {plain}"}
    wait_for(lambda: gateway.ask("GET", "/v1/models", None, headers)[0] == 200, "the key to be known")
    return headers


def test_refusals_are_told_by_the_limit_that_was_hit_and_by_every_other_reason(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    limits = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_per_month")
    keys = [key(gateway, **{limit: 1}) for limit in limits]
    embedding = key(gateway, scopes=["embed"])
    # While it does not know a new key yet, it refuses it.
    early = told(gateway, "refusals_total")
    for number, headers in enumerate(keys, 1):
        assert gateway.ask("POST", PATH, CHAT, headers)[0] == 200
        for _ in range(number):
            assert gateway.ask("POST", PATH, CHAT, headers)[0] == 429
    long = {**CHAT, "messages": [{"role": "user", "content": "word " * 300}]}
    for status, body, headers in (
        (400, long, None),
        (400, {"messages": []}, None),
        (401, CHAT, {"Authorization": "Bearer ask_wrong"}),
        (403, CHAT, embedding),
        (404, {**CHAT, "model": "x"}, None),
    ):
        assert gateway.ask("POST", PATH, body, headers)[0] == status
    upstream.answers[PATH] = [response(418, b'{"error":{"message":"no","code":"a-code-of-the-engine"}}')]
    assert gateway.ask("POST", PATH, CHAT)[0] == 418
    upstream.answers[PATH] = [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbroken"]
    assert gateway.ask("POST", PATH, CHAT)[0] == 502
    assert by(gateway, "refusals_total", "reason") == {
        "requests_per_minute": 1, "tokens_per_minute": 2, "tokens_per_day": 3, "tokens_per_month": 4,
        "context_length_exceeded": 1, "invalid_api_key": 1 + early, "insufficient_scope": 1, "model_not_found": 1,
        "engine_failed": 1, "other": 2,
    }  # fmt: skip
    assert told(gateway, "truncated_prompts_total", model="m") == 1
    assert told(gateway, "upstream_errors_total", node="only") == 1
    assert told(gateway, "requests_total", route="chat/completions", status="429", model="m") == 10
    assert told(gateway, "requests_total", route="chat/completions", status="200", model="m") == 4


def test_waiting_is_told_while_it_lasts_and_how_long_it_took(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    turn = threading.Event()
    upstream.answers[PATH] = [turn, *upstream.answers[PATH]]
    assert told(gateway, "in_flight_requests") == 0
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(gateway.ask, "POST", PATH, CHAT) for _ in range(2)]
        wait_for(lambda: told(gateway, "queue_waiting_requests", model="m") == 1, "one to wait")
        assert told(gateway, "in_flight_requests") == 2
        assert told(gateway, "node_in_flight_requests", node="only") == 1
        assert gateway.ask("POST", PATH, CHAT)[0] == 429
        time.sleep(PAUSE_S)
        turn.set()
        assert [future.result()[0] for future in asked] == [200, 200]
    took = time.monotonic() - began
    assert by(gateway, "refusals_total", "reason") == {"queue_full": 1}
    assert PAUSE_S < told(gateway, "queue_wait_seconds_sum", model="m") < took
    # The other one had no need to.
    assert told(gateway, "queue_wait_seconds_bucket", model="m", le="0.005") == 1
    assert told(gateway, "queue_wait_seconds_count", model="m") == 2
    for metric in ("in_flight_requests", "node_in_flight_requests", "queue_waiting_requests"):
        assert told(gateway, metric) == 0


def test_a_streams_first_token_its_further_ones_and_its_counts_are_told(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    first, rest = threading.Event(), threading.Event()
    said = event(choices=[{"index": 0, "delta": {"content": "one"}, "finish_reason": None}])
    last = event(choices=[], usage=USAGE) + b"data: [DONE]\n\n"
    upstream.answers[PATH] = [stream_head(), first, chunk(said), rest, chunk(last), chunk(b"")]
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(gateway.ask, "POST", PATH, STREAM)
        wait_for(lambda: told(gateway, "node_in_flight_requests") == 1, "the stream to begin")
        for turn in (first, rest):
            time.sleep(PAUSE_S)
            turn.set()
        assert asked.result()[0] == 200
    took = time.monotonic() - began
    assert told(gateway, "tokens_total", model="m", kind="prompt") == 30
    assert told(gateway, "tokens_total", model="m", kind="completion") == 11
    first_s = told(gateway, "time_to_first_token_seconds_sum", model="m")
    assert PAUSE_S < first_s < took
    assert told(gateway, "first_byte_seconds_sum", route="chat/completions") == first_s
    # The other ten tokens share what was left.
    further_s = 10 * told(gateway, "time_per_output_token_seconds_sum", model="m")
    whole_s = told(gateway, "request_seconds_sum", route="chat/completions")
    assert whole_s == pytest.approx(first_s + further_s)
    assert 2 * PAUSE_S < whole_s < took
    for metric in ("time_to_first_token_seconds", "time_per_output_token_seconds", "request_seconds"):
        assert told(gateway, f"{metric}_count", **({"route": "chat/completions"} if "request" in metric else {})) == 1


def test_a_node_that_is_away_is_told(start_gateway: StartGateway) -> None:
    server = ScriptedUpstream()
    server.reset()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    nodes = [{"name": "near", "kind": "llamacpp", "url": server.url}]
    gateway = start_gateway(nodes)
    wait_for(lambda: told(gateway, "node_up", node="near") == 1, "the node to be up")
    server.shutdown()
    server.server_close()
    thread.join()
    wait_for(lambda: told(gateway, "node_up", node="near") == 0, "the node to be down")
    assert gateway.ask("POST", PATH, CHAT)[0] == 503
    assert told(gateway, "refusals_total", reason="engine_unavailable") == 1
    assert told(gateway, "upstream_errors_total", node="near") == 1
    assert told(gateway, "node_resting", node="near") == told(gateway, "node_draining", node="near") == 0
