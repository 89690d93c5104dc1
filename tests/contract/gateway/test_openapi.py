"""Schemathesis, which makes requests up from our OpenAPI document, finds nothing that breaks the gateway."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from aistack.gateway.allowances import SCOPES
from aistack.gateway.description.document import document
from aistack.gateway.keys import KeyStore
from aistack.gateway.routes import PATHS

from .processes import Gateway, StartGateway

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# A made-up name would be 404 and tell nothing; what each operation needs is one of these.
MODELS = {"embed": "tiny-embed", "rerank": "tiny-rerank"}
# They ask what is not there in these tests, or are not for keys: no engine is Ollama, and there is no chat.
OUTSIDE = ("/internal/authorize-admin",)

DOCUMENT = json.dumps(document(PATHS))
# Without the part on credentials, of which it would make up some too, and get no further than 401.
API = schemathesis.openapi.from_dict({**json.loads(DOCUMENT), "security": []})
OPERATIONS = [found.ok() for found in API.get_all_operations() if found.ok().path not in OUTSIDE]


def prepared(case: Any) -> Any:
    """The case with a model that there is, and an answer that nobody waits long for."""
    if isinstance(case.body, dict):
        if isinstance(case.body.get("model"), str):
            kind = next((kind for kind in MODELS if kind in case.path), "")
            case.body["model"] = MODELS.get(kind, "demo")
        for name in ("max_tokens", "max_output_tokens"):
            if isinstance(case.body.get(name), int):
                case.body[name] = min(case.body[name], 16)
    return case


@pytest.fixture(scope="module")
def gateway(start_lasting_gateway: StartGateway, engine: str) -> Gateway:
    """One of its own: its keys come and go, and its node is drained and resumed."""
    return start_lasting_gateway([{"name": "local", "kind": "llamacpp", "url": engine}])


@pytest.fixture
def named(gateway: Gateway) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """The credentials of an administrator, and what the names in paths stand for in a part of the cases."""
    store = KeyStore(gateway.database)
    plain, admin = store.create("administrator", None, {"scopes": list(SCOPES)})
    _, spare = store.create("spare")
    yield {"Authorization": f"Bearer {plain}"}, {"id": spare.id, "name": "local"}
    live = {key.id for key in store.list() if key.revoked_at is None}
    for name in live & {admin.id, spare.id}:
        store.revoke(name)
    store.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_an_operation_answers_as_it_is_described_whatever_it_is_sent(
    operation: Any, gateway: Gateway, named: tuple[dict[str, str], dict[str, str]]
) -> None:
    headers, names = named
    counted = itertools.count()
    wellformed = operation.as_strategy()
    mistaken = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(wellformed if operation.body is None else wellformed | mistaken)
    def answers(case: Any) -> None:
        for name in (case.path_parameters or {}) if operation.path.startswith("/v1/admin/") else ():
            if next(counted) % 3:
                case.path_parameters[name] = names[name]
        response = prepared(case).call(base_url=gateway.url, headers=headers)
        case.validate_response(response, checks=CHECKS)

    answers()


def test_the_document_and_the_page_are_served_to_all(over_engine: Gateway) -> None:
    status, headers, body = over_engine.ask("GET", "/openapi.json", headers={"X-Aistack-Edge": "1"})
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == json.loads(DOCUMENT)
    status, headers, body = over_engine.ask("GET", "/docs", headers={"X-Aistack-Edge": "1"})
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"/v1/messages" in body
