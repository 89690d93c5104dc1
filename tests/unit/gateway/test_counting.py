import json

import pytest

from aistack.gateway.counting import asking_for_usage, counts_in, counts_of, ollama_counts_in, without_usage


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (b'{"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}', (7, 3)),
        (b'{"usage": {"completion_tokens": 3, "prompt_tokens": 7}}', (7, 3)),
        (b'{"usage":{"prompt_tokens":7,"prompt_tokens_details":{"cached_tokens":2},"completion_tokens":3}}', (7, 3)),
        (b'{"usage":{"input_tokens":7,"output_tokens":3}}', (7, 3)),
        (b'{"data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}', (7, 0)),
        (b'data: {"usage":{"prompt_tokens":7,"completion_tokens":3}}\n\ndata: {"usage":null}', (7, 3)),
        (b'{"usage":null}', None),
        (b'{"prompt_tokens":7}', None),
        (b"", None),
    ],
)
def test_counts_are_found_in_every_dialect_of_openai(text: bytes, counts: tuple[int, int] | None) -> None:
    assert counts_in(text) == counts


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (b'{"done":true,"prompt_eval_count":7,"eval_count":3}', (7, 3)),
        (b'{"embeddings":[[1]],"total_duration":1,"prompt_eval_count":7}', (7, 0)),
        (b'{"done":false}', None),
    ],
)
def test_counts_are_found_in_ollamas_answers(text: bytes, counts: tuple[int, int] | None) -> None:
    assert ollama_counts_in(text) == counts


def test_arguments_of_a_tool_cannot_look_like_ollamas_counts() -> None:
    written = {"usage": {"prompt_tokens": 1}, "prompt_eval_count": 1, "eval_count": 1, "done": True}
    message = {"tool_calls": [{"function": {"name": "f", "arguments": written}}]}
    whole = json.dumps({"message": message, "done": True, "prompt_eval_count": 7, "eval_count": 3}).encode()
    lines = json.dumps({"message": message, "done": False}).encode() + b'\n{"done":true,"eval_count":3}\n'
    assert (ollama_counts_in(whole), ollama_counts_in(lines)) == ((7, 3), (0, 3))


def test_what_a_model_writes_cannot_look_like_a_count() -> None:
    said = '"usage":{"prompt_tokens":1,"completion_tokens":1}'
    assert counts_in(json.dumps({"choices": [{"message": {"content": said}}]}).encode()) is None
    answer = {"choices": [{"message": {"content": said}}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}
    assert counts_in(json.dumps(answer).encode()) == (7, 3)


def test_parsed_counts_may_be_missing() -> None:
    assert counts_of({"prompt_tokens": 7, "completion_tokens": None}) == (7, 0)
    assert counts_of(None) is None


@pytest.mark.parametrize("told", [-1, 10**30, "7", 7.5, [7]])
def test_a_count_that_no_table_could_hold_is_none(told: object) -> None:
    assert counts_of({"prompt_tokens": told, "completion_tokens": 3}) == (0, 3)


def test_counts_are_wished_for_in_streams_alone_and_only_where_the_client_did_not() -> None:
    assert asking_for_usage({"stream": False}) == ({"stream": False}, False)
    wished = {"stream": True, "stream_options": {"include_usage": True}}
    assert asking_for_usage(wished) == (wished, False)
    assert asking_for_usage({"stream": True}) == (wished, True)
    assert asking_for_usage({"stream": True, "stream_options": "x"}) == (wished, True)
    assert asking_for_usage({"stream": True, "stream_options": {"a": 1}})[0]["stream_options"]["a"] == 1


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_only_the_event_of_counts_is_left_out(end: bytes) -> None:
    said = b'data: {"choices":[{"delta":{"content":"prompt_tokens"}}]}' + end * 2
    counts = b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3}}' + end * 2
    both = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":7}}' + end * 2
    done = b"data: [DONE]" + end * 2
    assert without_usage(said + counts + both + done) == said + both + done
