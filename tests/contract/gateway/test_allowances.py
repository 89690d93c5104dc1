"""What keys and people may do and how much, and that what they used is counted: against a running gateway."""

import json
import signal
from typing import Any

import pytest

from aistack.gateway.keys import KeyStore
from aistack.gateway.state.database import Database
from aistack.gateway.usage_report import Line, report

from .conftest import INTERNAL_KEY
from .processes import Gateway, StartGateway, wait_for
from .scripted import ScriptedUpstream, response

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"
ANSWER = {"choices": [], "usage": {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}}


@pytest.fixture
def server(upstream: ScriptedUpstream) -> ScriptedUpstream:
    embedded = {"data": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    for path, answer in ((PATH, ANSWER), ("/v1/embeddings", embedded)):
        upstream.answers[path] = [response(200, json.dumps(answer).encode())]
    return upstream


def start(start_gateway: StartGateway, server: ScriptedUpstream, **settings: Any) -> Gateway:
    return start_gateway([{"name": "only", "kind": "openai", "url": server.url}], **settings)


def key(gateway: Gateway, **terms: Any) -> dict[str, str]:
    store = KeyStore(gateway.database)
    plain, _ = store.create(f"key{len(store.list())}", "ada", terms)
    store.close()
    headers = {"Authorization": f"Bearer {plain}"}
    wait_for(lambda: gateway.ask("GET", "/v1/models", None, headers)[0] == 200, "the key to be known")
    return headers


def person(role: str = "user", name: str = "u1") -> dict[str, str]:
    return {
        "Authorization": f"Bearer {INTERNAL_KEY}", "X-OpenWebUI-User-Id": name, "X-OpenWebUI-User-Name": name,
        "X-OpenWebUI-User-Role": role,
    }  # fmt: skip


def test_a_key_may_do_what_its_scopes_say(start_gateway: StartGateway, server: ScriptedUpstream) -> None:
    gateway = start(start_gateway, server)
    only_embed = key(gateway, scopes=["embed"])
    status, _, body = gateway.ask("POST", PATH, CHAT, only_embed)
    assert (status, b"insufficient_scope" in body) == (403, True)
    assert gateway.ask("POST", "/ollama/api/chat", CHAT, only_embed)[0] == 403
    assert gateway.ask("POST", "/v1/embeddings", {"model": "m", "input": "x"}, only_embed)[0] == 200
    assert gateway.ask("GET", "/v1/models", None, only_embed)[0] == 200


def test_a_key_finds_only_the_models_that_it_may_use(start_gateway: StartGateway, server: ScriptedUpstream) -> None:
    gateway = start(start_gateway, server)
    other = key(gateway, models=["other"])
    assert gateway.ask("POST", PATH, CHAT, other)[0] == 404
    assert gateway.ask("POST", PATH, CHAT, key(gateway, models=["m"]))[0] == 200


def test_a_request_too_many_is_429_and_says_when_to_come_again(
    start_gateway: StartGateway, server: ScriptedUpstream
) -> None:
    gateway = start(start_gateway, server, limits={"keys": {"requests_per_minute": 2}})
    status, headers, _ = gateway.ask("POST", PATH, CHAT)
    assert (status, headers["x-ratelimit-remaining-requests"]) == (200, "1")
    assert gateway.ask("POST", PATH, CHAT)[0] == 200
    status, headers, body = gateway.ask("POST", PATH, CHAT)
    assert (status, b"requests_per_minute" in body, int(headers["retry-after"]) > 0) == (429, True, True)
    # Another key's requests are its own, and a limit of its own wins over the site's.
    free = key(gateway, requests_per_minute=0)
    assert all(gateway.ask("POST", PATH, CHAT, free)[0] == 200 for _ in range(4))
    assert 'refusals_total{reason="requests_per_minute"} 1.0' in gateway.ask("GET", "/metrics")[2].decode()


def test_people_have_limits_of_their_own_by_role_which_a_reload_changes(
    start_gateway: StartGateway, server: ScriptedUpstream
) -> None:
    limits: dict[str, Any] = {"people": {"tokens_per_day": 40}, "roles": {"admin": {"tokens_per_day": 0}}}
    gateway = start(start_gateway, server, limits=limits)
    assert [gateway.ask("POST", PATH, CHAT, person())[0] for _ in range(2)] == [200, 429]
    assert gateway.ask("POST", PATH, CHAT, person(name="u2"))[0] == 200
    assert [gateway.ask("POST", PATH, CHAT, person("admin", "u3"))[0] for _ in range(3)] == [200, 200, 200]
    gateway.change(limits={"people": {"tokens_per_day": 1000}})
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: gateway.ask("POST", PATH, CHAT, person())[0] == 200, "the new limit")


def test_what_was_used_is_in_the_database_when_the_gateway_has_stopped(
    start_gateway: StartGateway, server: ScriptedUpstream
) -> None:
    gateway = start(start_gateway, server)
    laptop = key(gateway)
    for headers in (laptop, laptop, person()):
        assert gateway.ask("POST", PATH, CHAT, headers)[0] == 200
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(20)
    database = Database(gateway.database)
    assert report(database, "model") == (Line("m", "m", 3, 90, 36),)
    assert report(database, "user") == (Line("ada", "ada", 2, 60, 24), Line("user:u1", "u1", 1, 30, 12))
    database.close()


def test_tokens_of_the_day_are_remembered_over_a_restart(start_gateway: StartGateway, server: ScriptedUpstream) -> None:
    limits = {"people": {"tokens_per_day": 40}}
    gateway = start(start_gateway, server, limits=limits)
    assert gateway.ask("POST", PATH, CHAT, person())[0] == 200
    gateway.process.send_signal(signal.SIGTERM)
    gateway.process.wait(20)
    again = start(start_gateway, server, limits=limits, database=str(gateway.database))
    assert gateway.url != again.url
    assert again.ask("POST", PATH, CHAT, person())[0] == 429
