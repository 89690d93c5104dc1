"""The benchmarks' stand-in for an engine answers in the shapes of the real one, so that what is measured is real."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from benchmarks.gateway import peers
from benchmarks.gateway.peers import Peer
from benchmarks.gateway.upstream import MODEL

from .conftest import Engine

Json = dict[str, Any]
STREAMED = {"messages": [{"role": "user", "content": "4 chunks at 0 a second"}], "max_tokens": 4, "stream": True}


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Peer]:
    with peers.upstream() as running:
        yield running


def asked(port: int, model: str, **more: object) -> httpx.Response:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    response = httpx.post(url, json={**STREAMED, "model": model, **more}, timeout=60)
    assert response.status_code == 200
    return response


def events(response: httpx.Response) -> list[Json]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def shape(value: object) -> object:
    """What a JSON value is made of, without the values and without the order of keys."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in sorted(value.items()) if name != "timings"}
    if isinstance(value, list):
        return [shape(item) for item in value[:1]]
    return "number" if isinstance(value, int | float) else type(value).__name__


def kinds(found: list[Json]) -> list[object]:
    """The shapes of a stream's events in their order, each once."""
    shapes: list[object] = []
    for event in found:
        if shape(event) not in shapes:
            shapes.append(shape(event))
    return shapes


def test_a_whole_answer_has_the_shape_of_llama_cpps(engine: Engine, stand_in: Peer) -> None:
    real = asked(engine.port, "demo", stream=False)
    ours = asked(stand_in.port, MODEL, stream=False)
    assert shape(ours.json()) == shape(real.json())
    assert ours.headers["content-type"] == real.headers["content-type"]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
def test_a_stream_has_the_events_of_llama_cpps(engine: Engine, stand_in: Peer, options: Json) -> None:
    real = asked(engine.port, "demo", **options)
    ours = asked(stand_in.port, MODEL, **options)
    assert kinds(events(ours)) == kinds(events(real))
    assert ours.headers["content-type"] == real.headers["content-type"]


def test_a_stream_is_numbered_and_counted(stand_in: Peer) -> None:
    found = events(asked(stand_in.port, MODEL, stream_options={"include_usage": True}))
    texts = [event["choices"][0]["delta"].get("content") for event in found if event["choices"]]
    assert [text for text in texts if text] == [" t000000", " t000001", " t000002", " t000003"]
    assert found[-1]["usage"]["completion_tokens"] == 4
