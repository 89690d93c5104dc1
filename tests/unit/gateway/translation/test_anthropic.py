import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation import anthropic_requests
from aistack.gateway.translation.anthropic_replies import MessageStream, message

QUESTION = {"role": "user", "content": "hi"}
BODY = {"model": "m", "max_tokens": 9, "messages": [QUESTION]}
WEATHER = {"name": "weather", "description": "d", "input_schema": {"type": "object", "properties": {"city": {}}}}
TIME = {"name": "time", "input_schema": {"type": "object"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}


def sent(kind: Any = "openai", **more: Any) -> dict[str, Any]:
    return anthropic_requests.read({**BODY, **more}).chat.body("M", kind)


def messages(*given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sent(messages=list(given))["messages"]
    return found


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


def delta(**fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": fields}])


def call(index: int, arguments: str, **more: str) -> bytes:
    return delta(tool_calls=[{"index": index, "id": f"c{index}", "function": {"arguments": arguments, **more}}])


def told(stream: MessageStream, pieces: list[bytes]) -> list[tuple[str, dict[str, Any]]]:
    written = b"".join(stream.feed(piece) for piece in pieces) + stream.finish(Refusal(502, "broke off"))
    found = []
    for block in written.decode().split("\n\n")[:-1]:
        kind, data = block.split("\n")
        document = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {document['type']}"
        found.append((document["type"], document))
    return found


def stream_of(**more: Any) -> MessageStream:
    return MessageStream(anthropic_requests.read({**BODY, "stream": True, **more}))


def test_a_plain_request_becomes_a_chat_completion_with_openais_fields_only() -> None:
    assert sent(system=[{"type": "text", "text": "be"}, {"type": "text", "text": "brief"}], stop_sequences=["x"]) == {
        "model": "M",
        "messages": [{"role": "system", "content": "be\nbrief"}, QUESTION],
        "max_tokens": 9,
        "stop": ["x"],
    }


def test_llama_cpp_is_told_more() -> None:
    body = sent("llamacpp", top_k=4, stop_sequences=["x"], thinking={"type": "enabled", "budget_tokens": 1024})
    assert (body["top_k"], body["verbose"], body["reasoning_budget_tokens"]) == (4, True, 1024)
    assert body["chat_template_kwargs"] == {"enable_thinking": True}
    assert sent("llamacpp")["chat_template_kwargs"] == {"enable_thinking": False}
    assert sent("ollama")["reasoning_effort"] == "none"


def test_a_stream_is_asked_for_with_its_counts() -> None:
    assert sent(stream=True)["stream_options"] == {"include_usage": True}


def test_the_results_of_tools_come_before_what_is_said_beside_and_images_are_the_users() -> None:
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "no"}, IMAGE],
        "is_error": True,
    }
    assistant = {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "so"},
            {"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Paris"}},
        ],
    }
    answered = {"role": "user", "content": [result, {"type": "text", "text": "and?"}]}
    _, said, tool, user = messages(QUESTION, assistant, answered)
    assert said == {
        "role": "assistant",
        "content": "so",
        "reasoning_content": "hm",
        "tool_calls": [
            {"id": "t", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}
        ],
    }
    assert tool == {"role": "tool", "tool_call_id": "t", "content": "Error: no"}
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][0]["image_url"]["url"] == "data:image/png;base64,AA=="


def test_documents_and_search_results_are_read_as_text() -> None:
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "D"}}
    found = {"type": "search_result", "title": "S", "source": "u", "content": [{"type": "text", "text": "F"}]}
    (user,) = messages({"role": "user", "content": [document, found]})
    assert user["content"] == "T\nD\nS (u)\nF"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"type": "auto", "disable_parallel_tool_use": True}, (["weather", "time"], "auto")),
        ({"type": "any"}, (["weather", "time"], "required")),
        ({"type": "none"}, (["weather", "time"], "none")),
        # One tool alone and `required`, which more engines understand than a choice by name.
        ({"type": "tool", "name": "time"}, (["time"], "required")),
    ],
)
def test_tools_and_the_choice_among_them(choice: dict[str, Any], expected: tuple[list[str], str]) -> None:
    body = sent(tools=[WEATHER, TIME], tool_choice=choice)
    assert ([tool["function"]["name"] for tool in body["tools"]], body["tool_choice"]) == expected
    assert body.get("parallel_tool_calls") is (False if choice["type"] == "auto" else None)


@pytest.mark.parametrize(
    "more",
    [
        {"model": 1}, {"model": ""}, {"max_tokens": None}, {"max_tokens": 0}, {"max_tokens": True}, {"max_tokens": "9"},
        {"max_tokens": 1 << 31},
        {"messages": None}, {"messages": []}, {"messages": "x"}, {"messages": ["x"]}, {"messages": [{"role": "user"}]},
        {"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"role": ["user"], "content": "x"}]},
        {"messages": [{"role": "user", "content": 5}]}, {"messages": [{"role": "user", "content": [5]}]},
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        {"messages": [{"role": "user", "content": [{"type": ["text"]}]}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]},
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}]},
        {"messages": [{"role": "user", "content": [{**IMAGE, "source": {**IMAGE["source"], "media_type": "a,b"}}]}]},  # type: ignore[dict-item]
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "base64"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
        {"messages": [{"role": "assistant", "content": [IMAGE]}]},
        {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "n", "input": "x"}]}]},
        {"system": 5}, {"system": [IMAGE]}, {"stop_sequences": "x"}, {"stop_sequences": [1]}, {"stream": "yes"},
        {"temperature": "hot"}, {"temperature": True}, {"top_k": 0.5}, {"top_p": []},
        {"thinking": "yes"}, {"thinking": {"type": "hard"}}, {"thinking": {"type": "enabled", "budget_tokens": "x"}},
        {"tools": {}}, {"tools": [{}]}, {"tools": [{"name": "n", "type": "bash_20250124"}]},
        {"tools": [{"name": "n", "input_schema": []}]}, {"tool_choice": "any"}, {"tool_choice": {"type": "any"}},
        {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "nothing"}},
        {"tools": [WEATHER], "tool_choice": {"type": "tool"}}, {"tools": [WEATHER], "tool_choice": {"type": "x"}},
        {"output_config": {"format": {"type": "json"}}},
    ],
)  # fmt: skip
def test_a_mistake_is_400(more: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        anthropic_requests.read({**BODY, **more})
    assert refused.value.status == 400


def test_a_whole_answer_with_thoughts_words_and_calls() -> None:
    spoken = {
        "reasoning_content": "hm",
        "content": "so",
        "tool_calls": [
            {"id": "c1", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}},
            {"function": {"name": "time", "arguments": '{"cut'}},
        ],
    }
    document = {
        "choices": [{"finish_reason": "tool_calls", "message": spoken}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    request = anthropic_requests.read({**BODY, "thinking": {"type": "adaptive"}})
    answer = message(document, request, echoes=False)
    thinking, text, weather, cut, time = answer["content"]
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": ""}
    assert text == {"type": "text", "text": "so"}
    assert weather == {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Paris"}}
    assert (cut["text"], time["input"], time["id"][:6]) == ('{"cut', {}, "toolu_")
    assert answer["stop_reason"] == "tool_use"
    assert (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"]) == (3, 4)


@pytest.mark.parametrize("document", [None, [], {}, {"choices": []}, {"choices": [{"message": {"content": 5}}]}])
def test_what_is_no_answer_is_the_engines_fault(document: Any) -> None:
    with pytest.raises(Refusal) as refused:
        message(document, anthropic_requests.read(BODY), echoes=False)
    assert refused.value.status == 502


WHOLE = b"".join(
    [
        delta(role="assistant", content=None), delta(reasoning_content="grü"), delta(reasoning_content="ße"),
        delta(content="水 "), delta(content="x"),
        call(0, "", name="weather"), call(0, '{"city":'), call(0, '"Paris"}'), call(1, "{}", name="time"),
        event(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]),
        event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2}), b"data: [DONE]\n\n",
    ]
)  # fmt: skip


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_the_stream_is_the_same_wherever_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    pieces = [WHOLE[start:end] for start, end in itertools.pairwise(edges)]
    events = told(stream_of(thinking={"type": "adaptive"}), pieces)
    assert [kind for kind, _ in events] == [
        "message_start", "ping",
        "content_block_start", *["content_block_delta"] * 3, "content_block_stop",
        "content_block_start", *["content_block_delta"] * 2, "content_block_stop",
        "content_block_start", *["content_block_delta"] * 2, "content_block_stop",
        "content_block_start", "content_block_delta", "content_block_stop",
        "message_delta", "message_stop",
    ]  # fmt: skip
    deltas = [document["delta"] for kind, document in events if kind == "content_block_delta"]
    assert [next(value for name, value in part.items() if name != "type") for part in deltas] == [
        "grü", "ße", "", "水 ", "x", '{"city":', '"Paris"}', "{}",
    ]  # fmt: skip
    starts = [document for kind, document in events if kind == "content_block_start"]
    assert [start["index"] for start in starts] == [0, 1, 2, 3]
    assert [start["content_block"].get("name") for start in starts] == [None, None, "weather", "time"]
    last = dict(events)["message_delta"]
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert (last["usage"]["input_tokens"], last["usage"]["output_tokens"]) == (3, 2)


def test_thoughts_that_nobody_asked_for_are_not_told() -> None:
    events = told(stream_of(), [WHOLE])
    assert "thinking" not in json.dumps(events)


@given(st.integers(0, WHOLE.index(b"finish_reason")))
def test_a_stream_that_broke_off_ends_with_an_error_and_nothing_else(length: int) -> None:
    kinds = [kind for kind, _ in told(stream_of(), [WHOLE[:length]])]
    assert kinds[-1] == "error"
    assert "message_stop" not in kinds


@pytest.mark.parametrize(
    "piece",
    [
        event(choices=[5]), event(choices=[{"delta": []}]), event(choices=[{"delta": {"tool_calls": 5}}]),
        event(choices=[{}]), b"data: 5\n", b"data: {\n", event(error={"message": "no"}),
    ],
)  # fmt: skip
def test_garbage_from_the_engine_is_told_as_an_error(piece: bytes) -> None:
    assert told(stream_of(), [delta(content="x"), piece])[-1][0] == "error"


def test_calls_that_are_mixed_up_are_told_as_an_error() -> None:
    mixed = [call(0, "{", name="a"), call(1, "{", name="b"), call(0, "}")]
    assert told(stream_of(), mixed)[-1][0] == "error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["type", "role", "content", "text", "name", "source", "input", "data", "tool_use_id", "id"]
    ), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(
    ["model", "max_tokens", "messages", "system", "tools", "tool_choice", "thinking", "stream", "stop_sequences",
     "output_config", "temperature", "top_k"]
), JSON))  # fmt: skip
def test_no_body_at_all_breaks_the_reading_of_it(body: dict[str, Any]) -> None:
    with contextlib.suppress(Refusal):
        anthropic_requests.read({**BODY, **body})
