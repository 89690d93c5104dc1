"""Requests that no honest client sends, byte for byte over a socket: none gets what it is after."""

import json
import socket
from urllib.parse import urlsplit

import pytest

from .conftest import INTERNAL_KEY
from .processes import Gateway


def status_of(gateway: Gateway, request: str) -> int:
    """The status of the answer to `request`, in which KEY and INTERNAL stand for the credentials."""
    address = urlsplit(gateway.url)
    text = request.replace("KEY", gateway.key).replace("INTERNAL", INTERNAL_KEY).replace("\n", "\r\n")
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(text.encode("latin-1"))
        answer = b""
        while b"\r\n" not in answer:
            received = connection.recv(4096)
            assert received, "no answer"
            answer += received
    return int(answer.split()[1])


def get(path: str, *headers: str) -> str:
    return "\n".join([f"GET {path} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""])


BEARER = "Authorization: Bearer KEY"
# More than any model of these tests can read.
LONG = "a " * 9000
SERVICE = "Authorization: Bearer INTERNAL"


@pytest.mark.parametrize(
    "request_text",
    [
        get("/v1/models"),
        get("/v1/models", "Authorization: Bearer ask_" + "a" * 43),
        get("/v1/models", "Authorization: Bearer"),
        get("/v1/models", "Authorization: KEY"),
        get("/v1/models", "Authorization: Digest KEY"),
        get("/v1/models", "Authorization: Basic !!!"),
        get("/v1/models", "Authorization: Basic KEY"),
        get("/v1/models", "X-Api-Key: INTERNAL"),
        get("/v1/models", SERVICE, "X-Aistack-Edge: 1"),
        get("/v1/models", SERVICE, "X-Aistack-Edge: "),
        get("/v1/models", BEARER, "X-Api-Key: ask_other"),
        get("/v1/models", BEARER + "\x00"),
        get("/v1/models?key=KEY"),
        get("/ollama/api/tags", "Cookie: token=KEY"),
        get("/ollama", "X-OpenWebUI-User-Role: admin"),
        get("/v1/models", "Authorization: Bearer \xff\xfe"),
    ],
)
def test_without_one_valid_credential_there_is_nothing(over_engine: Gateway, request_text: str) -> None:
    assert status_of(over_engine, request_text) in (400, 401)


@pytest.mark.parametrize(
    "request_text",
    [
        get("/v1/models", BEARER, BEARER),
        get("/v1/models", BEARER, "Authorization: Bearer other"),
        get("/v1/models", "X-Api-Key: KEY", "x-api-key: KEY"),
        get("/v1/models", SERVICE, "X-OpenWebUI-User-Id: 1", "X-OpenWebUI-User-Id: 2"),
        get("/v1/models", BEARER, "X-Aistack-Edge: 1", "X-Aistack-Edge: 1"),
        get("/internal/authorize-admin", "Cookie: token=a", "Cookie: token=b"),
    ],
)
def test_a_header_that_says_who_asks_may_come_only_once(over_engine: Gateway, request_text: str) -> None:
    assert status_of(over_engine, request_text) == 400


@pytest.mark.parametrize(
    "path",
    [
        "//v1/models", "/V1/models", "/v1//models", "/v1/models/", "/v1/./models",
        "/x/../v1/models", "/v1/models;x", "/v1%2f%2fmodels", "/%2e%2e/v1/models",
        "/v1/%6dodels%00", "/v1", "/", "/engine/loaded", "/slots", "/props", "/internal",
        "/internal/", "/metrics/", "/health/", "/ollama/api", "/ollama/api/", "/ollama/v2/models",
        "/ollama/metrics", "/api/tags", "/api/chat", "/ollama/api/tags/0", "/v1/reranks", "/docs/",
        "/v1/\xe4",
    ],
)  # fmt: skip
def test_a_path_that_is_not_exactly_ours_is_not_found(over_engine: Gateway, path: str) -> None:
    assert status_of(over_engine, get(path, BEARER)) in (400, 404)


def test_an_encoded_letter_is_decoded_once_and_not_twice(over_engine: Gateway) -> None:
    assert status_of(over_engine, get("/v1/%6dodels", BEARER)) == 200
    assert status_of(over_engine, get("/v1/%256dodels", BEARER)) == 404


@pytest.mark.parametrize("method", ["POST", "DELETE", "GET", "PUT", "HEAD", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        "/ollama/api/pull", "/ollama/api/push", "/ollama/api/create", "/ollama/api/copy",
        "/ollama/api/delete", "/ollama/api/blobs/sha256:00", "/ollama/api/blobs",
        "/ollama/api/PULL", "/ollama//api/pull", "/ollama/api/./pull", "/ollama/x/../api/pull",
        "/ollama/api/pull/", "/ollama/api/pull/0", "/ollama/api/%70ull", "/ollama/api/%2570ull",
        "/ollama%2fapi%2fpull", "/OLLAMA/api/pull", "/ollama/api/pull;x=1", "/ollama/api\\pull",
        "/ollama/api/%2e/pull", "//ollama/api/pull", "/ollama/api/pull%20",
        "http://other/ollama/api/pull",
    ],
)  # fmt: skip
def test_model_management_is_refused_in_any_spelling(over_engine: Gateway, path: str, method: str) -> None:
    forged = "X-OpenWebUI-User-Role: admin\nX-OpenWebUI-User-Id: 1"
    for credential in (BEARER, f"{SERVICE}\nX-Aistack-Edge: 1"):
        request = f"{method} {path} HTTP/1.1\nHost: x\nConnection: close\n{credential}\n{forged}\n\n"
        assert status_of(over_engine, request) == 403


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("POST /v1/models", 405), ("GET /v1/chat/completions", 405), ("OPTIONS /v1/models", 405),
        ("HEAD /v1/models", 200), ("HEAD /ollama/", 200), ("DELETE /health", 405), ("TRACE /v1/models", 405),
        ("GET http://evil.example/v1/models", 200), ("OPTIONS *", 404), ("CONNECT x:80", 400),
    ],
)  # fmt: skip
def test_methods_and_forms_of_the_request_line(over_engine: Gateway, request_line: str, status: int) -> None:
    request = f"{request_line} HTTP/1.1\nHost: x\nConnection: close\n{BEARER}\n\n"
    assert status_of(over_engine, request) == status


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\nContent-Length: 6",
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: -1",
        "Content-Length: x",
    ],
)
def test_a_body_whose_length_is_in_doubt_is_refused(over_engine: Gateway, framing: str) -> None:
    request = f"POST /v1/chat/completions HTTP/1.1\nHost: x\nConnection: close\n{BEARER}\n{framing}\n\nhello"
    assert status_of(over_engine, request) == 400


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '"x"', "null", "{}", '{"model":1}', '{"model":""}', '{"model":null}', "[" * 100_000],
)
@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses",
        "/v1/rerank", "/ollama/api/chat", "/ollama/api/show",
    ],
)  # fmt: skip
def test_a_body_that_names_no_model_is_400(over_engine: Gateway, path: str, body: str) -> None:
    request = f"POST {path} HTTP/1.1\nHost: x\nConnection: close\n{BEARER}\nContent-Length: {len(body)}\n\n{body}"
    assert status_of(over_engine, request) == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat", '{"model":"demo","messages":"x"}'),
        ("chat", '{"model":"demo","messages":[1]}'),
        ("chat", '{"model":"demo","messages":[{"role":"user","content":[1]}]}'),
        ("chat", '{"model":"demo","messages":[{"role":"user","images":"x"}]}'),
        ("chat", '{"model":"demo","messages":[{"role":"assistant","tool_calls":[{}]}]}'),
        ("chat", '{"model":"demo","messages":[{"role":"assistant","tool_calls":7}]}'),
        ("chat", '{"model":"demo","messages":[{"role":"user","content":"x"}],"options":[]}'),
        ("chat", '{"model":"demo","messages":[{"role":"user","content":"x"}],"format":"xml"}'),
        ("chat", '{"model":"demo","messages":[{"role":"user","content":"x"}],"think":"hard"}'),
        ("chat", '{"model":"demo","messages":[{"role":"user","content":"x"}],"tools":{"a":1}}'),
        (
            "chat",
            '{"model":"demo","messages":[{"role":"user","content":"x"}],"options":{"temperature":"hot"}}',
        ),
        ("chat", '{"model":"demo","messages":[],"keep_alive":"soon"}'),
        ("generate", '{"model":"demo","prompt":7}'),
        ("generate", '{"model":"demo","prompt":"x","template":7}'),
        ("generate", '{"model":"demo","prompt":"x","system":7}'),
        ("generate", '{"model":"demo","prompt":"x","suffix":"y"}'),
        ("embed", '{"model":"tiny-embed","input":7}'),
        ("embed", '{"model":"tiny-embed","input":["x",7]}'),
        ("embed", '{"model":"tiny-embed","input":"x","dimensions":"many"}'),
        ("embeddings", '{"model":"tiny-embed","prompt":7}'),
    ],
)
def test_a_mistake_in_an_ollama_request_is_400(over_engine: Gateway, path: str, body: str) -> None:
    head = f"POST /ollama/api/{path} HTTP/1.1\nHost: x\nConnection: close\n{BEARER}\nContent-Length: {len(body)}"
    assert status_of(over_engine, f"{head}\n\n{body}") == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", '{"model":"tiny-rerank","query":7,"documents":["x"]}'),
        ("/v1/rerank", '{"model":"tiny-rerank","query":"x","documents":"x"}'),
        ("/v1/rerank", '{"model":"tiny-rerank","query":"x","documents":[]}'),
        ("/v1/rerank", '{"model":"tiny-rerank","query":"x","documents":["x",7]}'),
        ("/v1/rerank", '{"model":"tiny-rerank","query":"x","documents":["x"],"top_n":0}'),
        ("/v1/rerank", '{"model":"tiny-rerank","query":"x","documents":["' + "a b " * 200 + '"]}'),
        ("/v1/messages", '{"model":"demo","max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]}'),
        ("/v1/messages", '{"model":"demo","max_tokens":1,"messages":[{"role":"user","content":"' + LONG + '"}]}'),
        ("/v1/responses", '{"model":"demo","input":"' + LONG + '"}'),
        ("/v1/responses", '{"model":"demo","input":"x","text":{"format":{"type":"json_schema","schema":{"type":7}}}}'),
        ("/v1/chat/completions", '{"model":"demo","messages":[{"role":7,"content":"x"}]}'),
        ("/v1/chat/completions", '{"model":"demo","messages":[{"role":"user","content":"x"}],"tools":[7]}'),
    ],
)  # fmt: skip
def test_a_mistake_in_another_request_is_400_too(over_engine: Gateway, path: str, body: str) -> None:
    head = f"POST {path} HTTP/1.1\nHost: x\nConnection: close\n{BEARER}\nContent-Length: {len(body)}"
    assert status_of(over_engine, f"{head}\n\n{body}") == 400


@pytest.mark.parametrize("path", ["/ollama/api/chat", "/v1/messages", "/v1/messages/count_tokens", "/v1/responses"])
def test_what_is_nested_too_deeply_is_400(over_engine: Gateway, path: str) -> None:
    deep = '{"a":' * 400 + "1" + "}" * 400
    tools = {
        "/ollama/api/chat": f'{{"type":"function","function":{{"name":"n","parameters":{deep}}}}}',
        "/v1/responses": f'{{"type":"function","name":"n","parameters":{deep}}}',
    }.get(path, f'{{"name":"n","input_schema":{deep}}}')
    asked = '"messages":[{"role":"user","content":"x"}],"input":"x","max_tokens":1'
    body = f'{{"model":"demo","tools":[{tools}],{asked}}}'
    head = f"POST {path} HTTP/1.1\nHost: x\nConnection: close\n{BEARER}\nContent-Length: {len(body)}"
    assert status_of(over_engine, f"{head}\n\n{body}") == 400


@pytest.mark.parametrize("root", ["/v1", "/api/v1", "/ollama/v1"])
def test_without_a_key_anthropics_surface_refuses_in_its_own_shape(over_engine: Gateway, root: str) -> None:
    status, headers, body = over_engine.ask("POST", f"{root}/messages", {}, {"anthropic-version": "2023-06-01"})
    assert status == 401
    assert "www-authenticate" in headers
    assert json.loads(body)["error"]["type"] == "authentication_error"
