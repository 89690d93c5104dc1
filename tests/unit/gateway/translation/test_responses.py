import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation import responses_requests
from aistack.gateway.translation.responses_replies import ResponseStream, response

from .test_anthropic import JSON, WHOLE, delta, event

BODY: dict[str, Any] = {"model": "m", "input": "hi"}
WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
TIME = {"type": "function", "name": "time"}


def sent(kind: Any = "openai", **more: Any) -> dict[str, Any]:
    return responses_requests.read({**BODY, **more}).chat.body("M", kind)


def told(pieces: list[bytes], **more: Any) -> list[dict[str, Any]]:
    stream = ResponseStream(responses_requests.read({**BODY, "stream": True, **more}))
    written = b"".join(stream.feed(piece) for piece in pieces) + stream.finish(Refusal(502, "broke off"))
    found = []
    for block in written.decode().split("\n\n")[:-1]:
        kind, data = block.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {document['type']}"
        found.append(document)
    assert [document["sequence_number"] for document in found] == list(range(len(found)))
    return found


def test_a_plain_request_becomes_a_chat_completion() -> None:
    assert sent(instructions="be brief", max_output_tokens=5, temperature=0.5) == {
        "model": "M",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "temperature": 0.5,
    }


def test_items_become_messages_and_calls_belong_to_the_words_before_them() -> None:
    items = [
        {"role": "developer", "content": "d"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "what"}, {"type": "input_image", "image_url": "data:image/png;base64,AA"},
        ]},
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "time", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sun"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "noon"}]},
    ]  # fmt: skip
    system, user, assistant, sun, noon = sent(input=items)["messages"]
    assert system == {"role": "system", "content": "d"}
    assert [part["type"] for part in user["content"]] == ["text", "image_url"]
    assert (assistant["content"], assistant["reasoning_content"]) == ("so", "hm")
    assert [call["id"] for call in assistant["tool_calls"]] == ["c1", "c2"]
    assert (sun["tool_call_id"], sun["content"], noon["content"]) == ("c1", "sun", "noon")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, (["weather", "time"], None)),
        ("required", (["weather", "time"], "required")),
        ({"type": "function", "name": "time"}, (["time"], "required")),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
            (["weather"], "auto"),
        ),
    ],
)
def test_tools_and_the_choice_among_them(choice: Any, expected: tuple[list[str], str]) -> None:
    body = sent(tools=[WEATHER, TIME], tool_choice=choice)
    assert ([tool["function"]["name"] for tool in body["tools"]], body.get("tool_choice")) == expected


def test_effort_is_told_to_each_kind_in_its_way() -> None:
    assert sent("openai", reasoning={"effort": "low"})["reasoning_effort"] == "low"
    assert sent("ollama", reasoning={"effort": "none"})["reasoning_effort"] == "none"
    assert sent("llamacpp", reasoning={"effort": "none"})["chat_template_kwargs"] == {"enable_thinking": False}
    assert "chat_template_kwargs" not in sent("llamacpp")


def test_a_schema_and_log_probabilities_are_asked_for() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    body = sent(text={"format": schema}, include=["message.output_text.logprobs"], top_logprobs=3)
    assert body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    assert (body["logprobs"], body["top_logprobs"]) == (True, 3)


@pytest.mark.parametrize(
    "more",
    [
        {"model": None}, {"input": None}, {"input": 5}, {"input": []}, {"input": [5]}, {"input": [{"role": "user"}]},
        {"input": [{"role": "nobody", "content": "x"}]}, {"input": [{"role": "user", "content": [5]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "http://x"}]}]},
        {"input": [{"type": ["message"]}]}, {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"type": "function_call", "name": "x"}]},
        {"input": [{"type": "function_call_output", "output": "x"}]},
        {"instructions": 5}, {"previous_response_id": "r"}, {"conversation": {}}, {"prompt": {}}, {"background": True},
        {"max_output_tokens": 0}, {"max_output_tokens": "x"}, {"temperature": "hot"}, {"stream": 1},
        {"tools": [{}]}, {"tools": [{"type": "web_search"}]}, {"tools": [{**TIME, "parameters": 5}]},
        {"tool_choice": "required"}, {"tool_choice": 5}, {"tool_choice": {"type": "x"}}, {"tool_choice": "all"},
        {"tools": [TIME], "tool_choice": {"type": "function", "name": "nothing"}},
        {"reasoning": 5}, {"reasoning": {"effort": "hard"}}, {"reasoning": {"effort": ["low"]}},
        {"text": {"format": {"type": "xml"}}}, {"text": {"format": {"type": "json_schema", "name": "x"}}},
        {"text": 5}, {"include": "x"}, {"top_logprobs": -1}, {"metadata": 5}, {"user": 5},
    ],
)  # fmt: skip
def test_a_mistake_is_400(more: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        responses_requests.read({**BODY, **more})
    assert refused.value.status == 400


def test_a_whole_answer_with_thoughts_words_and_calls() -> None:
    spoken = {
        "reasoning_content": "hm",
        "content": "so",
        "tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}],
    }
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 2}}
    document = {"choices": [{"finish_reason": "tool_calls", "message": spoken}], "usage": usage}
    answer = response(document, responses_requests.read({**BODY, "tools": [WEATHER]}))
    reasoning, said, call = answer["output"]
    assert reasoning["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert said["content"][0]["text"] == "so"
    assert (call["call_id"], call["name"], call["arguments"]) == ("c1", "weather", '{"city":"Paris"}')
    assert (answer["status"], answer["store"], answer["tools"]) == ("completed", False, [WEATHER])
    assert (answer["usage"]["total_tokens"], answer["usage"]["input_tokens_details"]["cached_tokens"]) == (7, 2)


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_the_stream_is_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    events = told([WHOLE[start:end] for start, end in itertools.pairwise(edges)])
    kinds = [document["type"].removeprefix("response.") for document in events]
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.delta",
        "function_call_arguments.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    reasoning, said, weather, time = events[-1]["response"]["output"]
    assert reasoning["content"][0]["text"] == "grüße"
    assert said["content"][0]["text"] == "水 x"
    assert (weather["call_id"], weather["arguments"]) == ("c0", '{"city":"Paris"}')
    assert time["name"] == "time"
    done = [document["item"] for document in events if document["type"] == "response.output_item.done"]
    assert done == [reasoning, said, weather, time]
    assert events[-1]["response"]["usage"]["total_tokens"] == 5


def test_a_stream_that_said_nothing_still_has_its_message() -> None:
    events = told([event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}]), b"data: [DONE]\n"])
    assert events[-1]["type"] == "response.incomplete"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == ""


@given(st.integers(0, WHOLE.index(b"finish_reason")))
def test_a_stream_that_broke_off_ends_as_failed(length: int) -> None:
    last = told([WHOLE[:length]])[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "server_error"


def test_an_engine_that_does_not_stream_is_told_all_the_same() -> None:
    stream = ResponseStream(responses_requests.read({**BODY, "stream": True}))
    message = {"content": "x", "tool_calls": [{"id": "c", "function": {"name": "time", "arguments": "{}"}}]}
    written = stream.whole({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    written += stream.finish(Refusal(502, "broke off"))
    assert b"response.function_call_arguments.done" in written
    assert b"response.completed" in written


def test_the_words_of_a_stream_that_failed_are_kept() -> None:
    events = told([delta(content="x"), event(error={"message": "out of memory"})])
    assert events[-1]["response"]["error"]["message"] == "out of memory"


@given(st.dictionaries(st.sampled_from(
    ["model", "input", "instructions", "tools", "tool_choice", "reasoning", "text", "include", "metadata", "stream"]
), JSON))  # fmt: skip
def test_no_body_at_all_breaks_the_reading_of_it(body: dict[str, Any]) -> None:
    with contextlib.suppress(Refusal):
        responses_requests.read({**BODY, **body})
