"""Tools, thinking and images between Ollama's surface and an engine that speaks OpenAI's, over HTTP."""

import json
from collections.abc import Iterator

import ollama
import pytest

from .processes import Gateway
from .scripted import ScriptedUpstream, chunk, event, response, stream_head

QUESTION = [{"role": "user", "content": "what is the weather in Paris"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
DONE = b"data: [DONE]\n\n"


@pytest.fixture
def gateway(over_scripted_llamacpp: Gateway) -> Gateway:
    return over_scripted_llamacpp


@pytest.fixture
def client(gateway: Gateway) -> Iterator[ollama.Client]:
    with ollama.Client(f"{gateway.url}/ollama", headers={"Authorization": f"Bearer {gateway.key}"}) as made:
        yield made


def answered(**message: object) -> list[bytes]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return [response(200, json.dumps({"choices": [choice]}).encode())]


def streamed(*deltas: dict[str, object]) -> list[bytes]:
    events = [chunk(event(choices=[{"index": 0, "delta": delta}])) for delta in deltas]
    last = event(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    counts = event(choices=[], usage={"prompt_tokens": 9, "completion_tokens": 4}, timings={"predicted_ms": 2.0})
    return [stream_head(), *events, chunk(last), chunk(counts), chunk(DONE), chunk(b"")]


def test_a_tool_call_has_its_arguments_as_an_object(client: ollama.Client, upstream: ScriptedUpstream) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
    upstream.answers["/v1/chat/completions"] = list(answered(content=None, tool_calls=[call]))
    answer = client.chat("m", QUESTION, tools=[WEATHER])
    assert answer.message.tool_calls is not None
    assert answer.message.tool_calls[0].function.arguments == {"city": "Paris"}
    assert upstream.body_of("/v1/chat/completions")["tools"][0]["function"]["name"] == "weather"


def test_streamed_fragments_of_two_tool_calls_become_one_line(
    client: ollama.Client, upstream: ScriptedUpstream
) -> None:
    def fragment(index: int, arguments: str, **more: object) -> dict[str, object]:
        function = {"arguments": arguments, **more}
        return {"tool_calls": [{"index": index, "id": f"c{index}", "function": function}]}

    upstream.answers["/v1/chat/completions"] = list(
        streamed(
            fragment(0, "", name="weather"),
            fragment(0, '{"city":'),
            fragment(0, '"Paris"}'),
            fragment(1, '{"city":"Rome"}', name="weather"),
        )
    )
    told, last = list(client.chat("m", QUESTION, tools=[WEATHER], stream=True))
    calls = told.message.tool_calls or []
    assert [call.function.arguments for call in calls] == [{"city": "Paris"}, {"city": "Rome"}]
    assert (last.done, last.done_reason, last.prompt_eval_count, last.eval_count) == (True, "stop", 9, 4)
    assert last.eval_duration == 2_000_000


def test_the_answer_of_a_tool_finds_its_call(client: ollama.Client, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = list(answered(content="sunny"))
    called = {
        "role": "assistant",
        "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}],
    }
    client.chat("m", [*QUESTION, called, {"role": "tool", "tool_name": "weather", "content": "sun"}])
    _, call, answer = upstream.body_of("/v1/chat/completions")["messages"]
    assert call["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}
    assert answer["tool_call_id"] == call["tool_calls"][0]["id"]


def test_thoughts_come_apart_from_the_answer(client: ollama.Client, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = list(answered(content="4", reasoning_content="2 and 2"))
    answer = client.chat("m", QUESTION, think=True)
    assert (answer.message.thinking, answer.message.content) == ("2 and 2", "4")
    assert upstream.body_of("/v1/chat/completions")["chat_template_kwargs"] == {"enable_thinking": True}
    upstream.answers["/v1/chat/completions"] = list(streamed({"reasoning_content": "2 "}, {"content": "4"}))
    lines = list(client.generate("m", "2+2", think=False, stream=True))
    assert [(line.thinking, line.response) for line in lines] == [("2 ", ""), (None, "4"), (None, "")]


def test_an_image_is_sent_with_its_kind(client: ollama.Client, upstream: ScriptedUpstream) -> None:
    upstream.answers["/v1/chat/completions"] = list(answered(content="a cat"))
    png = b"\x89PNG\r\n\x1a\n0000"
    client.chat("m", [{"role": "user", "content": "what is it", "images": [png]}])
    text, image = upstream.body_of("/v1/chat/completions")["messages"][0]["content"]
    assert text == {"type": "text", "text": "what is it"}
    assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
