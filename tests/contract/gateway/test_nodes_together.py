"""Several nodes as one: who is asked, what happens when one fails, what a reload changes, what is written down."""

import contextlib
import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aistack.gateway.keys import KeyStore
from aistack.gateway.state import drained
from aistack.gateway.state.database import Database

from .processes import Gateway, StartGateway, wait_for
from .scripted import ScriptedUpstream, chunk, event, response, stream_head

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


def answer(text: str, **more: Any) -> list[bytes | threading.Event]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return [response(200, json.dumps({"choices": [choice], "usage": USAGE, **more}).encode())]


def text_of(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


@pytest.fixture
def start_upstream() -> Iterator[Callable[[str], ScriptedUpstream]]:
    """Starts servers that answer each chat with their own name."""
    started: list[tuple[ScriptedUpstream, threading.Thread]] = []

    def start(name: str) -> ScriptedUpstream:
        server = ScriptedUpstream()
        server.reset()
        server.answers[PATH] = answer(name)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        started.append((server, thread))
        return server

    yield start
    for server, thread in started:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def start_gateway(start_gateway: StartGateway) -> StartGateway:
    """Starts gateways as for all tests, and waits until they have found all their nodes, which they may do late."""

    def start(nodes: list[dict[str, Any]], **settings: Any) -> Gateway:
        gateway = start_gateway(nodes, **settings)
        wait_for(lambda: all(counted(gateway, "node_up", node=node["name"]) for node in nodes), "the nodes to be up")
        return gateway

    return start


def node(name: str, server: ScriptedUpstream, **more: Any) -> dict[str, Any]:
    return {"name": name, "kind": "openai", "url": server.url, "slots": 4, **more}


def listed(gateway: Gateway) -> list[str]:
    return [model["id"] for model in json.loads(gateway.ask("GET", "/v1/models")[2])["data"]]


def chats(server: ScriptedUpstream) -> int:
    return sum(PATH in head for head, _ in server.requests)


def counted(gateway: Gateway, name: str, **labels: str) -> float:
    """A metric's value, 0 while there is none."""
    text = gateway.ask("GET", "/metrics")[2].decode()
    wanted = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    found = re.search(rf"^aistack_gateway_{name}{{{re.escape(wanted)}}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def audited(folder: Path) -> list[Any]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


def test_a_node_that_hangs_up_costs_one_more_try_and_is_then_spared(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    bad, good = start_upstream("bad"), start_upstream("good")
    bad.answers[PATH] = []
    gateway = start_gateway([node("bad", bad), node("good", good)])
    for _ in range(10):
        status, _, body = gateway.ask("POST", PATH, CHAT)
        assert (status, text_of(body)) == (200, "good")
    assert chats(bad) == 3
    assert counted(gateway, "upstream_errors_total", node="bad") == 3
    assert counted(gateway, "node_resting", node="bad") == 1


def test_what_has_begun_is_never_tried_again(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    bad, good = start_upstream("bad"), start_upstream("good")
    said = event(choices=[{"index": 0, "delta": {"content": "one"}, "finish_reason": None}])
    bad.answers[PATH] = [stream_head(), chunk(said)]
    gateway = start_gateway([node("bad", bad), node("good", good)])
    _, _, body = gateway.ask("POST", PATH, STREAM)
    assert body.startswith(said)
    assert b'"error"' in body
    assert chats(good) == 0


def test_a_refusal_of_the_request_itself_is_not_tried_elsewhere(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    first, second = start_upstream("first"), start_upstream("second")
    first.answers[PATH] = [response(400, b'{"error":{"message":"bad temperature"}}')]
    gateway = start_gateway([node("first", first), node("second", second)])
    assert gateway.ask("POST", PATH, CHAT)[0] == 400
    assert chats(second) == 0


def test_when_every_node_fails_the_fallback_answers_and_it_is_told(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    large, small = start_upstream("large"), start_upstream("small")
    large.answers[PATH] = []
    small.answers["/v1/models"] = [response(200, b'{"data":[{"id":"s","object":"model"}]}')]
    gateway = start_gateway([node("large", large), node("small", small)], fallbacks={"m": "s"})
    status, _, body = gateway.ask("POST", PATH, CHAT)
    assert (status, text_of(body)) == (200, "small")
    assert small.body_of(PATH)["model"] == "s"
    assert counted(gateway, "fallbacks_total", model="m") == 1


def test_the_fallback_answers_also_when_nobody_has_been_heard_of_that_has_the_model(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    small = start_upstream("small")
    small.answers["/v1/models"] = [response(200, b'{"data":[{"id":"s","object":"model"}]}')]
    gateway = start_gateway([node("small", small)], fallbacks={"m": "s"})
    status, _, body = gateway.ask("POST", PATH, CHAT)
    assert (status, text_of(body)) == (200, "small")
    assert gateway.ask("POST", PATH, {**CHAT, "model": "x"})[0] == 404


def test_a_model_of_a_drained_node_stays_listed_where_its_fallback_answers(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    large, small = start_upstream("large"), start_upstream("small")
    small.answers["/v1/models"] = [response(200, b'{"data":[{"id":"s","object":"model"}]}')]
    gateway = start_gateway([node("large", large), node("small", small)], fallbacks={"m": "s"})
    with contextlib.closing(Database(gateway.database)) as database:
        drained.drain(database, "large")
        wait_for(lambda: counted(gateway, "node_draining", node="large") == 1, "the node to be drained")
        assert sorted(listed(gateway)) == ["m", "s"]
        assert gateway.ask("GET", "/v1/models/m")[0] == 200
        assert text_of(gateway.ask("POST", PATH, CHAT)[2]) == "small"
        drained.drain(database, "small")
        wait_for(lambda: counted(gateway, "node_draining", node="small") == 1, "the other to be drained")
        assert listed(gateway) == []
        assert gateway.ask("GET", "/v1/models/m")[0] == gateway.ask("POST", PATH, CHAT)[0] == 503


def test_the_work_is_shared_and_a_full_node_is_left_in_peace(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    first, second = start_upstream("first"), start_upstream("second")
    release = threading.Event()
    for server in (first, second):
        server.answers[PATH] = [release, *answer("done")]
    gateway = start_gateway([node("first", first, slots=1), node("second", second, slots=2)])
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(gateway.ask, "POST", PATH, CHAT) for _ in range(4)]
        wait_for(lambda: counted(gateway, "queue_waiting_requests", model="m") == 1, "one to wait")
        # What the gateway has sent, the nodes may not have read yet.
        wait_for(lambda: (chats(first), chats(second)) == (1, 2), "the others to be shared out")
        release.set()
        waited = [found.result()[1] for found in running if "x-aistack-queue-wait-ms" in found.result()[1]]
    assert [headers["x-aistack-queue-position"] for headers in waited] == ["1"]


def test_one_key_with_many_requests_in_line_delays_another_by_one_turn(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    server = start_upstream("only")
    turn = threading.Event()
    server.answers[PATH] = [turn, *answer("done")]
    gateway = start_gateway([node("only", server, slots=1)])
    store = KeyStore(gateway.database)
    other, _ = store.create("other")
    store.close()
    with ThreadPoolExecutor(21) as pool:
        many = [pool.submit(gateway.ask, "POST", PATH, CHAT) for _ in range(20)]
        wait_for(lambda: counted(gateway, "queue_waiting_requests", model="m") == 19, "nineteen to wait")
        late = pool.submit(gateway.ask, "POST", PATH, CHAT, {"Authorization": f"Bearer {other}"})
        wait_for(lambda: counted(gateway, "queue_waiting_requests", model="m") == 20, "the late one to wait")
        turn.set()
        late.result()
        # It went second; those who were served before it read their answer are few.
        assert sum(future.done() for future in many) <= 3
        assert all(future.result()[0] == 200 for future in many)


def test_a_full_line_is_429_at_once(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    server = start_upstream("only")
    release = threading.Event()
    server.answers[PATH] = [release, *answer("done")]
    gateway = start_gateway([node("only", server, slots=1)], most_waiting=1)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(gateway.ask, "POST", PATH, CHAT) for _ in range(2)]
        wait_for(lambda: counted(gateway, "queue_waiting_requests", model="m") == 1, "one to wait")
        status, headers, body = gateway.ask("POST", PATH, CHAT)
        assert (status, json.loads(body)["error"]["code"]) == (429, "queue_full")
        assert int(headers["retry-after"]) >= 1
        release.set()
        assert [future.result()[0] for future in running] == [200, 200]


def test_an_alias_stands_for_a_model_and_is_listed(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    server = start_upstream("only")
    gateway = start_gateway([node("only", server)], aliases={"default": "m"})
    assert gateway.ask("POST", PATH, {**CHAT, "model": "default"})[0] == 200
    assert server.body_of(PATH)["model"] == "m"
    listed = json.loads(gateway.ask("GET", "/v1/models")[2])["data"]
    assert [model["id"] for model in listed] == ["default", "m"]
    assert gateway.ask("GET", "/v1/models/default")[0] == 200


def test_a_reload_takes_over_names_and_nodes_and_disturbs_no_stream(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    old, new = start_upstream("old"), start_upstream("new")
    new.answers["/v1/models"] = [response(200, b'{"data":[{"id":"n","object":"model"}]}')]
    release = threading.Event()
    done = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]) + b"data: [DONE]\n\n"
    old.answers[PATH] = [stream_head(), chunk(event(choices=[])), release, chunk(done), chunk(b"")]
    gateway = start_gateway([node("old", old)], aliases={"default": "m"})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(gateway.ask, "POST", PATH, STREAM)
        wait_for(lambda: chats(old) == 1, "the stream to begin")
        gateway.change(nodes=[node("new", new)], aliases={"default": "n"})
        gateway.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "the settings were read anew" in gateway.log.read_text(), "the reload")
        assert text_of(gateway.ask("POST", PATH, {**CHAT, "model": "default"})[2]) == "new"
        assert gateway.ask("POST", PATH, CHAT)[0] == 404
        release.set()
        assert b"[DONE]" in running.result()[2]


def test_settings_that_cannot_be_used_change_nothing(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    gateway = start_gateway([node("only", start_upstream("only"))])
    gateway.change(nodes=[{"name": "x", "kind": "steam", "url": "http://127.0.0.1:1"}])
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "the settings are not taken over" in gateway.log.read_text(), "the refusal")
    assert gateway.ask("POST", PATH, CHAT)[0] == 200


@pytest.mark.parametrize("wanted", [True, False])
def test_the_counts_of_a_stream_reach_only_those_who_asked_for_them(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream], wanted: bool
) -> None:
    server = start_upstream("only")
    said = event(choices=[{"index": 0, "delta": {"content": "one"}, "finish_reason": "stop"}])
    counts = event(choices=[], usage=USAGE)
    server.answers[PATH] = [stream_head(), chunk(said + counts + b"data: [DONE]\n\n"), chunk(b"")]
    gateway = start_gateway([node("only", server)])
    more = {"stream_options": {"include_usage": True}} if wanted else {}
    body = gateway.ask("POST", PATH, {**STREAM, **more})[2]
    assert body == said + (counts if wanted else b"") + b"data: [DONE]\n\n"
    assert server.body_of(PATH)["stream_options"] == {"include_usage": True}
    assert counted(gateway, "tokens_total", model="m", kind="prompt") == 7
    assert counted(gateway, "tokens_total", model="m", kind="completion") == 3


def test_a_prompt_that_was_cut_is_told_in_a_header_or_refused(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    server = start_upstream("only")
    server.answers["/v1/models"] = [response(200, b'{"data":[{"id":"m","object":"model","max_model_len":100}]}')]
    long = {**CHAT, "messages": [{"role": "user", "content": "word " * 300}]}
    warning = start_gateway([node("only", server)])
    status, headers, _ = warning.ask("POST", PATH, long)
    assert (status, headers["x-aistack-truncated"]) == (200, "at least 300 tokens, 100 read")
    assert "x-aistack-truncated" not in warning.ask("POST", PATH, CHAT)[1]
    assert counted(warning, "truncated_prompts_total", model="m") == 1
    refusing = start_gateway([node("only", server)], truncation="refuse")
    asked = chats(server)
    status, _, body = refusing.ask("POST", PATH, long)
    assert (status, json.loads(body)["error"]["code"]) == (400, "context_length_exceeded")
    assert chats(server) == asked


def test_an_engine_that_says_nothing_of_its_context_is_caught_by_its_counts(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    server = start_upstream("only")
    long = {**CHAT, "messages": [{"role": "user", "content": "word " * 3000}]}
    gateway = start_gateway([node("only", server)])
    assert gateway.ask("POST", PATH, long)[1]["x-aistack-truncated"] == "at least 3000 tokens, 7 read"


@pytest.mark.parametrize("prompts", [True, False])
def test_the_audit_log_tells_who_and_how_much_and_prompts_only_where_wanted(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream], tmp_path: Path, prompts: bool
) -> None:
    server = start_upstream("only")
    audit = {"file": str(tmp_path / "audit.jsonl"), "prompts": prompts, "max_mb": 1, "keep": 1}
    gateway = start_gateway([node("only", server)], audit=audit)
    assert gateway.ask("POST", PATH, CHAT)[0] == 200
    assert gateway.ask("POST", PATH, CHAT, {"Authorization": "Bearer ask_wrong"})[0] == 401
    wait_for(lambda: (tmp_path / "audit.jsonl").read_text().count("\n") == 2, "two lines")
    good, bad = audited(tmp_path)
    assert (good["name"], good["model"], good["node"], good["outcome"]) == ("tests", "m", "only", "ok")
    assert (good["prompt_tokens"], good["completion_tokens"]) == (7, 3)
    assert (bad["who"], bad["status"], bad["outcome"]) == (None, 401, "invalid_api_key")
    assert good.get("request") == (CHAT if prompts else None)
    text = (tmp_path / "audit.jsonl").read_text()
    assert gateway.key not in text
    assert "ask_wrong" not in text
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_audit_log_is_turned_over_when_it_is_full(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream], tmp_path: Path
) -> None:
    audit = {"file": str(tmp_path / "audit.jsonl"), "prompts": True, "max_mb": 1, "keep": 2}
    gateway = start_gateway([node("only", start_upstream("only"))], audit=audit)
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 400_000}]}

    def turned(times: int) -> bool:
        assert gateway.ask("POST", PATH, large)[0] == 200
        return (tmp_path / f"audit.jsonl.{times}").exists()

    wait_for(lambda: turned(2), "the second turn")
    assert not (tmp_path / "audit.jsonl.3").exists()
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.glob("audit.jsonl*"))


def test_a_full_disk_under_the_audit_log_is_said_and_nobody_is_refused(
    start_gateway: StartGateway, start_upstream: Callable[[str], ScriptedUpstream]
) -> None:
    audit = {"file": "/dev/full", "prompts": False, "max_mb": 1, "keep": 1}
    gateway = start_gateway([node("only", start_upstream("only"))], audit=audit)
    for _ in range(3):
        assert gateway.ask("POST", PATH, CHAT)[0] == 200
    wait_for(lambda: "the audit log cannot be written" in gateway.log.read_text(), "the log to say so")
    assert gateway.log.read_text().count("cannot be written") == 1
