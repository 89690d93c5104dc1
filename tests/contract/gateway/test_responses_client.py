"""OpenAI's `/v1/responses` and `/v1/rerank` by the official `openai` client, over every kind of node."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import ResponseReasoningItem

from .processes import Gateway
from .scripted import ScriptedUpstream, response

QUESTION = "what does the farmer do"
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red"]}}, "required": ["colour"]}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


@pytest.fixture
def over_our_engine(over_engine: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{over_engine.url}/api/v1", api_key=over_engine.key, max_retries=0) as made:
        yield made


def test_responds_in_one_piece(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="demo", input=QUESTION, instructions="be brief", max_output_tokens=6)
    assert answer.output_text
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.usage is not None
    assert answer.usage.output_tokens == 6
    assert answer.usage.total_tokens == 6 + answer.usage.input_tokens


def test_streams_the_same_with_every_event_in_its_place(client: openai.OpenAI) -> None:
    wish: dict[str, Any] = {"model": "demo", "input": QUESTION, "max_output_tokens": 40, "temperature": 0}
    whole = client.responses.create(**wish)
    events = list(client.responses.create(**wish, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 1
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * deltas, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", f"response.{whole.status}",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == whole.output_text  # type: ignore[union-attr]


def test_the_clients_own_gatherer_reads_the_stream(client: openai.OpenAI) -> None:
    schema = {"format": {"type": "json_schema", "name": "paint", "schema": COLOUR, "strict": True}}
    with client.responses.stream(model="demo", input=QUESTION, text=schema) as stream:  # type: ignore[arg-type]
        final = stream.get_final_response()
    assert final.status == "completed"
    assert json.loads(final.output_text) == {"colour": "red"}
    assert json.loads(client.responses.create(model="demo", input=QUESTION, text=schema).output_text) == {  # type: ignore[arg-type]
        "colour": "red"
    }


def test_a_conversation_is_sent_as_items(client: openai.OpenAI) -> None:
    first = client.responses.create(model="demo", input=QUESTION, max_output_tokens=4)
    items: list[Any] = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"role": "user", "content": "go on"},
    ]
    second = client.responses.create(model="demo", input=items, max_output_tokens=4)
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens


def test_thoughts_are_an_item_of_their_own(over_our_engine: openai.OpenAI) -> None:
    wish: dict[str, Any] = {"model": "talker", "input": QUESTION, "max_output_tokens": 12}
    item = over_our_engine.responses.create(**wish, reasoning={"effort": "low"}).output[0]
    assert isinstance(item, ResponseReasoningItem)
    assert item.content
    assert item.content[0].text
    events = list(over_our_engine.responses.create(**wish, reasoning={"effort": "low"}, stream=True))
    assert {"response.reasoning_text.delta", "response.reasoning_text.done"} <= {event.type for event in events}
    assert over_our_engine.responses.create(**wish, reasoning={"effort": "none"}).output_text


def test_log_probabilities_come_through(over_our_engine: openai.OpenAI) -> None:
    answer = over_our_engine.responses.create(
        model="demo", input=QUESTION, max_output_tokens=2, top_logprobs=2, include=["message.output_text.logprobs"]
    )
    (part,) = answer.output[0].content  # type: ignore[union-attr]
    assert len(part.logprobs) == 2  # type: ignore[union-attr]
    assert len(part.logprobs[0].top_logprobs) == 2  # type: ignore[union-attr,index]


@pytest.mark.parametrize(
    "wish",
    [
        {"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"background": True},
        {"tools": [{"type": "web_search"}]}, {"input": [{"type": "item_reference", "id": "x"}]}, {"temperature": "hot"},
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(client: openai.OpenAI, wish: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError):
        client.responses.create(**{"model": "demo", "input": QUESTION, **wish})


def test_an_unknown_model_is_404_with_its_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="nobody", input=QUESTION)
    assert refused.value.code == "model_not_found"


def reranked(client: openai.OpenAI, **wish: Any) -> Any:
    body = {"model": "tiny-rerank", "query": "a b", "documents": ["c d e", "a b", "zzz"], **wish}
    return client.post("/rerank", body=body, cast_to=object)


@pytest.mark.parametrize("chosen", ["over_engine", "over_openai"])
def test_reranks_best_first(request: pytest.FixtureRequest, chosen: str) -> None:
    gateway: Gateway = request.getfixturevalue(chosen)
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        everything = reranked(client)
        scores = [result["relevance_score"] for result in everything["results"]]
        assert scores == sorted(scores, reverse=True)
        assert {result["index"] for result in everything["results"]} == {0, 1, 2}
        assert everything["usage"]["total_tokens"] > 0
        (best,) = reranked(client, top_n=1, return_documents=True)["results"]
        assert best["index"] == everything["results"][0]["index"]
        assert best["document"] == {"text": ["c d e", "a b", "zzz"][best["index"]]}


def test_a_node_that_does_not_rerank_says_so(
    over_ollama: Gateway, over_scripted_openai: Gateway, upstream: ScriptedUpstream
) -> None:
    upstream.answers["/v1/rerank"] = [response(404, b'{"detail":"Not Found"}')]
    for gateway, model in ((over_ollama, "tiny-rerank"), (over_scripted_openai, "m")):
        wish = {"model": model, "query": "a", "documents": ["b"]}
        status, _, body = gateway.ask("POST", "/v1/rerank", wish)
        assert status == 501
        assert json.loads(body)["error"]["message"] == f"the engine that serves {model} does not rerank"


def test_a_model_that_does_not_rerank_says_so(over_our_engine: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="is a model for chat"):
        reranked(over_our_engine, model="demo")
