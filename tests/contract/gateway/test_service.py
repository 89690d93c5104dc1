"""The gateway as a service: health, keys, administrators, its log, and how it starts and stops."""

import base64
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import openai
import pytest

from aistack.gateway.keys import KeyStore

from .conftest import INTERNAL_KEY
from .processes import Gateway, StartGateway, wait_for
from .scripted import ScriptedUpstream, chunk, event, response, stream_head


def test_a_revoked_key_is_refused_at_once_and_a_new_one_let_in(over_engine: Gateway) -> None:
    store = KeyStore(over_engine.database)
    plain, key = store.create("short-lived")

    def status() -> int:
        return over_engine.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {plain}"})[0]

    # Which is to say: within a millisecond.
    wait_for(lambda: status() == 200, "the new key", 1)
    store.revoke(key.id)
    wait_for(lambda: status() == 401, "the end of the key", 1)
    store.close()


def test_an_answer_does_not_tell_what_is_wrong_with_a_key(over_engine: Gateway) -> None:
    store = KeyStore(over_engine.database)
    expires_at = time.time() + 0.5
    revoked, _ = store.create("revoked")
    expired, _ = store.create("expired", None, {"expires_at": expires_at})
    store.revoke("revoked")
    store.close()
    wait_for(lambda: time.time() > expires_at, "the key to expire")
    altered = over_engine.key[:-1] + ("b" if over_engine.key.endswith("a") else "a")
    told = set()
    for key in ("ask_" + "0" * 43, altered, revoked, expired):
        status, headers, body = over_engine.ask("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
        # These two are no request's like another's.
        del headers["date"], headers["x-request-id"]
        told.add((status, tuple(headers.items()), body))
    ((status, _, _),) = told
    assert status == 401


@pytest.mark.parametrize("form", ["bearer", "basic", "x-api-key"])
def test_a_key_is_taken_in_three_forms(over_engine: Gateway, form: str) -> None:
    pair = base64.b64encode(f"anybody:{over_engine.key}".encode()).decode()
    headers = {
        "bearer": {"Authorization": f"Bearer {over_engine.key}"},
        "basic": {"Authorization": f"Basic {pair}"},
        "x-api-key": {"X-Api-Key": over_engine.key},
    }[form]
    assert over_engine.ask("GET", "/ollama/api/tags", headers=headers)[0] == 200


def test_the_log_has_one_line_a_request_without_secrets_or_prompts(over_engine: Gateway) -> None:
    prompt = {
        "model": "demo",
        "messages": [{"role": "user", "content": "the-secret-prompt"}],
        "max_tokens": 1,
    }
    over_engine.ask("POST", "/v1/chat/completions?token=secret-in-query", prompt)
    wait_for(lambda: "POST /v1/chat/completions 200" in over_engine.log.read_text(), "the log line")
    log = over_engine.log.read_text()
    line = next(line for line in log.splitlines() if "POST /v1/chat/completions 200" in line)
    assert " key:k" in line
    assert line.endswith(" demo")
    for secret in (over_engine.key, INTERNAL_KEY, "the-secret-prompt", "secret-in-query"):
        assert secret not in log


def test_the_chat_is_told_only_of_models_that_talk(over_engine: Gateway) -> None:
    def names(headers: dict[str, str] | None = None) -> set[str]:
        listed = json.loads(over_engine.ask("GET", "/ollama/api/tags", headers=headers)[2])["models"]
        return {entry["name"] for entry in listed}

    assert names() - names({"Authorization": f"Bearer {INTERNAL_KEY}"}) == {"tiny-embed:latest", "tiny-rerank:latest"}


def test_a_user_of_the_chat_is_named_in_the_log(over_engine: Gateway) -> None:
    headers = {
        "Authorization": f"Bearer {INTERNAL_KEY}",
        "X-OpenWebUI-User-Id": "4f2a",
        "X-OpenWebUI-User-Name": "Zo%C3%AB",
        "X-OpenWebUI-User-Role": "user",
    }
    assert over_engine.ask("GET", "/ollama/api/ps", headers=headers)[0] == 200
    wait_for(lambda: "user:4f2a" in over_engine.log.read_text(), "the log line")


def test_health_tells_no_model_names_and_metrics_are_not_for_the_outside(over_engine: Gateway) -> None:
    outside = {"X-Aistack-Edge": "1"}
    assert over_engine.ask("GET", "/health", headers=outside)[2] == b'{"status":"ok"}'
    assert over_engine.ask("GET", "/metrics", headers=outside)[0] == 403
    status, headers, body = over_engine.ask("GET", "/metrics", headers={})
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"aistack_gateway_first_byte_seconds_bucket" in body
    over_engine.ask("POST", "/v1/chat/completions", {"model": "no-such-model"})
    assert b"no-such-model" not in over_engine.ask("GET", "/metrics", headers={})[2]


def test_a_body_that_is_too_large_is_413(over_engine: Gateway) -> None:
    status, _, body = over_engine.ask("POST", "/v1/chat/completions", b" " * (1 << 20) + b"{}")
    assert status == 413
    assert "1 MB" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    ("credential", "role", "expected"),
    [
        ({"Cookie": "theme=dark; token=TOKEN"}, "admin", 204),
        ({"Authorization": "Bearer TOKEN"}, "admin", 204),
        ({"Cookie": "token=TOKEN"}, "user", 403),
        ({"Cookie": "token=TOKEN"}, None, 401),
        ({"Cookie": "token=TOKEN; token=other"}, "admin", 401),
        ({"Authorization": "Bearer ask_x"}, "admin", 401),
        ({}, "admin", 401),
    ],
)
def test_only_an_administrator_of_the_chat_is_authorized(
    over_scripted_openai: Gateway,
    upstream: ScriptedUpstream,
    credential: dict[str, str],
    role: str | None,
    expected: int,
) -> None:
    user = response(200, json.dumps({"role": role}).encode()) if role else response(401, b"{}")
    upstream.answers["/api/v1/auths/"] = [user]
    token = f"jwt-{uuid.uuid4()}"
    outside = {name: value.replace("TOKEN", token) for name, value in credential.items()}
    outside["X-Aistack-Edge"] = "1"
    for _ in range(2):
        status, _, _ = over_scripted_openai.ask("GET", "/internal/authorize-admin", headers=outside)
        assert status == expected
    asked = [head.lower() for head, _ in upstream.requests if "/auths/" in head]
    # A yes is remembered for some seconds, a no is not.
    assert len(asked) == {204: 1, 403: 2, 401: 2 if role is None else 0}[expected]
    assert all(f"authorization: bearer {token}\r\n" in head for head in asked)


def test_nobody_is_authorized_while_the_chat_does_not_answer(start_gateway: StartGateway) -> None:
    gateway = start_gateway([])
    status, _, _ = gateway.ask("GET", "/internal/authorize-admin", headers={"Cookie": "token=jwt"})
    assert status == 503


def test_a_stop_lets_a_stream_finish(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway([{"name": "n", "kind": "openai", "url": upstream.url}])
    go_on = threading.Event()
    one = event(choices=[{"index": 0, "delta": {"content": "one"}}])
    upstream.answers["/v1/chat/completions"] = [
        stream_head(), chunk(one), go_on, chunk(one + b"data: [DONE]\n\n"), chunk(b""),
    ]  # fmt: skip
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        next(stream)
        gateway.process.send_signal(signal.SIGTERM)
        wait_for(lambda: _refuses(gateway), "the gateway to take no more connections")
        go_on.set()
        assert len(list(stream)) == 1
    assert gateway.process.wait(20) == 0
    assert "POST /v1/chat/completions 200" in gateway.log.read_text()


def test_a_stop_waits_only_so_long(start_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    gateway = start_gateway([{"name": "n", "kind": "openai", "url": upstream.url}])
    one = event(choices=[{"index": 0, "delta": {"content": "one"}}])
    upstream.answers["/v1/chat/completions"] = [stream_head(), chunk(one), threading.Event()]
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        next(stream)
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0
        assert time.monotonic() - started < 15
        stream.close()


def _refuses(gateway: Gateway) -> bool:
    try:
        gateway.ask("GET", "/health/live")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("mistake", ["port", "internal_key_file", "kind", "json"])
def test_a_start_that_cannot_be_says_why_and_exits_1(over_engine: Gateway, tmp_path: Path, mistake: str) -> None:
    settings = json.loads((over_engine.database.parent / "settings.json").read_text())
    expected = {
        "port": "cannot listen",
        "internal_key_file": "/nowhere",
        "kind": "'magic'",
        "json": "settings",
    }
    if mistake == "port":
        settings["port"] = int(over_engine.url.rpartition(":")[2])
    elif mistake == "internal_key_file":
        settings["internal_key_file"] = "/nowhere"
    elif mistake == "kind":
        settings["nodes"][0]["kind"] = "magic"
    file = tmp_path / "settings.json"
    file.write_text("{" if mistake == "json" else json.dumps(settings))
    done = subprocess.run(
        [sys.executable, "-m", "aistack.gateway", "--settings", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert expected[mistake] in done.stderr
    assert "Traceback" not in done.stderr
