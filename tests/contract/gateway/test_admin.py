"""The admin API against a running gateway: whoever has the scope `admin`, and nobody else, changes keys with it."""

import base64
import contextlib
import json
import re
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aistack.gateway.keys import KeyStore
from aistack.gateway.state import drained
from aistack.gateway.state.database import Database

from .conftest import INTERNAL_KEY
from .processes import Gateway, StartGateway, wait_for
from .scripted import ScriptedUpstream, response

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
KEYS = "/v1/admin/keys"
ANSWER = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}}


@pytest.fixture
def start(start_gateway: StartGateway, upstream: ScriptedUpstream) -> StartGateway:
    """Starts a gateway with one node, `only`."""
    upstream.answers[PATH] = [response(200, json.dumps(ANSWER).encode())]
    node = {"name": "only", "kind": "openai", "url": upstream.url}
    return lambda **more: start_gateway([node], **more)


class Admin:
    """Somebody with a key that has the scope `admin` and no other."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        store = KeyStore(gateway.database)
        self.plain, self.key = store.create("root", None, {"scopes": ["admin"]})
        store.close()
        self.headers = {"Authorization": f"Bearer {self.plain}"}

    def ask(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        found, _, answer = self.gateway.ask(method, path, body, self.headers)
        assert found == status, answer
        return json.loads(answer)

    def refused(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        found, _, answer = self.gateway.ask(method, path, body, self.headers)
        return found, json.loads(answer)["error"]


def with_key(gateway: Gateway, plain: str, path: str = "/v1/models", body: Any = None) -> int:
    return gateway.ask("POST" if body else "GET", path, body, {"Authorization": f"Bearer {plain}"})[0]


def test_every_change_counts_for_the_very_next_request(start: StartGateway) -> None:
    gateway = start()
    admin = Admin(gateway)
    for number in range(10):
        made = admin.ask("POST", KEYS, {"name": f"key{number}"})
        assert with_key(gateway, made["key"], PATH, CHAT) == 200
        admin.ask("PATCH", f"{KEYS}/{made['id']}", {"scopes": ["embed"]})
        assert with_key(gateway, made["key"], PATH, CHAT) == 403
        turned = admin.ask("POST", f"{KEYS}/{made['id']}/rotate")
        assert (with_key(gateway, made["key"]), with_key(gateway, turned["key"])) == (401, 200)
        admin.ask("DELETE", f"{KEYS}/{made['id']}")
        assert with_key(gateway, turned["key"]) == 401


def test_a_key_is_made_shown_changed_and_revoked_with_all_its_terms(start: StartGateway) -> None:
    admin = Admin(start())
    terms = {
        "owner": "ada", "scopes": ["embed", "chat"], "models": ["m:latest"], "expires": "2999-12-31T18:00:00+01:00",
        "weight": 2, "limits": {"requests_per_minute": 5, "tokens_per_day": 0},
    }  # fmt: skip
    made = admin.ask("POST", KEYS, {"name": "laptop", **terms})
    assert re.fullmatch(r"ask_[0-9A-Za-z]{43}", made.pop("key"))
    assert made == {
        **terms, "id": made["id"], "name": "laptop", "scopes": ["chat", "embed"], "models": ["m"],
        "expires": "2999-12-31T17:00:00+00:00", "created": made["created"], "revoked": None, "old_secret_until": None,
    }  # fmt: skip
    assert admin.ask("GET", f"{KEYS}/{made['id']}") == admin.ask("GET", f"{KEYS}/laptop") == made
    change = {"name": "desk", "models": None, "expires": None, "limits": {"tokens_per_day": None}}
    changed = admin.ask("PATCH", f"{KEYS}/laptop", change)
    assert changed == {
        **made, "name": "desk", "models": None, "expires": None, "limits": {"requests_per_minute": 5}
    }  # fmt: skip
    revoked = admin.ask("DELETE", f"{KEYS}/desk")
    assert revoked["revoked"]
    assert admin.refused("GET", f"{KEYS}/desk") == (
        404, {"message": "there is no live key called 'desk'", "type": "not_found_error", "param": None,
              "code": "key_not_found"},
    )  # fmt: skip
    listed = admin.ask("GET", KEYS)
    assert [key["name"] for key in listed["data"]] == ["tests", "root", "desk"]
    assert listed["data"][-1] == revoked
    assert "ask_" not in json.dumps(listed)


def test_an_old_secret_works_as_long_as_the_rotation_says(start: StartGateway) -> None:
    gateway = start()
    admin = Admin(gateway)
    made = admin.ask("POST", KEYS, {"name": "laptop"})
    turned = admin.ask("POST", f"{KEYS}/laptop/rotate", {"overlap_seconds": 3600})
    assert turned["old_secret_until"]
    assert (with_key(gateway, made["key"]), with_key(gateway, turned["key"])) == (200, 200)


@pytest.mark.parametrize(
    ("body", "param", "said"),
    [
        ({}, "name", "name"), ({"name": "a\nb"}, "name", "line of printable"),
        ({"name": "x" * 201}, "name", "name is 201 characters long"),
        ({"name": "x", "owner": 5}, "owner", "owner must be a line"),
        ({"name": "x", "owner": "a" * 300}, "owner", "owner is 300"),
        ({"name": "x", "scopes": ["root"]}, "scopes", "there are: chat"),
        ({"name": "x", "models": []}, "models", "list"),
        ({"name": "x", "expires": "2999-01-01T00:00:00"}, "expires", "time zone"),
        ({"name": "x", "expires": 5}, "expires", "future"), ({"name": "x", "weight": "1"}, "weight", "0.01"),
        ({"name": "x", "limits": {"tokens_per_day": -1}}, "limits.tokens_per_day", "whole number"),
        ({"name": "x", "limits": {"tokens": 1}}, "limits.tokens", "tokens_per_day"),
        ({"name": "x", "limits": 5}, "limits", "object"), ({"name": "x", "colour": 1}, "colour", "owner"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_the_field_named(
    over_engine: Gateway, body: Any, param: str, said: str, lasting: Admin
) -> None:
    status, error = lasting.refused("POST", KEYS, body)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert said in error["message"]


@pytest.fixture(scope="module")
def lasting(over_engine: Gateway) -> Admin:
    return Admin(over_engine)


def test_a_body_that_is_none_is_refused_and_a_name_can_be_had_once(lasting: Admin) -> None:
    assert lasting.refused("POST", KEYS)[0] == 400
    assert lasting.refused("POST", KEYS, b"[1]")[0] == 400
    assert lasting.refused("POST", f"{KEYS}/tests/rotate", {"overlap": "7d"})[1]["param"] == "overlap"
    status, error = lasting.refused("POST", KEYS, {"name": "tests"})
    assert (status, error["code"], error["param"]) == (409, "name_taken", "name")
    assert lasting.refused("PATCH", f"{KEYS}/nobody", {"weight": 2})[0] == 404
    assert lasting.refused("DELETE", f"{KEYS}/nobody%00")[0] == 404


OPERATIONS = pytest.mark.parametrize(
    ("method", "path"),
    [("GET", KEYS), ("POST", KEYS), ("GET", f"{KEYS}/tests"), ("PATCH", f"{KEYS}/tests"), ("DELETE", f"{KEYS}/tests"),
     ("POST", f"{KEYS}/tests/rotate"), ("GET", "/v1/admin/usage"), ("GET", "/v1/admin/nodes"),
     ("POST", "/v1/admin/nodes/local/drain"), ("POST", "/v1/admin/nodes/local/resume")],
)  # fmt: skip


@OPERATIONS
def test_nobody_else_may(over_engine: Gateway, method: str, path: str) -> None:
    person = {
        "Authorization": f"Bearer {INTERNAL_KEY}", "X-OpenWebUI-User-Id": "4f2a", "X-OpenWebUI-User-Role": "admin",
    }  # fmt: skip
    for headers in (None, person, {"Authorization": f"Bearer {INTERNAL_KEY}"}):
        status, _, body = over_engine.ask(method, path, {} if method in ("POST", "PATCH") else None, headers)
        assert (status, json.loads(body)["error"]["code"]) == (403, "insufficient_scope")
    status, headers, _ = over_engine.ask(method, path, headers={})
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="aistack"')


@OPERATIONS
@pytest.mark.parametrize("scheme", ["Basic", " basic"])
def test_what_a_browser_keeps_and_adds_by_itself_is_refused(
    over_engine: Gateway, method: str, path: str, scheme: str, lasting: Admin
) -> None:
    pair = base64.b64encode(f"ada:{lasting.plain}".encode()).decode()
    body = b"{}" if method in ("POST", "PATCH") else None
    status, headers, answer = over_engine.ask(method, path, body, {"Authorization": f"{scheme} {pair}"})
    assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="aistack"')
    assert "takes no Basic credentials" in json.loads(answer)["error"]["message"]


def test_a_key_that_administrates_may_not_chat_for_that(lasting: Admin) -> None:
    assert lasting.refused("POST", PATH, {**CHAT, "model": "demo"})[0] == 403


def test_while_the_database_is_busy_changes_are_503_and_others_are_served(start: StartGateway) -> None:
    gateway = start()
    admin = Admin(gateway)
    connection = sqlite3.connect(gateway.database, isolation_level=None)
    with contextlib.closing(connection) as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN IMMEDIATE")
        change = pool.submit(gateway.ask, "POST", KEYS, {"name": "laptop"}, admin.headers)
        served = 0
        while not change.done():
            assert gateway.ask("POST", PATH, CHAT)[0] == 200
            served += 1
        other.execute("ROLLBACK")
    status, headers, body = change.result()
    assert (status, json.loads(body)["error"]["code"]) == (503, "database_unavailable")
    assert int(headers["retry-after"]) > 0
    assert str(gateway.database) not in body.decode()
    assert served > 10
    assert (
        'aistack_gateway_refusals_total{reason="database_unavailable"} 1.0'
        in gateway.ask("GET", "/metrics")[2].decode()
    )
    assert "an administrator's request failed: cannot use the gateway's database" in gateway.log.read_text()


def test_the_logs_say_who_did_what_to_which_key_and_never_a_secret(start: StartGateway, tmp_path: Path) -> None:
    gateway = start(audit={"file": str(tmp_path / "audit.jsonl"), "prompts": True, "max_mb": 1, "keep": 1})
    admin = Admin(gateway)
    made = admin.ask("POST", KEYS, {"name": "laptop", "weight": 2})
    admin.ask("PATCH", f"{KEYS}/laptop", {"owner": "ada"})
    turned = admin.ask("POST", f"{KEYS}/laptop/rotate")
    admin.ask("POST", "/v1/admin/nodes/only/drain")
    admin.ask("DELETE", f"{KEYS}/laptop")
    admin.refused("DELETE", f"{KEYS}/laptop")
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(20)
    text = (tmp_path / "audit.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    key = {"key": made["id"], "name": "laptop"}
    assert [line["changed"] for line in lines] == [
        {"action": "keys.create", **key, "terms": {"name": "laptop", "weight": 2}},
        {"action": "keys.update", **key, "terms": {"owner": "ada"}},
        {"action": "keys.rotate", **key},
        {"action": "nodes.drain", "node": "only"},
        {"action": "keys.revoke", **key},
        {"action": "keys.revoke", "key": "laptop"},
    ]
    assert {(line["who"], line["surface"]) for line in lines} == {(f"key:{admin.key.id}", "admin")}
    assert [line["outcome"] for line in lines[-2:]] == ["ok", "key_not_found"]
    log = gateway.log.read_text()
    assert f"key:{admin.key.id} (root): keys.revoke {made['id']} (laptop)" in log
    for secret in (made["key"], turned["key"]):
        assert secret not in text + log


def test_a_node_is_drained_and_resumed_for_the_very_next_request(start: StartGateway) -> None:
    gateway = start()
    admin = Admin(gateway)
    nodes = admin.ask("GET", "/v1/admin/nodes")["data"]
    assert [(node["name"], node["state"], node["only_here"]) for node in nodes] == [("only", "ready", ["m"])]
    for _ in range(5):
        assert admin.ask("POST", "/v1/admin/nodes/only/drain")["state"] == "draining"
        status, headers, _ = gateway.ask("POST", PATH, CHAT)
        assert (status, headers["retry-after"]) == (503, "30")
        assert json.loads(gateway.ask("GET", "/v1/models")[2])["data"] == []
        assert admin.ask("POST", "/v1/admin/nodes/only/resume")["state"] == "ready"
        assert gateway.ask("POST", PATH, CHAT)[0] == 200
    status, error = admin.refused("POST", "/v1/admin/nodes/other/drain")
    assert (status, error["code"]) == (404, "node_not_found")
    assert "only" in error["message"]


def test_a_drained_node_that_is_none_any_more_is_listed_until_it_is_resumed(start: StartGateway) -> None:
    gateway = start()
    admin = Admin(gateway)
    with contextlib.closing(Database(gateway.database)) as database:
        drained.drain(database, "gone")
    states = {"only": "ready", "gone": "removed"}

    def told() -> dict[str, str]:
        return {node["name"]: node["state"] for node in admin.ask("GET", "/v1/admin/nodes")["data"]}

    wait_for(lambda: told() == states, "the gateway to heed it")
    assert admin.refused("POST", "/v1/admin/nodes/gone/drain")[0] == 404
    assert admin.ask("POST", "/v1/admin/nodes/gone/resume")["state"] == "removed"
    assert list(told()) == ["only"]
    assert admin.refused("POST", "/v1/admin/nodes/gone/resume")[0] == 404


def test_usage_is_what_the_command_shows(start: StartGateway) -> None:
    gateway = start()
    admin = Admin(gateway)
    gateway.ask("POST", PATH, CHAT)
    wait_for(lambda: bool(admin.ask("GET", "/v1/admin/usage?by=model&since=1d")["data"]), "the usage")
    line = {"id": "m", "name": "m", "requests": 1, "prompt_tokens": 30, "completion_tokens": 12}
    assert admin.ask("GET", "/v1/admin/usage?by=model") == {"object": "list", "data": [line]}
    assert admin.ask("GET", "/v1/admin/usage?by=key&until=2020-01-01")["data"] == []
    assert [line["name"] for line in admin.ask("GET", "/v1/admin/usage?by=key")["data"]] == ["tests"]
    assert admin.refused("GET", "/v1/admin/usage?by=colour")[1]["param"] == "by"
    assert admin.refused("GET", "/v1/admin/usage?since=yesterday")[1]["param"] == "since"
    status, error = admin.refused("GET", "/v1/admin/usage?by=key&untill=2020-01-01")
    assert (status, error["param"], error["message"]) == (
        400, "untill", "there is no 'untill' here; there are: by, since, until"
    )  # fmt: skip


def test_a_key_that_was_revoked_on_the_server_is_refused_as_soon_as_the_command_has_ended(start: StartGateway) -> None:
    gateway = start()
    store = KeyStore(gateway.database)
    plain, key = store.create("laptop")
    store.close()
    command = "import sys; from aistack.gateway.keys import KeyStore; KeyStore(sys.argv[1]).revoke(sys.argv[2])"
    assert with_key(gateway, plain) == 200
    subprocess.run([sys.executable, "-c", command, gateway.database, key.id], check=True)
    assert with_key(gateway, plain) == 401
