"""The official `anthropic` client, unmodified, over every kind of node."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, TextBlock, ThinkingBlock

from .processes import Gateway

QUESTION: list[MessageParam] = [{"role": "user", "content": "what does the farmer do"}]
# The client's own parameters no longer know it; many programs send it.
CALM = {"temperature": 0}
COLOUR = {"type": "object", "properties": {"colour": {"enum": ["red"]}}, "required": ["colour"]}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as made:
        yield made


@pytest.fixture
def over_our_engine(over_engine: Gateway) -> Iterator[anthropic.Anthropic]:
    # Also with the token in the other header, and below another root.
    with anthropic.Anthropic(base_url=f"{over_engine.url}/api", auth_token=over_engine.key, max_retries=0) as made:
        yield made


def text_of(message: anthropic.types.Message) -> str:
    return "".join(block.text for block in message.content if isinstance(block, TextBlock))


def test_lists_the_models_page_by_page_and_tells_of_one(client: anthropic.Anthropic) -> None:
    everything = [model.id for model in client.models.list()]
    assert {"demo", "tiny-embed"} <= {name.removesuffix(":latest") for name in everything}
    first = client.models.list(limit=2)
    assert (first.has_more, first.first_id, first.last_id) == (True, everything[0], everything[1])
    assert [model.id for model in first] == everything  # it asks for the other pages
    before = client.models.list(limit=2, before_id=everything[3])
    assert ([model.id for model in before.data], before.has_more) == (everything[1:3], True)
    assert [model.id for model in before.get_next_page().data] == everything[:1]
    assert client.models.list(lifecycle=["retired"]).data == []
    one = client.models.retrieve(everything[0])
    assert one == next(iter(first.data))
    assert (one.type, one.display_name, one.lifecycle) == ("model", one.id, "active")
    assert one.created_at.tzinfo is not None


def test_what_is_wrong_with_the_question_for_models_is_told_in_anthropics_shape(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.models.retrieve("acme/nobody:q4")
    assert unknown.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model 'acme/nobody:q4' not found"},
    }
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after_id": "nobody"}, {"after_id": "demo", "before_id": "demo"}):
        with pytest.raises(anthropic.BadRequestError):
            client.models.list(**wrong)  # type: ignore[arg-type]
    with pytest.raises(anthropic.AuthenticationError, match="authentication_error"):
        client.with_options(api_key="ask_wrong").models.list()


def test_says_a_message_in_one_piece(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="demo", max_tokens=6, messages=QUESTION, system="be brief")
    assert text_of(message)
    assert (message.role, message.model, message.stop_reason) == ("assistant", "demo", "max_tokens")
    assert message.usage.output_tokens == 6
    assert message.usage.input_tokens > 1


def test_streams_a_message_in_anthropics_order(client: anthropic.Anthropic) -> None:
    events = list(client.messages.create(model="demo", max_tokens=6, messages=QUESTION, stream=True))
    kinds = [event.type for event in events]
    deltas = kinds.count("content_block_delta")
    assert deltas > 1
    assert kinds == [
        "message_start", "content_block_start", *["content_block_delta"] * deltas, "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip


def test_the_same_is_said_whole_and_streamed(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(model="demo", max_tokens=9, messages=QUESTION, extra_body=CALM)
    with client.messages.stream(model="demo", max_tokens=9, messages=QUESTION, extra_body=CALM) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(whole) == text_of(final)
    assert final.usage.input_tokens == whole.usage.input_tokens
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert final.stop_reason == whole.stop_reason


def test_goes_on_from_a_beginning_without_repeating_it(over_our_engine: anthropic.Anthropic) -> None:
    begun: list[MessageParam] = [*QUESTION, {"role": "assistant", "content": "The quick"}]
    whole = over_our_engine.messages.create(model="demo", max_tokens=5, messages=begun, extra_body=CALM)
    with over_our_engine.messages.stream(model="demo", max_tokens=5, messages=begun, extra_body=CALM) as stream:
        streamed = stream.get_final_text()
    assert text_of(whole)
    assert not text_of(whole).startswith("The quick")
    assert text_of(whole) == streamed


def test_keeps_to_a_json_schema(client: anthropic.Anthropic) -> None:
    wish: anthropic.types.OutputConfigParam = {"format": {"type": "json_schema", "schema": COLOUR}}
    message = client.messages.create(model="demo", max_tokens=100, messages=QUESTION, output_config=wish)
    assert json.loads(text_of(message)) == {"colour": "red"}


def test_stops_at_a_stop_sequence_and_says_at_which(over_our_engine: anthropic.Anthropic) -> None:
    wish: dict[str, Any] = {"model": "demo", "max_tokens": 60, "messages": QUESTION, "stop_sequences": ["q!", "e"]}
    message = over_our_engine.messages.create(**wish)
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "e")
    assert "e" not in text_of(message)
    with over_our_engine.messages.stream(**wish) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", "e")


def test_thoughts_are_shown_only_to_whom_wants_them(over_our_engine: anthropic.Anthropic) -> None:
    wish: dict[str, Any] = {"model": "talker", "max_tokens": 12, "messages": QUESTION}
    (block,) = over_our_engine.messages.create(**wish, thinking={"type": "enabled", "budget_tokens": 1024}).content
    assert isinstance(block, ThinkingBlock)
    assert block.thinking
    with over_our_engine.messages.stream(**wish, thinking={"type": "enabled", "budget_tokens": 1024}) as stream:
        (block,) = stream.get_final_message().content
    assert isinstance(block, ThinkingBlock)
    assert block.thinking
    (said,) = over_our_engine.messages.create(**wish).content
    assert isinstance(said, TextBlock)


def test_tools_their_calls_and_results_reach_the_model(over_our_engine: anthropic.Anthropic) -> None:
    conversation: list[MessageParam] = [
        *QUESTION,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Paris"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sun"}]},
    ]
    without = over_our_engine.messages.count_tokens(model="talker", messages=QUESTION)
    tools: list[anthropic.types.ToolParam] = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]
    counted = over_our_engine.messages.count_tokens(model="talker", messages=conversation, tools=tools)
    message = over_our_engine.messages.create(model="talker", max_tokens=4, messages=conversation, tools=tools)
    assert message.usage.input_tokens == counted.input_tokens > without.input_tokens


def test_counts_the_tokens_that_a_message_will_read(over_our_engine: anthropic.Anthropic) -> None:
    counted = over_our_engine.messages.count_tokens(model="demo", messages=QUESTION, system="be brief")
    message = over_our_engine.messages.create(model="demo", max_tokens=1, messages=QUESTION, system="be brief")
    assert counted.input_tokens == message.usage.input_tokens


@pytest.mark.parametrize("chosen", ["over_ollama", "over_openai"])
def test_an_engine_that_cannot_count_says_so(request: pytest.FixtureRequest, chosen: str) -> None:
    gateway: Gateway = request.getfixturevalue(chosen)
    status, _, body = gateway.ask("POST", "/v1/messages/count_tokens", {"model": "demo", "messages": QUESTION})
    assert status == 501
    assert json.loads(body)["error"] == {
        "type": "api_error",
        "message": "the engine that serves demo does not count tokens",
    }


def test_mistakes_have_anthropics_errors(client: anthropic.Anthropic, gateway: Gateway) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="nobody", max_tokens=1, messages=QUESTION)
    assert unknown.value.body == {
        "type": "error",
        "error": {"type": "not_found_error", "message": "model 'nobody' not found"},
    }
    with pytest.raises(anthropic.BadRequestError, match="temperature must be a number"):
        client.messages.create(model="demo", max_tokens=1, messages=QUESTION, extra_body={"temperature": "hot"})
    with (
        anthropic.Anthropic(base_url=gateway.url, api_key="ask_wrong", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError) as refused,
    ):
        stranger.messages.create(model="demo", max_tokens=1, messages=QUESTION)
    assert refused.value.body is not None
    assert "authentication_error" in str(refused.value.body)
