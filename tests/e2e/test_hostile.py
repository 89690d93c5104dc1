"""Requests with ill intent, byte for byte over TLS: whoever sends them, nothing inside is reached or changed."""

import base64
import contextlib
import json
import re
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import pytest
from stacks import RealStack

# What only Prometheus' exposition, its API, nginx's status page, Chroma, or a node's name could have said.
_INSIDE = re.compile(
    rb"aistack_|llamacpp:|nanosecond.heartbeat|# (HELP|TYPE) |node_cpu|nginx_connections|Active connections"
    rb"|process_resident_memory|prometheus_build_info|resultType|\"activeTargets\"|<title>Prometheus",
    re.IGNORECASE,
)
_STRANGER = "somebody-else-0000"
_SPOOFED = tuple(
    f"{header}: {value}"
    for header, value in {
        "X-OpenWebUI-User-Id": _STRANGER,
        "X-OpenWebUI-User-Name": "Administrator",
        "X-OpenWebUI-User-Email": "admin@localhost",
        "X-OpenWebUI-User-Role": "admin",
        "X-OpenWebUI-User-Jwt": "eyJhbGciOiJub25lIn0.eyJpZCI6ImFkbWluIn0.",
        "X-Forwarded-User": "admin@localhost",
        "X-Forwarded-Email": "admin@localhost",
        "X-Forwarded-For": "127.0.0.1",
        "X-Real-IP": "127.0.0.1",
        "Remote-User": "admin@localhost",
        "X-Remote-User": "admin@localhost",
        "X-WebAuth-User": "admin@localhost",
        "X-Auth-Request-Email": "admin@localhost",
        "Forwarded": "for=127.0.0.1;host=localhost;proto=https",
    }.items()
)
_UNDERSCORES = (
    "X_OpenWebUI_User_Id: " + _STRANGER, "X_OpenWebUI_User_Role: admin", "X_Aistack_Edge: 0", "X_Forwarded_For: ::1",
)  # fmt: skip
_JSON = "Content-Type: application/json"
_MODEL = json.dumps({"model": "demo", "name": "demo", "source": "demo", "destination": "stolen", "from": "demo"})


@dataclass(frozen=True)
class Attack:
    """One request. `target` and `headers` may name ports as {gateway}, {engine}, {chroma}, {prometheus}, {status}."""

    method: str
    target: str
    headers: tuple[str, ...] = ()
    body: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.target} {' '.join(self.headers)}"[:110].encode("unicode_escape").decode()


def _gets(*targets: str) -> Iterator[Attack]:
    for target in targets:
        yield Attack("GET", target)


def _posts(*targets: str) -> Iterator[Attack]:
    for target in targets:
        yield Attack("POST", target, (_JSON,), _MODEL)


_MANAGEMENT = (
    *_posts(
        "/ollama/api/pull", "/ollama/api/push", "/ollama/api/create", "/ollama/api/copy", "/ollama/api/pull/0",
        "/ollama/api/pull?x=/ollama/api/tags", "/ollama/api/pull#/ollama/api/tags", "/ollama/api/pull/",
        "/ollama/api/PULL", "/OLLAMA/API/PULL", "/Ollama/api/pull", "/ollama//api/pull", "//ollama/api/pull",
        "/ollama/./api/pull", "/ollama/api/../api/pull", "/v1/../ollama/api/pull", "/ollama/api/%70ull",
        "/ollama/api/%2570ull", "/ollama/%61pi/pull", "/%6fllama/api/pull", "/ollama%2fapi%2fpull",
        "/ollama%252fapi%252fpull", "/ollama/api%5cpull", "/ollama/api\\pull", "/ollama/api/pull%00",
        "/ollama/api/pull%20", "/ollama/api/pull;x=1", "/ollama/api/pull%3bx", "/ollama/api/tags/../pull",
        "/ollama/api/tags/%2e%2e/pull", "/ollama/api/tags/%252e%252e/pull", "/ollama/api/.%2e/api/pull",
        "/ollama/api/pu%6cl/0", "/ollama/v1/../api/pull", "/api/pull", "/v1/api/pull", "/api/v1/pull",
        "/api/v1/../../ollama/api/pull", "/ollama/models/download", "/ollama/config/update", "/ollama/api/unload",
        "http://127.0.0.1:{gateway}/ollama/api/pull", "http://127.0.0.1:{engine}/engine/unload", "/engine/unload",
        "/v1/engine/unload",
    ),
    Attack("DELETE", "/ollama/api/delete", (_JSON,), _MODEL),
    Attack("DELETE", "/ollama/api/delete/0", (_JSON,), _MODEL),
    Attack("DELETE", "/ollama/api/%64elete", (_JSON,), _MODEL),
    Attack("DELETE", "/v1/models/demo"),
    Attack("HEAD", "/ollama/api/blobs/sha256:" + "0" * 64),
    Attack("POST", "/ollama/api/blobs/sha256:" + "0" * 64, (), "GGUF"),
    Attack("PUT", "/ollama/api/pull", (_JSON,), _MODEL),
    Attack("delete", "/ollama/api/delete", (_JSON,), _MODEL),
    Attack("POST", "/v1/models", (_JSON, "X-HTTP-Method-Override: DELETE"), _MODEL),
    Attack("POST", "/ollama/api/show", (_JSON, "X-Original-URL: /ollama/api/pull"), '{"model": "unknown"}'),
    Attack("POST", "/ollama/api/pull", (_JSON, *_SPOOFED), _MODEL),
    Attack("POST", "/ollama/api/pull", (_JSON, *_UNDERSCORES), _MODEL),
    Attack("POST", "/ollama/api/pull", (_JSON, "X-Aistack-Edge: 0"), _MODEL),
    Attack("POST", "/ollama/api/pull", (_JSON, "X-Aistack-Edge:", "x-aistack-edge: 1"), _MODEL),
    Attack("POST", "/ollama/api/pull", (_JSON, "Connection: X-Aistack-Edge, close"), _MODEL),
    Attack("POST", "/ollama/api/pull", (_JSON, "Authorization: Basic YWRtaW46YWRtaW4="), _MODEL),
)  # fmt: skip
_INTERNAL = (
    *_gets(
        "/metrics", "/v1/metrics", "/api/v1/metrics", "/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/%252e%252e/metrics",
        "/v1/..%2fmetrics", "/v1/..;/metrics", "/v1//../metrics", "/health/../metrics", "/health%2f..%2fmetrics",
        "/METRICS", "/metrics/", "//metrics", "/ollama/../metrics", "/ollama/metrics", "/ollamametrics",
        "/ollama@127.0.0.1:{gateway}/metrics", "/internal/authorize-admin", "/_authorize_administrator",
        "/%5fauthorize_administrator", "/v1/../internal/authorize-admin", "/internal%2fauthorize-admin",
        "/stub_status", "/nginx_status", "/health/live", "/server-status", "/api/v2/heartbeat",
        "/api/v1/heartbeat", "/api/v2/tenants/default_tenant/databases/default_database/collections",
        "/chroma/api/v2/heartbeat", "/engine/loaded", "/engine/models/demo", "/v1/engine/loaded", "/tokenize",
        "/prometheus", "/prometheus/", "/prometheus/metrics", "/prometheus/api/v1/targets",
        "/prometheus/api/v1/query?query=up", "/prometheus/federate?match[]=up", "/Prometheus/metrics",
        "/prometheus//metrics", "/prometheus/..%2fprometheus/metrics", "/prometheus/%6detrics", "/prometheus%2fmetrics",
        "/static/../metrics", "/static/..%2f..%2fdata/webui.db", "/static/%2e%2e/%2e%2e/webui.db",
        "/ws/../metrics", "/ws/%2e%2e/metrics", "/v1\\..\\metrics", "/v1/\x7f/../metrics", "/v1/?/../metrics",
        "http://127.0.0.1:{gateway}/metrics", "http://127.0.0.1:{engine}/metrics", "http://127.0.0.1:{status}/stub_status",
        "http://127.0.0.1:{prometheus}/metrics", "http://127.0.0.1:{chroma}/api/v2/heartbeat",
        "https://localhost/stub_status",
    ),
    Attack("GET", "/metrics", ("Host: 127.0.0.1:{gateway}",)),
    Attack("GET", "/metrics", ("X-Forwarded-Host: 127.0.0.1:{gateway}", "X-Forwarded-Prefix: /prometheus")),
    Attack("GET", "/v1/models", ("X-Original-URL: /metrics", "X-Rewrite-URL: /metrics", "Authorization: Bearer ask_0")),
    Attack("GET", "/prometheus/metrics", _SPOOFED),
    Attack("GET", "/prometheus/metrics", ("X-Aistack-Edge: 0", "X-Original-URI: /health")),
    Attack("GET", "/prometheus/metrics", ("Upgrade: websocket", "Connection: Upgrade")),
    Attack("GET", "/prometheus/metrics", ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings")),
    Attack("GET", "/metrics", ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")),
    Attack("POST", "/prometheus/api/v1/admin/tsdb/snapshot"),
    Attack("POST", "/prometheus/-/quit"),
    Attack("OPTIONS", "/prometheus/metrics"),
    Attack("CONNECT", "127.0.0.1:{gateway}"),
    Attack("TRACE", "/v1/models"),
    Attack("GET", "/internal/authorize-admin", _SPOOFED),
    Attack("GET", "/internal/authorize-admin", ("X-Aistack-Edge: 0", *_UNDERSCORES)),
)  # fmt: skip
_HIDDEN = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
_SMUGGLED = (
    Attack("POST", "/v1/models", ("Content-Length: 4", "Transfer-Encoding: chunked"), f"0\r\n\r\n{_HIDDEN}"),
    Attack("POST", "/v1/models", ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"), f"0\r\n\r\n{_HIDDEN}"),
    Attack("POST", "/v1/models", ("Transfer-Encoding: xchunked",), f"0\r\n\r\n{_HIDDEN}"),
    Attack("POST", "/v1/models", ("Transfer-Encoding : chunked",), f"0\r\n\r\n{_HIDDEN}"),
    Attack("POST", "/v1/models", ("Transfer-Encoding:\x0bchunked",), f"0\r\n\r\n{_HIDDEN}"),
    Attack("POST", "/v1/models", ("Transfer-Encoding: chunked",), f"0;\n\r\n\r\n{_HIDDEN}"),
    Attack("POST", "/v1/models", ("Transfer-Encoding: chunked",), f"FFFFFFFFFFFFFFFF1\r\n{_HIDDEN}0\r\n\r\n"),
    Attack("POST", "/v1/models", ("Content-Length: 0", "Content-Length: 44"), _HIDDEN),
    Attack("POST", "/v1/models", ("Content-Length: +0",), _HIDDEN),
    Attack("POST", "/v1/models", ("Content-Length: 0, 44",), _HIDDEN),
    Attack("GET", "/v1/models", ("Content-Length: 0",), _HIDDEN),
    Attack("GET", "/v1/models", ("X-Fold: a\r\n X-Aistack-Edge: 0",), _HIDDEN),
    Attack("GET", "/v1/models HTTP/1.1\r\nX-Aistack-Edge: 0\r\nX-Rest:"),
    Attack("GET", "/v1/models%0d%0aX-Aistack-Edge:%200%0d%0a", ("Content-Length: 0",), _HIDDEN),
    Attack("GET", "/ws/socket.io/?EIO=4&transport=websocket", ("Upgrade: websocket", "Connection: Upgrade",
           "Sec-WebSocket-Version: 777", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), _HIDDEN),
)  # fmt: skip
_DEPARTURES = (
    "/chat/", "/chat//evil.example", "/chat///evil.example", "/chat/\\evil.example", "/chat/\\\\evil.example",
    "/chat/%2fevil.example", "/chat/%2f%2fevil.example", "/chat/%5cevil.example", "/chat/%5c%5cevil.example",
    "/chat/%09/evil.example", "/chat/%0d%0aLocation:%20https://evil.example", "/chat/https://evil.example",
    "/chat/https:/evil.example", "/chat/@evil.example", "/chat/.evil.example", "/chat/..//evil.example",
    "/chat/%2e%2e//evil.example", "/chat/;//evil.example", "/chat/?//evil.example", "/chat?//evil.example",
    "/chat/x?to=//evil.example", "//chat//evil.example", "/chat/ //evil.example", "/chat/\t//evil.example",
    "/prometheus//evil.example", "/prometheus?//evil.example", "https://evil.example/chat/x",
)  # fmt: skip


@pytest.fixture(scope="module")
def key(stack: RealStack) -> str:
    """A gateway API key."""
    return stack.key("hostile")


def _api(stack: RealStack, path: str, body: object = None, token: str = "") -> dict[str, str]:
    """A well-meant JSON request to Open WebUI."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(
        stack.url + path, None if body is None else json.dumps(body).encode(), headers=headers
    )
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile=stack.ca), timeout=30) as answer:
        found: dict[str, str] = json.load(answer)
        return found


@pytest.fixture(scope="module")
def administrator(stack: RealStack) -> dict[str, str]:
    """The administrator's session: `id`, `token`, `email` ..."""
    return _api(stack, "/api/v1/auths/signin", {"email": "admin@localhost", "password": stack.password})


@pytest.fixture(scope="module")
def user(stack: RealStack, administrator: dict[str, str]) -> dict[str, str]:
    """The session of an ordinary user, whom the administrator made."""
    account = {"name": "Uma", "email": "uma@example.com", "password": "correct horse 7", "role": "user"}
    _api(stack, "/api/v1/auths/add", account, administrator["token"])
    return _api(stack, "/api/v1/auths/signin", {"email": account["email"], "password": account["password"]})


@pytest.fixture(scope="module", params=["nobody", "key", "key as password", "user", "user by cookie", "both"])
def credential(request: pytest.FixtureRequest, key: str, user: dict[str, str]) -> tuple[str, ...]:
    """The credential headers of everybody who is not an administrator."""
    password = base64.b64encode(f"x:{key}".encode()).decode()
    return {
        "nobody": (),
        "key": (f"Authorization: Bearer {key}",),
        "key as password": (f"Authorization: Basic {password}",),
        "user": (f"Authorization: Bearer {user['token']}",),
        "user by cookie": (f"Cookie: token={user['token']}",),
        "both": (f"x-api-key: {key}", f"Authorization: Bearer {user['token']}"),
    }[request.param]


def _send(stack: RealStack, attack: Attack, credential: tuple[str, ...] = ()) -> bytes:
    """Everything that comes back until the connection ends, or nothing more comes for half a second."""
    smuggled = attack in _SMUGGLED
    lines = [f"{attack.method} {attack.target} HTTP/1.1", *credential]
    if not any(header.lower().startswith("host:") for header in attack.headers):
        lines.append(f"Host: localhost:{stack.settings['proxy.https_port']}")
    if not smuggled:
        lines += ["Connection: close"] if "Connection" not in str(attack.headers) else []
        lines += [f"Content-Length: {len(attack.body)}"] if attack.body else []
    text = "\r\n".join((*lines, *attack.headers)) + f"\r\n\r\n{attack.body}"
    for name, setting in {
        "{gateway}": "gateway.port", "{engine}": "engine.port", "{chroma}": "vectors.port",
        "{prometheus}": "monitoring.prometheus_port", "{status}": "proxy.status_port",
    }.items():  # fmt: skip
        text = text.replace(name, str(stack.settings[setting]))
    return exchange(stack, text.encode("latin-1"))


def exchange(stack: RealStack, raw: bytes) -> bytes:
    """Send `raw` through TLS as it is, and collect the answer."""
    context = ssl.create_default_context(cafile=stack.ca)
    plain = socket.create_connection(("localhost", int(str(stack.settings["proxy.https_port"]))), timeout=10)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(raw)
        received = b""
        with contextlib.suppress(TimeoutError, ConnectionError, ssl.SSLError):
            while part := connection.recv(65536):
                received += part
                # A second answer, to what was hidden, would come at once.
                connection.settimeout(0.5)
        return received


def _status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(found[1]) if found else 0


def _models(stack: RealStack) -> list[tuple[str, int, int]]:
    folder = stack.home / "data" / "models"
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def _is_page(answer: bytes) -> bool:
    """Open WebUI answers unknown paths with its page; it holds nothing that is not public."""
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    return b"content-type: text/html" in head and (not body or b"<!doctype html>" in body)


def _assert_harmless(answer: bytes) -> None:
    assert not _INSIDE.search(answer), answer[:2000]
    assert not 200 <= _status(answer) < 300 or _is_page(answer), answer[:2000]
    assert _status(answer) not in (500, 502, 504), answer[:2000]


@pytest.mark.parametrize("attack", _MANAGEMENT, ids=str)
def test_models_cannot_be_managed_from_outside(stack: RealStack, attack: Attack, credential: tuple[str, ...]) -> None:
    before = _models(stack)
    answer = _send(stack, attack, credential)
    _assert_harmless(answer)
    assert _models(stack) == before


@pytest.mark.parametrize("attack", _INTERNAL, ids=str)
def test_what_is_inside_cannot_be_reached(stack: RealStack, attack: Attack, credential: tuple[str, ...]) -> None:
    _assert_harmless(_send(stack, attack, credential))


@pytest.mark.parametrize("attack", _SMUGGLED, ids=str)
def test_a_request_cannot_hide_behind_another(stack: RealStack, attack: Attack, key: str) -> None:
    answer = _send(stack, attack, (f"Authorization: Bearer {key}",))
    assert answer
    assert not _INSIDE.search(answer), answer[:2000]


@pytest.mark.parametrize("target", _DEPARTURES)
def test_redirects_never_lead_off_the_site(stack: RealStack, target: str, credential: tuple[str, ...]) -> None:
    answer = _send(stack, Attack("GET", target), credential)
    assert _status(answer)
    assert not _INSIDE.search(answer)
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1")
    places = re.findall(r"(?im)^location:[ \t]*([^\r\n]*)", head)
    assert len(places) == (1 if _status(answer) in (301, 302, 303, 307, 308) else 0)
    for place in places:
        # As browsers do: what they drop or take for a slash.
        seen = re.sub(r"[\t\r\n]", "", place).replace("\\", "/").strip()
        assert urlsplit(urljoin(stack.url, seen)).hostname == "localhost", place


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "localhost@evil.example",
     "localhost:1.evil.example", "localhost:@evil.example", "evil.example#localhost", "",
     "localhost, evil.example", "_", "gateway", "chat", "prometheus"],
)  # fmt: skip
def test_another_host_name_is_served_nothing(stack: RealStack, host: str, credential: tuple[str, ...]) -> None:
    answer = _send(stack, Attack("GET", "/v1/models", (f"Host: {host}",)), credential)
    assert _status(answer) in (400, 421), answer[:500]


def test_a_host_name_with_a_false_port_is_not_repeated(stack: RealStack, key: str) -> None:
    for path in ("/", "/v1/models", "/chat/x", "/prometheus", "/api/config", "/manifest.json", "/opensearch.xml"):
        for host in ("localhost:1.evil.example", "localhost:@evil.example", "localhost:443evil.example"):
            attack = Attack("GET", path, (f"Host: {host}",))
            assert b"evil.example" not in _send(stack, attack, (f"Authorization: Bearer {key}",))


@pytest.mark.parametrize(
    "headers",
    [("Host: evil.example",), ("Host: localhost",), ("Authorization: Bearer ask_0",), ("x-api-key: ask_0",)],
    ids=str,
)
def test_headers_that_contradict_each_other_are_refused(stack: RealStack, headers: tuple[str, ...], key: str) -> None:
    port = stack.settings["proxy.https_port"]
    lines = [f"Host: localhost:{port}", f"Authorization: Bearer {key}", f"x-api-key: {key}", "Connection: close"]
    for order in ([*lines, *headers], [*headers, *lines]):
        answer = exchange(stack, "\r\n".join(["GET /v1/models HTTP/1.1", *order, "", ""]).encode())
        assert _status(answer) in (400, 401, 421), answer[:500]


def test_identity_headers_from_outside_name_nobody(stack: RealStack, key: str, user: dict[str, str]) -> None:
    for extra in (_SPOOFED, _UNDERSCORES, (*_SPOOFED, *_SPOOFED), (*_SPOOFED, "X-Aistack-Edge: 0")):
        bearer = f"Authorization: Bearer {user['token']}"
        own = _send(stack, Attack("GET", "/api/v1/auths/", extra), (bearer,))
        assert _status(own) == 200
        assert b'"email":"uma@example.com"' in own
        assert b'"role":"user"' in own
        assert _status(_send(stack, Attack("GET", "/api/v1/auths/", extra))) in (401, 403)
        assert _status(_send(stack, Attack("GET", "/api/v1/users/", extra), (bearer,))) in (401, 403)
        assert _status(_send(stack, Attack("GET", "/v1/models", extra))) in (400, 401)
        _assert_harmless(_send(stack, Attack("POST", "/ollama/api/pull", (_JSON, *extra), _MODEL), (bearer,)))
    for name in ("gateway", "chat"):
        log = (stack.home / "data" / "logs" / f"{name}.log").read_text(errors="replace")
        assert _STRANGER not in log


def test_the_internal_key_is_worth_nothing_from_outside(stack: RealStack) -> None:
    secret = (stack.home / "config" / "secrets" / "gateway-internal-key").read_text().strip()
    for credential in (f"Authorization: Bearer {secret}", f"x-api-key: {secret}"):
        for extra in ((), _SPOOFED, ("X-Aistack-Edge: 0",), _UNDERSCORES):
            for path in ("/v1/models", "/ollama/api/tags", "/metrics", "/prometheus/metrics", "/ollama/api/pull"):
                _assert_harmless(_send(stack, Attack("GET", path, extra), (credential,)))


def test_the_chat_fetches_nothing_from_inside_for_its_users(stack: RealStack, user: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        there = f"127.0.0.1:{trap.getsockname()[1]}"
        for place in (there, f"localhost:{there.rpartition(':')[2]}", f"[::ffff:7f00:1]:{there.rpartition(':')[2]}"):
            url = f"http://{place}/metrics"
            picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
            for path, body in (
                ("/api/v1/retrieval/process/web", {"url": url, "collection_name": "stolen"}),
                ("/api/v1/configs/tool_servers/verify", {"url": url, "path": "openapi.json", "type": "openapi"}),
                ("/ollama/verify", {"url": url}),
                ("/openai/verify", {"url": url, "key": ""}),
                ("/api/chat/completions", {"model": "demo", "messages": [picture]}),
            ):
                attack = Attack("POST", path, (_JSON,), json.dumps(body))
                answer = _send(stack, attack, (f"Authorization: Bearer {user['token']}",))
                assert not _INSIDE.search(answer)
        with pytest.raises(TimeoutError):
            trap.accept()


def test_the_gateway_fetches_no_pictures_for_a_key(stack: RealStack, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/metrics"
        content = [{"type": "image_url", "image_url": {"url": url}}]
        plain = json.dumps({"model": "demo", "max_tokens": 1, "messages": [{"role": "user", "content": content}]})
        for body in (plain, plain.replace("image_url", "image\\u005furl"), plain.replace("http:", "\\u0068ttp:")):
            attack = Attack("POST", "/v1/chat/completions", (_JSON,), body)
            answer = _send(stack, attack, (f"Authorization: Bearer {key}",))
            assert _status(answer) == 400
            assert b"data: URL" in answer
        with pytest.raises(TimeoutError):
            trap.accept()


def test_the_very_same_requests_work_for_whom_they_are_meant(
    stack: RealStack, key: str, user: dict[str, str], administrator: dict[str, str]
) -> None:
    """Else all the refusals above would prove nothing."""
    assert b'"demo"' in _send(stack, Attack("GET", "/v1/models"), (f"Authorization: Bearer {key}",))
    bearer = f"Authorization: Bearer {administrator['token']}"
    metrics = _send(stack, Attack("GET", "/prometheus/metrics"), (bearer,))
    assert _status(metrics) == 200
    assert _INSIDE.search(metrics)
    refused = _send(stack, Attack("GET", "/prometheus/metrics"), (f"Authorization: Bearer {user['token']}",))
    assert _status(refused) == 403
    # The built-in engine has no management over its API, which an administrator is told, and others are not.
    assert _status(_send(stack, Attack("POST", "/ollama/api/copy", (_JSON,), _MODEL), (bearer,))) not in (401, 403)
