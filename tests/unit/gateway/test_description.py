import re
from typing import Any

import jsonschema_rs
import pytest

from aistack.gateway.description.document import OPERATIONS, described_as, document
from aistack.gateway.description.page import page
from aistack.gateway.routes import PATHS, Route, find

DOCUMENT = document(PATHS)
NAMED = {
    described_as(route, method)
    for _, route in PATHS
    for method in route.methods
    if method != "HEAD" or "GET" not in route.methods
}


def refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        found = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return found.union(*(refs(inner) for inner in value.values()))
    return set().union(*(refs(inner) for inner in value)) if isinstance(value, list) else set()


def test_every_operation_is_described_and_no_other() -> None:
    assert set(OPERATIONS) == NAMED


@pytest.mark.parametrize(("path", "route"), PATHS, ids=str)
def test_every_path_that_is_described_is_served_with_its_methods(path: str, route: Route) -> None:
    match = find(path.replace("{id}", "acme/x:1").replace("{name}", "gpu2").replace("{digest}", "sha256:00"))
    assert match is not None
    assert match.route == route
    described = {method.upper() for method in DOCUMENT["paths"][path] if method != "parameters"}
    assert described == {method for method in route.methods if method != "HEAD" or "GET" not in route.methods}


def test_every_schema_that_is_named_is_there_and_every_one_there_is_named() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert refs(DOCUMENT) == {f"#/components/schemas/{name}" for name in schemas}


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [
        operation["operationId"]
        for operations in DOCUMENT["paths"].values()
        for method, operation in operations.items()
        if method != "parameters"
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("named", list(OPERATIONS), ids=str)
def test_every_example_is_what_it_is_an_example_of(named: Any) -> None:
    described = OPERATIONS[named]
    if described.example is None:
        # What an operation takes is shown, but for those that no key may use.
        assert described.request is None or find(f"/ollama/api/{named[1]}").route.management  # type: ignore[union-attr]
        return
    schema = {**described.request, "components": DOCUMENT["components"]}  # type: ignore[dict-item]
    jsonschema_rs.validator_for(schema).validate(described.example)


def test_the_page_tells_of_every_operation_and_has_nothing_from_elsewhere() -> None:
    text = page(DOCUMENT).decode()
    for path, _ in PATHS:
        assert f"</span> {path}</code>" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!#|/openapi\.json")', text)
    assert not re.search(r"url\(|@import", text)
    links = set(re.findall(r'href="#([^"]+)"', text))
    assert links <= set(re.findall(r'id="([^"]+)"', text))


def test_what_the_page_says_is_escaped() -> None:
    dangerous = {**DOCUMENT, "info": {**DOCUMENT["info"], "title": "<b>", "description": "`<i>` & <u>"}}
    text = page(dangerous).decode()
    assert "<b>" not in text
    assert "<code>&lt;i&gt;</code> &amp; &lt;u&gt;" in text


def test_basic_credentials_are_not_described_for_administration() -> None:
    keys = DOCUMENT["paths"]["/v1/admin/keys"]["post"]
    assert {name for way in keys["security"] for name in way} == {"bearer", "key"}
    assert {"basic": []} in DOCUMENT["security"]


def query_of(path: str) -> dict[str, str]:
    parameters = DOCUMENT["paths"][path]["get"]["parameters"]
    return {found["name"]: found["schema"].get("description", "") for found in parameters if found["in"] == "query"}


def test_what_may_follow_a_question_mark_is_described() -> None:
    assert set(query_of("/v1/models")) == {"limit", "after_id", "before_id", "lifecycle"}
    usage = query_of("/v1/admin/usage")
    assert set(usage) == {"by", "since", "until"}
    assert usage["since"].startswith("From the hour on")
    assert usage["until"].startswith("Up to this; the hour that it is in counts whole")
