"""The official clients of OpenAI, Anthropic and Ollama, unmodified, through nginx over TLS."""

import base64
import json
import math
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import TextBlock
from ollama import Client as OllamaClient
from ollama import ResponseError
from openai import AuthenticationError, NotFoundError, Omit, OpenAI, omit
from openai.types.chat import ChatCompletionUserMessageParam
from stacks import RealStack

FIXTURE = Path(__file__).parents[1] / "fixtures" / "minilm" / "reference.json"
QUESTION: ChatCompletionUserMessageParam = {"role": "user", "content": "Tell me about the sea."}


@pytest.fixture(scope="module")
def trust(stack: RealStack) -> ssl.SSLContext:
    """Trusts the stack's own authority and no other."""
    return ssl.create_default_context(cafile=stack.ca)


@pytest.fixture(scope="module")
def key(stack: RealStack) -> str:
    """A key for all tests of this module."""
    return stack.key("clients")


@pytest.fixture(scope="module")
def openai(stack: RealStack, trust: ssl.SSLContext, key: str) -> Iterator[OpenAI]:
    """OpenAI's client, as its documentation sets it up for another address."""
    with openai_client(stack, trust, key) as client:
        yield client


@pytest.fixture(scope="module")
def ollama(stack: RealStack, trust: ssl.SSLContext, key: str) -> Iterator[OllamaClient]:
    """Ollama's client, as its documentation sets it up for a server behind a proxy."""
    with ollama_client(stack, trust, f"Bearer {key}") as client:
        yield client


@pytest.fixture(scope="module", params=["", "/api"], ids=["root", "api"])
def anthropic(stack: RealStack, trust: ssl.SSLContext, key: str, request: pytest.FixtureRequest) -> Iterator[Anthropic]:
    """Anthropic's client, as its documentation sets it up for another address, at both of ours."""
    http = httpx2.Client(verify=trust, timeout=120)
    with Anthropic(base_url=f"{stack.url}{request.param}", api_key=key, max_retries=0, http_client=http) as client:
        yield client


def openai_client(stack: RealStack, trust: ssl.SSLContext, key: str) -> OpenAI:
    """A client with `key` that does not try a refused request again."""
    return OpenAI(
        base_url=f"{stack.url}/v1", api_key=key, max_retries=0, http_client=httpx2.Client(verify=trust, timeout=120)
    )


def ollama_client(stack: RealStack, trust: ssl.SSLContext, authorization: str) -> OllamaClient:
    """A client that sends `authorization` with every request."""
    return OllamaClient(host=f"{stack.url}/ollama", headers={"Authorization": authorization}, verify=trust, timeout=120)


def cosine(one: list[float], other: list[float]) -> float:
    """The cosine of the angle between two vectors."""
    product = sum(a * b for a, b in zip(one, other, strict=True))
    return product / (math.hypot(*one) * math.hypot(*other))


def references() -> tuple[list[str], list[list[float]]]:
    """Sentences, and what sentence-transformers itself says about them (384 wide, of length 1)."""
    rows = json.loads(FIXTURE.read_text(encoding="utf-8"))
    return [row["text"] for row in rows], [row["vector"] for row in rows]


def test_the_openai_client_lists_both_models(openai: OpenAI) -> None:
    assert {model.id for model in openai.models.list()} == {"demo", "all-minilm"}


def test_the_openai_client_gets_the_same_answer_whole_and_in_pieces(openai: OpenAI) -> None:
    whole = openai.chat.completions.create(model="demo", messages=[QUESTION], max_tokens=24, temperature=0)
    stream = openai.chat.completions.create(
        model="demo", messages=[QUESTION], max_tokens=24, temperature=0,
        stream=True, stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    pieces = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert len(pieces) > 5
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 0
    assert 5 < whole.usage.completion_tokens <= 24
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_the_openai_client_is_told_that_a_model_is_unknown(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError) as refused:
        openai.chat.completions.create(model="gpt-4o", messages=[QUESTION])
    assert refused.value.code == "model_not_found"
    assert "gpt-4o" in refused.value.message


def test_the_openai_client_gets_the_same_response_whole_and_in_pieces(openai: OpenAI) -> None:
    whole = openai.responses.create(model="demo", input="Tell me about the sea.", max_output_tokens=24, temperature=0)
    with openai.responses.stream(
        model="demo", input="Tell me about the sea.", max_output_tokens=24, temperature=0
    ) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert len(pieces) > 5
    assert "".join(pieces) == whole.output_text


def test_the_anthropic_client_gets_the_same_message_whole_and_in_pieces(anthropic: Anthropic) -> None:
    wish = {"temperature": 0}
    whole = anthropic.messages.create(model="demo", max_tokens=24, messages=[QUESTION], extra_body=wish)
    with anthropic.messages.stream(model="demo", max_tokens=24, messages=[QUESTION], extra_body=wish) as stream:
        pieces = list(stream.text_stream)
    assert len(pieces) > 5
    assert "".join(pieces) == "".join(block.text for block in whole.content if isinstance(block, TextBlock))
    counted = anthropic.messages.count_tokens(model="demo", messages=[QUESTION])
    assert counted.input_tokens == whole.usage.input_tokens


def test_the_description_of_the_api_is_there_for_programs_and_for_people(
    stack: RealStack, trust: ssl.SSLContext
) -> None:
    with httpx2.Client(base_url=stack.url, verify=trust) as client:
        assert "/v1/messages" in client.get("/openapi.json").raise_for_status().json()["paths"]
        page = client.get("/docs").raise_for_status()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "/v1/messages" in page.text


# Unless told otherwise the client asks for base64 and decodes it.
@pytest.mark.parametrize("encoding", [omit, "float"], ids=["base64", "float"])
def test_embeddings_by_the_openai_client_are_those_of_sentence_transformers(
    openai: OpenAI, encoding: Literal["float"] | Omit
) -> None:
    sentences, expected = references()
    answer = openai.embeddings.create(model="all-minilm", input=sentences, encoding_format=encoding)
    found = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
    assert {len(vector) for vector in found} == {384}
    assert min(cosine(one, other) for one, other in zip(found, expected, strict=True)) > 1 - 1e-3


def test_embeddings_by_the_ollama_client_are_those_of_sentence_transformers(ollama: OllamaClient) -> None:
    sentences, expected = references()
    found = ollama.embed(model="all-minilm", input=sentences).embeddings
    assert min(cosine(list(one), other) for one, other in zip(found, expected, strict=True)) > 1 - 1e-3


def test_the_ollama_client_lists_both_models_and_shows_one(ollama: OllamaClient) -> None:
    assert {model.model for model in ollama.list().models} == {"demo:latest", "all-minilm:latest"}
    shown = ollama.show("demo")
    assert shown.details is not None
    assert shown.details.family == "llama"
    assert shown.capabilities == ["completion"]


def test_the_ollama_client_gets_the_same_answer_whole_and_in_pieces(ollama: OllamaClient) -> None:
    options = {"num_predict": 24, "temperature": 0}
    whole = ollama.chat(model="demo", messages=[QUESTION], options=options)
    pieces = list(ollama.chat(model="demo", messages=[QUESTION], options=options, stream=True))
    assert len(pieces) > 5
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == whole.eval_count


def test_the_ollama_client_completes_a_bare_prompt(ollama: OllamaClient) -> None:
    answer = ollama.generate(model="demo", prompt="The harbor", options={"num_predict": 12})
    assert answer.response
    assert answer.done


@pytest.mark.parametrize("action", ["pull", "delete"])
def test_a_key_does_not_manage_models_through_the_ollama_client(ollama: OllamaClient, action: str) -> None:
    with pytest.raises(ResponseError) as refused:
        getattr(ollama, action)("demo")
    assert refused.value.status_code == 403
    assert "demo:latest" in {model.model for model in ollama.list().models}


def test_a_revoked_key_stops_working_at_once(stack: RealStack, trust: ssl.SSLContext) -> None:
    key = stack.key("short-lived")
    with openai_client(stack, trust, key) as openai, ollama_client(stack, trust, f"Bearer {key}") as ollama:
        assert openai.models.list().data
        assert ollama.list().models
        stack.run("keys", "revoke", "short-lived")
        with pytest.raises(AuthenticationError):
            openai.models.list()
        with pytest.raises(ResponseError) as refused:
            ollama.list()
    assert refused.value.status_code == 401


def test_a_wrong_key_is_refused_in_the_shape_each_client_reads(stack: RealStack, trust: ssl.SSLContext) -> None:
    wrong = "ask_" + "0" * 43
    with openai_client(stack, trust, wrong) as openai, pytest.raises(AuthenticationError) as by_openai:
        openai.models.list()
    assert by_openai.value.code == "invalid_api_key"
    with ollama_client(stack, trust, f"Bearer {wrong}") as ollama, pytest.raises(ResponseError) as by_ollama:
        ollama.list()
    assert by_ollama.value.status_code == 401
    assert "key" in by_ollama.value.error


@pytest.mark.parametrize("path", ["/v1/models", "/api/v1/models", "/ollama/api/tags"])
def test_a_key_is_taken_in_every_usual_header(stack: RealStack, trust: ssl.SSLContext, key: str, path: str) -> None:
    basic = base64.b64encode(f"anybody:{key}".encode()).decode()
    with httpx2.Client(base_url=stack.url, verify=trust) as client:
        for headers in ({"Authorization": f"Basic {basic}"}, {"x-api-key": key}, {"Authorization": f"Bearer {key}"}):
            assert "demo" in client.get(path, headers=headers).raise_for_status().text


@pytest.mark.parametrize("path", ["/v1/models", "/ollama/api/tags"])
def test_without_a_key_nothing_is_told(stack: RealStack, trust: ssl.SSLContext, path: str) -> None:
    with httpx2.Client(base_url=stack.url, verify=trust) as client:
        answer = client.get(path)
    assert answer.status_code == 401
    assert "demo" not in answer.text
