"""Anthropic's and OpenAI's newer surface over a scripted node: tools, and what the official clients see of faults."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from anthropic.types import ToolUseBlock
from openai.types.responses import ResponseFunctionToolCall

from .processes import Gateway, wait_for
from .scripted import ScriptedUpstream, chunk, event, response, stream_head

PATH = "/v1/chat/completions"
MESSAGE: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
RESPONSE: Any = {"model": "m", "input": "hello"}
WEATHER: Any = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
FUNCTION: Any = {"type": "function", "name": "weather", "parameters": WEATHER["input_schema"], "strict": False}
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def messages(over_scripted_openai: Gateway) -> Iterator[anthropic.Anthropic]:
    gateway = over_scripted_openai
    with anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0) as made:
        yield made


@pytest.fixture
def responses(over_scripted_openai: Gateway) -> Iterator[openai.OpenAI]:
    gateway = over_scripted_openai
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as made:
        yield made


def delta(**fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": fields, "finish_reason": None}])


def ending(reason: str, **more: Any) -> bytes:
    last = event(choices=[{"index": 0, "delta": {}, "finish_reason": reason, **more}])
    return last + event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2}) + DONE


def streamed(*pieces: bytes) -> list[bytes | threading.Event]:
    return [stream_head(), *(chunk(piece) for piece in pieces), chunk(b"")]


def fragment(arguments: str, **more: str) -> bytes:
    return delta(tool_calls=[{"index": 0, "id": "c1", "function": {"arguments": arguments, **more}}])


CALLED = [fragment("", name="weather"), fragment('{"city":'), fragment('"Paris"}'), ending("tool_calls")]


def test_a_streamed_tool_call_is_gathered_by_anthropics_client(
    messages: anthropic.Anthropic, upstream: ScriptedUpstream
) -> None:
    upstream.answers[PATH] = streamed(*CALLED)
    with messages.messages.stream(**MESSAGE, tools=[WEATHER]) as stream:
        final = stream.get_final_message()
    (block,) = final.content
    assert isinstance(block, ToolUseBlock)
    assert (block.id, block.name, block.input) == ("c1", "weather", {"city": "Paris"})
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("tool_use", 3, 2)
    assert upstream.body_of(PATH)["tools"][0]["function"]["parameters"] == WEATHER["input_schema"]


def test_a_streamed_tool_call_is_gathered_by_openais_client(
    responses: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.answers[PATH] = streamed(*CALLED)
    with responses.responses.stream(**RESPONSE, tools=[FUNCTION]) as stream:
        final = stream.get_final_response()
    (item,) = final.output
    assert isinstance(item, ResponseFunctionToolCall)
    assert (item.call_id, item.name, json.loads(item.arguments)) == ("c1", "weather", {"city": "Paris"})


def test_which_stop_sequence_a_vllm_met_is_told(messages: anthropic.Anthropic, upstream: ScriptedUpstream) -> None:
    upstream.answers[PATH] = streamed(delta(content="x"), ending("stop", stop_reason="END"))
    with messages.messages.stream(**MESSAGE, stop_sequences=["END"]) as stream:
        final = stream.get_final_message()
    assert (final.stop_reason, final.stop_sequence) == ("stop_sequence", "END")


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk(delta(content="x"))],
        [chunk(delta(content="x")[:30])],
        [chunk(delta(content="x")), chunk(b"data: {broken\n\n"), chunk(b"")],
        [chunk(delta(content="x")), chunk(event(error={"message": "out of memory"})), chunk(b"")],
    ],
    ids=["cut", "cut in mid-event", "garbage", "error"],
)
def test_a_stream_that_breaks_ends_with_an_error_that_the_clients_raise(
    messages: anthropic.Anthropic, responses: openai.OpenAI, upstream: ScriptedUpstream, pieces: list[bytes]
) -> None:
    upstream.answers[PATH] = [stream_head(), *pieces]
    with pytest.raises(anthropic.APIStatusError) as refused:
        list(messages.messages.create(**MESSAGE, stream=True))
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["type"] == "error"
    last = list(responses.responses.create(**RESPONSE, stream=True))[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None


def test_an_engine_that_does_not_stream_is_told_as_a_stream(
    messages: anthropic.Anthropic, responses: openai.OpenAI, upstream: ScriptedUpstream
) -> None:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "all at once"}}
    upstream.answers[PATH] = [response(200, json.dumps({"choices": [choice]}).encode())]
    with messages.messages.stream(**MESSAGE) as stream:
        assert stream.get_final_text() == "all at once"
    with responses.responses.stream(**RESPONSE) as events:
        assert events.get_final_response().output_text == "all at once"


@pytest.mark.parametrize(
    ("status", "expected", "kind"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (500, anthropic.InternalServerError, "api_error"),
        (503, anthropic.InternalServerError, "overloaded_error"),
        (401, anthropic.InternalServerError, "api_error"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_engines_refusal_has_anthropics_shape(
    messages: anthropic.Anthropic,
    upstream: ScriptedUpstream,
    status: int,
    expected: type[anthropic.APIStatusError],
    kind: str,
    stream: bool,
) -> None:
    upstream.answers[PATH] = [response(status, b'{"error":{"message":"no"}}', more="retry-after: 7\r\n")]
    with pytest.raises(expected) as refused:
        messages.messages.create(**MESSAGE, stream=stream)
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["error"]["type"] == kind
    assert refused.value.response.headers.get("retry-after") == (None if status == 401 else "7")


@pytest.mark.parametrize(
    "answer", [b"", b"{", b"[]", b"null", b'{"choices":[]}', b'{"choices":[{"message":{"content":7}}]}']
)
def test_garbage_as_an_answer_is_502(over_scripted_openai: Gateway, upstream: ScriptedUpstream, answer: bytes) -> None:
    upstream.answers[PATH] = [response(200, answer)]
    for path, body in (("/v1/messages", MESSAGE), ("/v1/responses", RESPONSE)):
        assert over_scripted_openai.ask("POST", path, body)[0] == 502


def test_a_client_that_leaves_stops_the_engine(over_scripted_openai: Gateway, upstream: ScriptedUpstream) -> None:
    upstream.answers[PATH] = [stream_head(), chunk(delta(content="x")), threading.Event()]
    with anthropic.Anthropic(base_url=over_scripted_openai.url, api_key=over_scripted_openai.key) as client:
        stream = client.messages.create(**MESSAGE, stream=True)
        next(iter(stream))
        stream.close()
    wait_for(upstream.gone.is_set, "the engine to be told")
