import itertools
import json
import time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation.replies import chat_shape, generate_shape
from aistack.gateway.translation.streams import LineStream

FAILURE = Refusal(502, "broke off")


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, ensure_ascii=False).encode() + b"\n\n"


WHOLE = b"".join(
    [
        event(choices=[{"index": 0, "delta": {"role": "assistant", "content": None}}]),
        b": a comment\n\n",
        event(choices=[{"index": 0, "delta": {"content": "grüße "}}]),
        event(choices=[{"index": 0, "delta": {"content": "水"}}]),
        event(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}]),
        event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2}, timings={"predicted_ms": 1.5}),
        b"data: [DONE]\n\n",
    ]
)


def told(pieces: list[bytes]) -> list[dict[str, Any]]:
    stream = LineStream("m", chat_shape, time.perf_counter())
    written = b"".join(stream.feed(piece) for piece in pieces) + stream.finish(FAILURE)
    assert stream.finished
    return [json.loads(line) for line in written.splitlines()]


@given(st.lists(st.integers(0, len(WHOLE)), max_size=12))
def test_it_does_not_matter_where_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(WHOLE)]
    lines = told([WHOLE[start:end] for start, end in itertools.pairwise(edges)])
    assert [line["message"]["content"] for line in lines] == ["grüße ", "水", ""]
    last = lines[-1]
    assert (last["done_reason"], last["prompt_eval_count"], last["eval_count"]) == ("length", 3, 2)
    assert last["eval_duration"] == 1_500_000


@given(st.integers(0, WHOLE.index(b"finish_reason") + 20))
def test_a_stream_that_never_said_why_it_ended_ends_with_an_error(length: int) -> None:
    lines = told([WHOLE[:length]])
    assert "error" in lines[-1]
    assert all("error" not in line for line in lines[:-1])


def test_after_an_error_nothing_more_is_told() -> None:
    failed = event(error={"message": "out of memory"})
    assert told([failed, WHOLE]) == [{"error": "out of memory"}]


def test_lines_may_end_in_carriage_returns_and_the_last_need_not_end() -> None:
    lines = told([WHOLE.replace(b"\n", b"\r\n").rstrip()])
    assert lines[-1]["done"]


def test_a_completion_is_told_as_generate_does() -> None:
    stream = LineStream("m", generate_shape, time.perf_counter())
    line = stream.feed(event(choices=[{"index": 0, "text": "hi"}]))
    assert json.loads(line)["response"] == "hi"
