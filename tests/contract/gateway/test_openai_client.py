"""The official `openai` client, unmodified, over every kind of node."""

from collections.abc import Iterator

import openai
import pytest

from .processes import Gateway
from .tiny_model import EMBEDDING_WIDTH

QUESTION = [{"role": "user", "content": "what does the farmer do"}]


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def test_lists_the_models_the_default_ones_first(client: openai.OpenAI) -> None:
    names = [model.id.removesuffix(":latest") for model in client.models.list()]
    assert names == ["demo", "tiny-embed", "acme/words:q4", "talker", "tiny-rerank"]


def test_retrieves_a_model_whose_name_has_slashes(client: openai.OpenAI) -> None:
    assert client.models.retrieve("acme/words:q4").id == "acme/words:q4"


def test_chats_in_one_piece(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=6)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 6


def test_streams_a_chat_token_by_token_with_usage_at_the_end(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="demo", messages=QUESTION, max_tokens=6, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    assert len(pieces) > 1
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 6


def test_takes_a_name_with_or_without_latest(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="demo:latest", messages=QUESTION, max_tokens=2)
    assert answer.choices[0].message.content


def test_completes_a_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt="the farmer", max_tokens=4)
    assert answer.choices[0].text
    pieces = client.completions.create(model="demo", prompt="the farmer", max_tokens=4, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces)


def test_embeds_the_same_as_base64_and_as_floats(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="tiny-embed", input=["hello", "there"])
    plain = client.embeddings.create(model="tiny-embed", input=["hello", "there"], encoding_format="float")
    assert [len(item.embedding) for item in packed.data] == [EMBEDDING_WIDTH] * 2
    assert packed.data[1].embedding == pytest.approx(plain.data[1].embedding, abs=1e-6)


def test_says_400_for_a_text_that_is_too_long_to_embed(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="too large"):
        client.embeddings.create(model="tiny-embed", input="hello " * 100)


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"colour": {"enum": ["red"]}}, "required": ["colour"]}
    answer = client.chat.completions.create(
        model="demo",
        messages=QUESTION,
        response_format={"type": "json_schema", "json_schema": {"name": "paint", "schema": schema}},
    )
    content = answer.choices[0].message.content or ""
    assert "".join(content.split()) == '{"colour":"red"}'


def test_log_probabilities_come_through(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="demo", messages=QUESTION, max_tokens=2, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.content
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


def test_an_unknown_model_is_404_with_its_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="nobody", messages=QUESTION)
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")


def test_a_mistake_in_the_request_is_400(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="demo", messages=QUESTION, temperature="hot")  # type: ignore[call-overload]


def test_a_wrong_key_is_401(gateway: Gateway) -> None:
    with (
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="ask_wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        client.models.list()


def test_the_same_surface_lies_below_api_v1(gateway: Gateway) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/api/v1", api_key=gateway.key, max_retries=0) as client:
        assert client.chat.completions.create(model="demo", messages=QUESTION, max_tokens=2).choices
