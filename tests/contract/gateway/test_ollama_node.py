"""A node that is Ollama: what it is sent, and who may manage its models."""

import http.client
import json
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from .conftest import INTERNAL_KEY
from .processes import Gateway, wait_for
from .scripted import ScriptedUpstream, chunk, response, stream_head

ADMIN = {
    "Authorization": f"Bearer {INTERNAL_KEY}",
    "X-OpenWebUI-User-Id": "u1",
    "X-OpenWebUI-User-Name": "Ada%20L",
    "X-OpenWebUI-User-Email": "ada@example.com",
    "X-OpenWebUI-User-Role": "admin",
}
BLOB = "/api/blobs/sha256:" + "0b" * 32
PROGRESS = b'{"status":"pulling"}\n{"status":"success"}\n'


@pytest.fixture
def gateway(over_scripted_ollama: Gateway) -> Gateway:
    return over_scripted_ollama


def test_the_node_is_asked_under_a_host_name_that_it_knows(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    port = upstream.server_address[1]
    upstream.answers["/api/version"] = [response(200, b'{"version":"1.2.3"}')]
    assert gateway.ask("GET", "/ollama/api/version")[2] == b'{"version":"1.2.3"}'
    heads = [head.lower() for head, _ in upstream.requests]
    assert heads
    assert all(f"host: localhost:{port}\r\n" in head for head in heads)
    assert not any("authorization" in head for head in heads)


def test_the_request_is_passed_on_as_it_is(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers["/api/chat"] = [response(200, b'{"done":true,"new":1}')]
    wish = {"model": "m", "messages": [], "stream": False, "something_new": [1]}
    assert json.loads(gateway.ask("POST", "/ollama/api/chat", wish)[2]) == {"done": True, "new": 1}
    assert upstream.body_of("/api/chat") == wish


def test_an_administrator_of_the_chat_pulls_a_model_with_progress(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers["/api/pull"] = [stream_head("application/x-ndjson"), chunk(PROGRESS), chunk(b"")]
    status, _, body = gateway.ask("POST", "/ollama/api/pull", {"model": "new"}, ADMIN)
    assert (status, body) == (200, PROGRESS)
    assert upstream.body_of("/api/pull") == {"model": "new"}


def test_an_administrator_deletes_copies_and_uploads(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    digest = "sha256:" + "0a" * 32
    upstream.answers["/api/delete"] = upstream.answers["/api/copy"] = [response(200, b"")]
    upstream.answers[f"/api/blobs/{digest}"] = [response(201, b"")]
    assert gateway.ask("DELETE", "/ollama/api/delete", {"model": "m"}, ADMIN)[0] == 200
    assert gateway.ask("POST", "/ollama/api/copy", {"source": "m", "destination": "n"}, ADMIN)[0] == 200
    # Larger than the largest body that is read into memory (1 MB here).
    blob = bytes(range(256)) * 8192
    assert gateway.ask("POST", f"/ollama/api/blobs/{digest}", blob, ADMIN)[0] == 201
    assert next(body for head, body in upstream.requests if "/api/blobs/" in head) == blob
    assert gateway.ask("HEAD", f"/ollama/api/blobs/{digest}", headers=ADMIN)[0] == 201
    assert gateway.ask("HEAD", "/ollama/api/blobs/sha256:../../x", headers=ADMIN)[0] == 400


def test_an_upload_that_the_node_refuses_at_once_is_answered_at_once(
    gateway: Gateway, upstream: ScriptedUpstream
) -> None:
    done = threading.Event()
    upstream.answers[BLOB] = [response(400, b'{"error":"no room"}'), done]
    upstream.hasty.add(BLOB)
    # More than lies between the client and the node, who takes none of it.
    status, _, body = gateway.ask("POST", f"/ollama{BLOB}", b"x" * 50_000_000, ADMIN)
    done.set()
    assert (status, json.loads(body)) == (400, {"error": "no room"})


def test_a_client_that_leaves_after_its_upload_is_noticed(gateway: Gateway, upstream: ScriptedUpstream) -> None:
    done = threading.Event()
    upstream.answers[BLOB] = [done]
    where = urlsplit(gateway.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    connection.request("POST", f"/ollama{BLOB}", b"blob", ADMIN)
    wait_for(lambda: any(BLOB in head for head, _ in upstream.requests), "the upload")
    connection.close()
    assert upstream.gone.wait(10)
    done.set()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**ADMIN, "X-OpenWebUI-User-Role": "user"},
        {**ADMIN, "X-Aistack-Edge": "1"},
        {**ADMIN, "Authorization": "Bearer wrong"},
        {"Authorization": ADMIN["Authorization"]},
    ],
)
def test_nobody_else_manages_models(gateway: Gateway, upstream: ScriptedUpstream, headers: dict[str, Any]) -> None:
    for path in ("pull", "push", "create", "copy", "blobs/sha256:00"):
        assert gateway.ask("POST", f"/ollama/api/{path}", {"model": "m"}, headers)[0] == 403
    assert gateway.ask("DELETE", "/ollama/api/delete", {"model": "m"}, headers)[0] == 403
    sent = {head.split()[1] for head, _ in upstream.requests}
    assert sent <= {"/api/tags", "/v1/models"}


def test_an_api_key_with_forged_identity_manages_nothing(gateway: Gateway) -> None:
    forged = {**ADMIN, "Authorization": f"Bearer {gateway.key}"}
    assert gateway.ask("POST", "/ollama/api/pull", {"model": "m"}, forged)[0] == 403


def test_our_own_engine_says_how_models_are_managed(over_engine: Gateway) -> None:
    status, _, body = over_engine.ask("POST", "/ollama/api/pull", {"model": "m"}, ADMIN)
    assert status == 501
    assert "aistack models pull" in json.loads(body)["error"]
    assert over_engine.ask("DELETE", "/ollama/api/delete", {"model": "demo"}, ADMIN)[0] == 501
