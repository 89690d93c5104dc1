from typing import Any

import pytest

from aistack.gateway.refusals import Refusal
from aistack.gateway.translation import options
from aistack.gateway.translation.requests import chat, generate

MESSAGES = [{"role": "user", "content": "hi"}]


def test_every_sampling_option_finds_its_name_on_llama_cpp() -> None:
    same = {
        "temperature": 0.1, "top_p": 0.2, "top_k": 3, "min_p": 0.4, "seed": 5, "stop": ["x"],
        "repeat_penalty": 1.1, "repeat_last_n": 7, "presence_penalty": 0.8, "frequency_penalty": 0.9,
    }  # fmt: skip
    wanted = {**same, "num_predict": 6, "num_keep": 2, "num_ctx": 4096, "num_gpu": 1, "typical_p": None}
    assert options.sampling(wanted, llama=True) == {**same, "max_tokens": 6, "n_keep": 2}


def test_a_strict_server_is_sent_only_openais_own_fields() -> None:
    body = {
        "model": "m", "messages": MESSAGES, "keep_alive": "5m", "think": True,
        "options": {"top_k": 3, "min_p": 0.1, "seed": 1},
    }  # fmt: skip
    sent = chat(body, "m", llama=False).body
    assert set(sent) == {"model", "messages", "seed", "stream", "stream_options"}


@pytest.mark.parametrize("limit", [-1, -2])
def test_a_negative_limit_means_none(limit: int) -> None:
    assert options.sampling({"num_predict": limit}, llama=True) == {}


def test_a_chat_is_streamed_with_usage_unless_told_otherwise() -> None:
    body: dict[str, Any] = {"model": "m:latest", "messages": MESSAGES, "keep_alive": 0}
    sent = chat(body, "m", llama=True)
    assert sent.path == "/v1/chat/completions"
    assert sent.body == {
        "model": "m",
        "messages": MESSAGES,
        "keep_alive": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "stream" not in chat({**body, "stream": False}, "m", llama=True).body


def test_thinking_is_switched_in_the_models_template() -> None:
    body = {"model": "m", "messages": MESSAGES, "stream": False}
    off = chat({**body, "think": False}, "m", llama=True).body
    assert off["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat({**body, "think": "low"}, "m", llama=False).body["reasoning_effort"] == "low"
    assert "chat_template_kwargs" not in chat(body, "m", llama=True).body


def test_a_prompt_is_a_chat_of_one_message_after_the_system() -> None:
    sent = generate({"model": "m", "prompt": "hi", "system": "s", "images": ["/9j/4A"]}, "m", llama=True)
    assert sent.path == "/v1/chat/completions"
    system, user = sent.body["messages"]
    assert system == {"role": "system", "content": "s"}
    assert user["content"][1]["image_url"]["url"] == "data:image/jpeg;base64,/9j/4A"


def test_a_raw_prompt_and_a_filled_template_are_completed() -> None:
    raw = generate({"model": "m", "prompt": "<s>hi", "raw": True, "system": "s"}, "m", llama=True)
    assert (raw.path, raw.body["prompt"]) == ("/v1/completions", "<s>hi")
    filled = generate({"model": "m", "prompt": "hi", "template": "[{{ .Prompt }}]"}, "m", llama=True)
    assert (filled.path, filled.body["prompt"]) == ("/v1/completions", "[hi]")


def test_an_insertion_is_openais_suffix_and_llama_cpp_has_none() -> None:
    body = {"model": "m", "prompt": "def f(", "suffix": "return 1"}
    assert generate(body, "m", llama=False).body["suffix"] == "return 1"
    with pytest.raises(Refusal, match="does not support insert"):
        generate(body, "m", llama=True)


def test_a_format_is_a_schema_json_or_nothing() -> None:
    schema = {"type": "object"}
    assert options.response_format(schema)["response_format"]["json_schema"]["schema"] == schema
    assert options.response_format("json") == {"response_format": {"type": "json_object"}}
    assert options.response_format("") == {} == options.response_format(None)
    assert "root ::=" in options.response_format("json", bare=True)["grammar"]
    for wrong in ("xml", 7, []):
        with pytest.raises(Refusal):
            options.response_format(wrong)


@pytest.mark.parametrize(
    ("keep_alive", "unload"),
    [(0, True), (0.0, True), ("0", True), ("0s", True), ("0.0m", True), (1, False), ("5m", False),
     (-1, False), (None, False), (False, False), ("10s", False), ("", False)],
)  # fmt: skip
def test_keep_alive_of_nothing_means_unload(keep_alive: Any, unload: bool) -> None:
    assert options.means_unload(keep_alive) is unload
