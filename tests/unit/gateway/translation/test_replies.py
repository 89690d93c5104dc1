import time
from typing import Any

import pytest

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation.describe import running, shown
from aistack.gateway.translation.embeddings import cut, inputs_of, shortened, token_limit, vectors_in
from aistack.gateway.translation.replies import chat_shape, closing, whole


def test_durations_come_from_the_engines_own_timings_and_the_rest_was_waiting() -> None:
    started = time.perf_counter() - 1.0
    counts = closing("stop", {"prompt_tokens": 3}, {"prompt_ms": 100.0, "predicted_ms": 400.0}, started)
    assert counts["prompt_eval_duration"] == 100_000_000
    assert counts["eval_duration"] == 400_000_000
    assert counts["load_duration"] == pytest.approx(500_000_000, rel=0.1)
    assert (counts["prompt_eval_count"], counts["eval_count"]) == (3, 0)


def test_without_timings_all_time_was_writing() -> None:
    counts = closing("tool_calls", None, None, time.perf_counter() - 1.0)
    assert counts["load_duration"] == 0
    assert counts["eval_duration"] == counts["total_duration"]
    assert counts["done_reason"] == "stop"


def test_log_probabilities_lose_what_ollama_does_not_tell() -> None:
    token = {"id": 1, "token": "a", "bytes": [97], "logprob": -0.5}
    choice: dict[str, Any] = {
        "message": {"content": "a"},
        "logprobs": {"content": [{**token, "top_logprobs": [token]}]},
    }
    line = whole("m", {"choices": [choice]}, chat_shape, time.perf_counter())
    plain = {"token": "a", "bytes": [97], "logprob": -0.5}
    assert line["logprobs"] == [{**plain, "top_logprobs": [plain]}]


@pytest.mark.parametrize("document", [{}, {"choices": []}, [], None])
def test_an_answer_without_a_choice_is_the_engines_fault(document: Any) -> None:
    with pytest.raises(Refusal) as refused:
        whole("m", document, chat_shape, time.perf_counter())
    assert refused.value.status == 502


def test_a_model_is_shown_with_what_the_engine_told_and_no_more() -> None:
    meta = {"architecture": "llama", "context_length": 8, "template": "{{ x }}", "parameters": {"num_ctx": 4}}
    told = shown({"id": "m", "meta": meta})
    assert told["model_info"] == {"general.architecture": "llama", "llama.context_length": 8}
    assert told["modelfile"].splitlines()[:2] == ["FROM m", 'TEMPLATE """{{ x }}"""']
    assert shown({"id": "m"})["model_info"] == {}


def test_a_model_that_stays_loaded_expires_in_a_far_year() -> None:
    entry, other = running({"models": [{"id": "m", "expires_at": None}, {"id": "n", "expires_at": 60.0}]}, {})
    assert entry["expires_at"].startswith("9999-")
    assert other["expires_at"] == "1970-01-01T00:01:00Z"


def test_a_text_is_cut_to_what_the_engine_takes_and_keeps_its_end_mark() -> None:
    too_large = Refusal(500, "input (600 tokens) is too large to process (current batch size: 512)")
    assert token_limit(too_large, 256) == 256
    assert token_limit(too_large, 0) == 512
    assert token_limit(Refusal(400, "request exceeds the available context size (64 tokens)"), 0) == 64
    assert token_limit(Refusal(500, "something else"), 256) is None
    assert cut([1, 2, 3, 4, 9], 3) == [1, 2, 9]
    assert cut([1, 9], 3) == [1, 9]


def test_vectors_come_in_the_order_of_the_texts() -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    assert vectors_in({"data": data}) == [[1.0], [2.0]]


def test_a_shorter_vector_has_length_one_again() -> None:
    assert shortened([3.0, 4.0, 5.0], 2) == pytest.approx([0.6, 0.8])
    assert shortened([3.0, 4.0], 9) == [3.0, 4.0]
    assert shortened([0.0, 0.0], 1) == [0.0]


def test_an_empty_text_is_no_input() -> None:
    assert inputs_of({"input": ""}) == inputs_of({}) == []
    assert inputs_of({"input": "a"}) == ["a"]
    with pytest.raises(Refusal):
        inputs_of({"input": [1]})
